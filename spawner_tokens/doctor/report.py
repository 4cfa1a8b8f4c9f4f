"""The report: findings and tokens for people, coloured on a terminal, or as JSON."""

from __future__ import annotations

import json
import os
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TextIO

from .explanation import Explained, Explanation
from .finding import Finding, Level

_LEVELS = list(Level)
_GREEN, _YELLOW, _RED, _BOLD = "32", "33", "31", "1"
_COLOURS = dict(zip(_LEVELS, (_GREEN, _YELLOW, _YELLOW, _RED), strict=True))
_INDENT = " " * 9


def has_errors(findings: Sequence[Finding]) -> bool:
    return any(finding.level is Level.ERROR for finding in findings)


def write_as_json(what: Any, out: TextIO) -> None:
    print(json.dumps(what, indent=2, ensure_ascii=False, default=asdict), file=out)


def write_findings(findings: Sequence[Finding], out: TextIO) -> None:
    """The worst ones first. A fix is not wrapped, since it is to be copied."""
    for each in sorted(findings, key=lambda each: -_LEVELS.index(each.level)):
        level = f"{each.level.value:<9}"
        lines = [each.id, each.what, each.why] if each.fix else [each.what]
        text = "\n".join(_wrap(line, len(_INDENT)) for line in lines if line)
        text += "".join(f"\n{_INDENT}→ {line}" for line in each.fix.splitlines())
        print(_paint(level, _COLOURS[each.level], out) + text.removeprefix(_INDENT), file=out)
    levels = [each.level for each in findings]
    counts = (f"{level.value}: {levels.count(level)}" for level in reversed(_LEVELS))
    print(", ".join(counts), file=out)


def _wrap(text: str, indent: int) -> str:
    """What is to be copied, as a path, stays in one piece."""
    return textwrap.fill(
        text,
        min(100, max(40, shutil.get_terminal_size((100, 24)).columns)),
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _paint(text: str, colour: str, out: TextIO) -> str:
    """On a terminal, unless ``NO_COLOR`` says otherwise (no-color.org)."""
    is_coloured = out.isatty() and not os.environ.get("NO_COLOR")
    return f"\033[{colour}m{text}\033[0m" if is_coloured else text


def write_explanation(explanation: Explanation, out: TextIO) -> None:
    where = f" (server {explanation.server!r})" if explanation.server else ""
    print(f"What a server of {explanation.user} would get now{where}:\n", file=out)
    for token in explanation.tokens:
        colour = _GREEN if token.status == "ok" else _RED if token.length is None else _YELLOW
        print(f"{_paint(token.name, _BOLD, out)}  {_paint(token.status, colour, out)}", file=out)
        for label, text in _describe(token, explanation.now):
            # Scopes are the provider's text.
            printable = "".join(each if each.isprintable() else "?" for each in text)
            print(f"    {label:<13}" + _wrap(printable, 17).lstrip(), file=out)
        print(file=out)
    for note in explanation.notes:
        print(_wrap(note, 0), file=out)


def _describe(token: Explained, now: float) -> Iterator[tuple[str, str]]:
    if token.why:
        yield "why", token.why
        if token.policy == "refuse":
            yield "so", "the server does not start (missing: refuse)"
        elif token.length is None:
            yield "so", f"withheld, the server starts (missing: {token.policy})"
    if token.length is None:
        return
    yield "variables", ", ".join(token.variables) or "none"
    yield "file", token.path or "none"
    yield "token", f"{token.length} characters, fingerprint {token.fingerprint}"
    yield "issued", "not known" if token.issued_at is None else _clock(token.issued_at, now)
    expires = token.expires_at
    yield "expires", "not known, or never" if expires is None else _clock(expires, now)
    yield "scopes", "not known" if token.scopes is None else ", ".join(token.scopes) or "none"


def _clock(seconds: float, now: float) -> str:
    clock = datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    span = abs(seconds - now)
    sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in sizes if span >= 2 * each[0]), sizes[-1])
    words = f"{span / size:.0f} {unit}"
    return f"{clock}, {f'in {words}' if seconds > now else f'{words} ago'}"
