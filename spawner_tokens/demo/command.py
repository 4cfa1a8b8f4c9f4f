"""``spawner-tokens demo``: runs until Ctrl-C, or with ``--check`` walks through it by itself."""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from types import FrameType

from . import CONFIG, Demo, run_demo
from .check import check
from .processes import DemoError
from .steps import Steps

WELCOME = """
Open {url} and log in:

{accounts}

Then run the cells of the notebook that opens: they show the variables and files that your server
got from your login, and never a token. Tokens live for {lifetime} seconds here: run the last cell
again after a while, and the file holds another one. Log in as the other user in a private window,
since the provider remembers the first.

Ctrl-C ends all of it and removes {folder}, where the logs are.
"""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def demo(*, token_lifetime: int, config: Path | None) -> int:
    """Run the demo until a signal ends it. Returns the exit status."""
    end_on_signals()
    try:
        with run_demo(
            token_lifetime=token_lifetime, config=config or CONFIG, step=Steps(sys.stdout)
        ) as running:
            welcome(running, token_lifetime)
            watch(running)
    except DemoError:
        return 1  # the step has printed it
    except KeyboardInterrupt:
        print("Nothing is left.", flush=True)
    return 0


def demo_check(*, token_lifetime: int, config: Path | None, report: Path | None) -> int:
    """Run the demo and walk through it. Returns the exit status; ``report``: the same, as JSON."""
    end_on_signals()
    steps = Steps(sys.stdout)
    status = 1
    try:
        check(steps, token_lifetime=token_lifetime, config=config or CONFIG)
        status = 0
    except DemoError:
        pass  # its step has printed it
    except KeyboardInterrupt:
        status = 130
    finally:
        if report is not None:
            found = {"ok": status == 0, "steps": steps.results}
            report.write_text(json.dumps(found, indent=2) + "\n")
    return status


def end_on_signals() -> None:
    """The first signal that asks for the end raises KeyboardInterrupt; later ones are ignored."""

    def unwind(number: int, frame: FrameType | None) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    for each in SIGNALS:
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(each, unwind)


def welcome(running: Demo, token_lifetime: int) -> None:
    passwords = running.provider.passwords.items()
    accounts = "\n".join(f"    user {name:6} password {password}" for name, password in passwords)
    values = {"url": running.hub.url, "accounts": accounts, "folder": running.folder}
    print(WELCOME.format(**values, lifetime=token_lifetime), flush=True)


def watch(running: Demo) -> None:
    """Wait for a signal, or until the provider or the Hub ends by itself."""
    try:
        while True:
            running.provider.child.expect_running()
            running.hub.child.expect_running()
            time.sleep(0.5)
    except DemoError as error:
        print(error, file=sys.stderr)
        raise
    except KeyboardInterrupt:
        print("\nEnding the servers, the Hub, the proxy and the provider ...", flush=True)
        raise
