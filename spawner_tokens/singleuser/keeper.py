"""The keeper: it keeps a server's files and variables as new as the Hub's tokens."""

from __future__ import annotations

import atexit
import json
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from . import hub
from .live import read_files, set_variables
from .private import PrivateDirectory
from .sources import find_file, read_facts, read_variables

# Seconds: between two looks at files, and before a Hub that failed is asked again.
_LOOK, _FIRST_RETRY, _LAST_RETRY = 1.0, 1.0, 60.0
# Seconds that two requests for one token are apart, whatever the Hub answers.
_APART = 1.0


def keep(log: logging.Logger) -> Callable[[], None] | None:
    """Begin to keep this server's tokens; ``None`` if it has none. Returns what ends it.

    It ends with the process, too, whose private files are removed then.
    """
    names = [*read_variables()]
    if not names or not (hub.is_there() or os.environ.get("SPAWNER_TOKENS_DIR")):
        return None
    stopped = threading.Event()
    if not hub.is_there():
        _begin(_watch, stopped)
        return stopped.set
    directory = PrivateDirectory()
    delivered = os.environ.get("SPAWNER_TOKENS_DIR")
    if delivered:
        with suppress(OSError):  # no place for it, so far
            _show_delivered(Path(delivered), directory, names)
    pulls = [Pull(name, directory, delivered, stopped, log) for name in names]
    for pull in pulls:
        _begin(pull.run)

    process = os.getpid()

    def stop() -> None:
        if os.getpid() == process:  # and not in one that it has forked
            stopped.set()
            directory.remove()

    atexit.register(stop)
    return stop


def _show_delivered(delivered: Path, directory: PrivateDirectory, names: Iterable[str]) -> None:
    """Until the Hub answers, what it delivered is there: a program keeps the paths of its start."""
    for path in delivered.glob("[!.]*"):
        directory.link(path)
    for name in names:
        if find_file(name):
            _lead_to(directory, name)


def _lead_to(directory: PrivateDirectory, name: str) -> None:
    """What starts later finds this token there."""
    os.environ["SPAWNER_TOKENS_DIR"] = str(directory.path)
    if variable := read_variables()[name].get("file_env"):
        os.environ[variable] = str(directory.path / name)


def _begin(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, name="spawner_tokens", daemon=True).start()


def _watch(stopped: threading.Event) -> None:
    while not stopped.is_set():
        read_files()
        stopped.wait(_LOOK)


class Pull:
    """One token of this server: it waits at the Hub for each new one.

    While the Hub does not answer, what was pulled stays, or a newer one that it has ``delivered``,
    by files in that directory, takes its place. It goes when the Hub says that the server must not
    have it.
    """

    def __init__(
        self,
        name: str,
        directory: PrivateDirectory,
        delivered: str | None,
        stopped: threading.Event,
        log: logging.Logger,
    ) -> None:
        self._name, self._directory, self._stopped, self._log = name, directory, stopped, log
        self._delivered = delivered and Path(delivered, name)
        self._known: dict[str, Any] = {}
        self._failures = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            begun = time.monotonic()
            try:
                pause = self._ask()
            except Exception as error:  # its text is not ours
                if not self._failures:
                    words = "Cannot keep the token %s: %s"
                    self._log.warning(words, self._name, type(error).__name__)
                pause = self._back_off()
            self._pause(time.monotonic() + max(pause, _APART - (time.monotonic() - begun)))

    def _pause(self, ends_at: float) -> None:
        while (left := ends_at - time.monotonic()) > 0 and not self._stopped.is_set():
            if self._failures and self._delivered:
                with suppress(OSError, UnicodeDecodeError):  # just withdrawn, or no place for it
                    self._take_delivered(self._delivered)
            self._stopped.wait(min(_LOOK, left))

    def _take_delivered(self, path: Path) -> None:
        """Take what the Hub has delivered since it was last asked."""
        facts = read_facts(path.with_name(f"{path.name}.json"))
        if not self._known:  # what was delivered is still there
            read_files([self._name])
        elif facts.get("status") == "shared":  # its files are withdrawn, so this copy goes, too
            self._withdraw("shared", "this server is shared")
        elif str(facts.get("renewed_at") or "") > (self._known.get("renewed_at") or ""):
            self._take({"token": path.read_bytes().decode(), **facts})

    def _ask(self) -> float:
        """Ask once. Returns the seconds to wait before the next time."""
        # After a failure it does not wait, so that a Hub that hangs is noticed soon.
        waits = self._known and not self._failures
        wait = random.randint(hub.LONGEST_WAIT // 2, hub.LONGEST_WAIT) if waits else 0
        try:
            answer = hub.ask(self._name, known=self._known, wait=wait)
        except hub.HubError as error:
            if error.is_withheld:
                self._withdraw(error.reason, error)
            return max(self._back_off(), min(error.retry_after, _LAST_RETRY))
        except OSError as error:
            if not self._failures:
                self._log.warning("The Hub does not answer for the token %s: %s", self._name, error)
            return self._back_off()
        is_new = answer | {"version": ""} != self._known | {"version": ""}
        if is_new or find_file(self._name) is None:  # or somebody has removed it
            self._take(answer)
        self._known, self._failures = answer, 0  # with its version
        return 0.0

    def _back_off(self) -> float:
        pause = min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(self._failures, 10))
        self._failures += 1
        return pause * random.uniform(0.5, 1.0)

    def _take(self, answer: dict[str, Any]) -> None:
        text = str(answer["token"])
        set_variables(self._name, text)  # also where no file can be written
        hidden = ("token", "version")
        facts = {name: value for name, value in answer.items() if name not in hidden}
        self._write_facts(facts)
        self._directory.write(self._name, text.encode())
        self._known = answer
        _lead_to(self._directory, self._name)

    def _withdraw(self, reason: str, words: object) -> None:
        if self._known or not self._failures:
            self._log.warning("The Hub gives no token %s: %s", self._name, words)
        self._known = {}
        set_variables(self._name, None)
        self._directory.delete(self._name)
        facts = {**dict.fromkeys(("expires_at", "renewed_at", "scopes")), "status": reason}
        self._write_facts(facts)

    def _write_facts(self, facts: dict[str, Any]) -> None:
        self._directory.write(f"{self._name}.json", json.dumps(facts, indent=2).encode() + b"\n")
