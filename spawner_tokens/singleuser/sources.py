"""Where a server's tokens are: in its files, at its Hub, or in its variables."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import hub

# Seconds for which what the Hub gave is used, and until a Hub that did not answer is asked again.
_KEPT, _PAUSE = 30.0, 30.0


class NoToken(Exception):
    """There is no such token here. The text says why, and what to do."""


class _Memory:
    """What the Hub gave this process: name → answer, and when; for programs without the files."""

    answers: dict[str, tuple[float, dict[str, Any]]] = {}
    failed_at = -_PAUSE


def read_variables() -> dict[str, dict[str, Any]]:
    """Token name → ``env``, the variables that have it, and ``file_env``, that of its file."""
    try:
        found = json.loads(os.environ.get("SPAWNER_TOKENS_VARIABLES", "{}"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def find_file(name: str) -> Path | None:
    """The file of a token, if this server has one for it."""
    path = _find_path(name)
    return path if path is not None and os.path.isfile(path) else None


def _find_path(name: str) -> Path | None:
    """Where a token's file is, if there is one."""
    directory = os.environ.get("SPAWNER_TOKENS_DIR")
    is_name = name and name[0] != "." and "/" not in name
    return Path(directory, name) if directory and is_name else None


def read_file(name: str) -> str | None:
    """What is in a token's file; ``None`` if there is none that this process can read."""
    try:
        return path.read_bytes().decode() if (path := find_file(name)) is not None else None
    except (OSError, UnicodeDecodeError):  # it was just withdrawn, or is another user's
        return None


def find_withheld(name: str) -> str | None:
    """Why this server does not have a token any more, as its files say; ``None`` if it may."""
    if (path := _find_path(name)) is None or os.path.isfile(path):
        return None
    status = read_facts(path.with_name(f"{name}.json")).get("status")
    return None if status in (None, "ok") else str(status)


def get_token(name: str) -> str:
    """The live token of this name. Raises :exc:`NoToken`.

    It is read from its file, or asked for at the Hub, or that of a variable: the one of the
    server's start, unless it is withheld since. Call it each time that you need the token.
    """
    if (text := read_file(name)) is not None:
        return text
    why = ""
    if hub.is_there():
        try:
            return str(_ask(name)["token"])
        except hub.HubError as error:
            if error.is_withheld:
                raise NoToken(str(error)) from None
            why = f": {error}"
        except OSError as error:
            why = f": the Hub cannot be reached ({error})"
    if status := find_withheld(name):
        raise NoToken(f"the token {name!r} is withheld{why}. Its status: {status}.")
    for variable in read_variables().get(name, {}).get("env", ()):
        if variable in os.environ:
            return os.environ[variable]
    known = ", ".join(sorted(read_variables())) or "none"
    raise NoToken(f"there is no token {name!r} here{why}. Tokens of this server: {known}.")


def _ask(name: str) -> dict[str, Any]:
    now, memory = time.monotonic(), _Memory
    asked_at, answer = memory.answers.get(name, (0.0, {}))
    if answer and now - asked_at < _KEPT:
        return answer
    if now - memory.failed_at < _PAUSE:
        if answer:
            return answer
        raise OSError("it did not answer a moment ago")
    try:
        memory.answers[name] = now, (answer := hub.ask(name))
    except (hub.HubError, OSError) as error:
        memory.failed_at = now
        if isinstance(error, hub.HubError) and error.is_withheld:
            memory.answers.pop(name, None)
            raise
        if not answer:
            raise
    return answer


def get_status() -> list[dict[str, Any]]:
    """What is known of each token, without its value: one dict with its ``name`` for each.

    The others are those of ``<name>.json``, and ``where``: a path, ``hub``, ``variable``, or
    ``None`` if it is not there.
    """
    found: dict[str, dict[str, Any]] = {name: {} for name in read_variables()}
    directory = os.environ.get("SPAWNER_TOKENS_DIR", "")
    for path in sorted(Path(directory).glob("*.json")) if os.path.isdir(directory) else ():
        if not path.name.endswith(".config.json"):
            found[path.name.removesuffix(".json")] = read_facts(path)
    if hub.is_there() and not all(found.values()):
        try:
            found |= {name: facts for name, facts in hub.ask().items() if not found.get(name)}
        except (hub.HubError, OSError):
            pass  # what is known without it
    return [{"name": name, **_fill(name, facts)} for name, facts in found.items()]


def _fill(name: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    members = dict.fromkeys(("expires_at", "renewed_at", "scopes", "status"))
    return {**members, **facts, "where": _find_place(name, facts)}


def _find_place(name: str, facts: Mapping[str, Any]) -> str | None:
    if (path := find_file(name)) is not None:
        return str(path)
    if hub.is_there() and (facts.get("expires_at") or facts.get("status") == "ok"):
        return "hub"
    names = read_variables().get(name, {}).get("env", ())
    return "variable" if any(variable in os.environ for variable in names) else None


def read_facts(path: Path) -> dict[str, Any]:
    """What a token's file ``<name>.json`` says; nothing if it cannot be read."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
