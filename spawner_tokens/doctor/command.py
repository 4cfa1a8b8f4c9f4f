"""The subcommands ``doctor`` and ``explain``, and what they print."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any

from ..singleuser.command import print_table
from ..tokens.files import make_time
from .database import DatabaseError
from .examination import examine_file, examine_values
from .explanation import ExplanationError, explain_user
from .finding import Finding, Level
from .loading import LoadError, load_file


def doctor(*, config: str, options: Sequence[str], values: Sequence[str], as_json: bool) -> int:
    """Examine a configuration. Returns the exit status: 1 if there are errors."""
    findings = examine_values(values) if values else examine_file(config, options)
    is_ok = all(finding.level is not Level.ERROR for finding in findings)
    if as_json:
        print(json.dumps({"ok": is_ok, "findings": [*map(asdict, findings)]}, indent=2))
    else:
        print_findings(findings)
    return 0 if is_ok else 1


def explain(*, config: str, options: Sequence[str], user: str, server: str, as_json: bool) -> int:
    """Explain what a server of a user would get now. Returns the exit status: 1 if it cannot."""
    try:
        explanation = explain_user(load_file(config, options), user, server)
    except (LoadError, DatabaseError, ExplanationError) as error:
        print(f"spawner-tokens explain: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(explanation, indent=2))
    else:
        print_explanation(explanation)
    return 0


def print_findings(findings: Sequence[Finding]) -> None:
    """The worst ones first. A fix is not wrapped, since it is to be copied."""
    for level in reversed(Level):
        for each in findings:
            if each.level is level:
                lines = [each.id, each.what, each.why] if each.fix else [each.what]
                text = "\n".join(_wrap(line, 9) for line in lines)
                print(f"{level.value:<9}{text.lstrip()}")
                for line in each.fix.splitlines():
                    print(f"         → {line}")
                if each.see:
                    print(f"         see {each.see}")
    levels = [each.level for each in findings]
    print(", ".join(f"{each.value}: {levels.count(each)}" for each in reversed(Level)))


def _wrap(text: str, indent: int) -> str:
    """What is to be copied, as a path, stays in one piece."""
    room = textwrap.TextWrapper(100 - indent, break_long_words=False, break_on_hyphens=False)
    return textwrap.indent(room.fill(text), " " * indent)


def print_explanation(explanation: Mapping[str, Any]) -> None:
    """As :func:`~.explanation.explain_user` returns it."""
    where = f" (server {explanation['server']!r})" if explanation["server"] else ""
    print(f"What a server of {explanation['user']} would get now{where}:\n")
    now = datetime.fromtimestamp(explanation["now"], timezone.utc)
    print_table([*map(_make_row, explanation["tokens"])], now)
    for token in explanation["tokens"]:
        print(f"\n{token['name']}  {token['status']}")
        for label, text in _describe(token, explanation["now"]):
            # Scopes are the provider's text.
            printable = "".join(each if each.isprintable() else "?" for each in text)
            print(f"    {label:<13}" + _wrap(printable, 17).lstrip())
    print()
    for note in explanation["notes"]:
        print(_wrap(note, 0))


def _make_row(token: Mapping[str, Any]) -> dict[str, Any]:
    """As ``spawner-tokens status`` has it in the server."""
    times = {"expires_at": token["expires_at"], "renewed_at": token["issued_at"]}
    return {**token, **{name: make_time(seconds) for name, seconds in times.items()}}


def _describe(token: Mapping[str, Any], now: float) -> Iterator[tuple[str, str]]:
    is_withheld, scopes = token["length"] is None, token["scopes"]
    if token["why"]:
        yield "why", token["why"]
        if token["policy"] == "refuse":
            yield "so", "the server does not start (missing: refuse)"
        elif is_withheld:
            yield "so", f"withheld, the server starts (missing: {token['policy']})"
    if is_withheld:
        return
    yield "variables", ", ".join(token["variables"]) or "none"
    yield "token", f"{token['length']} characters, fingerprint {token['fingerprint']}"
    yield "issued", _clock(token["issued_at"], now) or "not known"
    yield "expires", _clock(token["expires_at"], now) or "not known, or never"
    yield "scopes", "not known" if scopes is None else ", ".join(scopes) or "none"


def _clock(seconds: float | None, now: float) -> str:
    if seconds is None:
        return ""
    clock = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    span = abs(seconds - now)
    sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in sizes if span >= 2 * each[0]), sizes[-1])
    words = f"{span / size:.0f} {unit}"
    return f"{clock}, {f'in {words}' if seconds > now else f'{words} ago'}"
