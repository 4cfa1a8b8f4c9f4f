"""The report: findings and tokens as people read them, coloured on a terminal, or as JSON."""

from __future__ import annotations

import codecs
import io
import json
import os
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, TextIO

from .explanation import Explained, Explanation
from .finding import Finding, Level

_COLOURS = {Level.OK: "32", Level.WARNING: "33", Level.ERROR: "31"}
_WIDTH = 96  # of a text, at most
_NARROW = 20  # what a text has at least, in a terminal however narrow
_INDENT = " " * 9


def is_coloured(out: TextIO) -> bool:
    """On a terminal, unless ``NO_COLOR`` says otherwise (no-color.org)."""
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _columns(out: TextIO) -> int:
    """How wide the terminal is. What is no terminal is as wide as a text wants."""
    told = os.environ.get("COLUMNS", "")
    found = (
        int(told)
        if told.isdecimal()
        else os.get_terminal_size(out.fileno()).columns
        if out.isatty()
        else 0
    )
    return found or 2 * _WIDTH


def _wrap(text: str, room: int) -> list[str]:
    """What is to be copied, a path say, stays in one piece."""
    width = max(_NARROW, min(_WIDTH, room))
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False) or [""]


_IN_ASCII = {"→": "->", "…": "..."}


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    signs = error.object[error.start : error.end]
    return "".join(_IN_ASCII.get(sign, "?") for sign in signs), error.end


codecs.register_error("spawner_tokens.signs", _replace)


def allow_any_text(out: TextIO) -> None:
    """Where the locale's encoding lacks a sign, write another one for it."""
    if isinstance(out, io.TextIOWrapper) and out.errors == "strict":
        out.reconfigure(errors="spawner_tokens.signs")


def paint(text: str, colour: str, coloured: bool) -> str:
    return f"\033[{colour}m{text}\033[0m" if coloured and colour else text


def write_findings(
    findings: Sequence[Finding], out: TextIO, at: Sequence[str] | None = None
) -> None:
    coloured, columns = is_coloured(out), _columns(out)
    worst_first = sorted(findings, key=lambda each: list(Level)[::-1].index(each.level))
    width = max((len(finding.id) for finding in findings if finding.level is Level.OK), default=0)
    beside = columns - len(_INDENT) - width - 2
    for finding in worst_first:
        level = paint(f"{finding.level.value:<8}", _COLOURS[finding.level], coloured)
        if finding.level is Level.OK and beside >= _NARROW:
            first, *more = _wrap(finding.what, beside)
            print(f"{level} {finding.id:<{width}}  {first}", file=out)
            for line in more:
                print(" " * (columns - beside) + line, file=out)
            continue
        print(f"{level} {finding.id}", file=out)
        for text, colour in ((finding.what, ""), (finding.why, "2")):
            for line in _wrap(text, columns - len(_INDENT)) if text else ():
                print(_INDENT + paint(line, colour, coloured), file=out)
        for kind, text in finding.write_fix(at):
            words = (
                _wrap(text, columns - len(_INDENT) - 2) if kind == "words" else text.splitlines()
            )
            for sign, line in zip(["→ ", *["  "] * len(words)], words):
                print(
                    _INDENT + sign + paint(line, "" if kind == "words" else "1", coloured), file=out
                )
    print(summarize(findings), file=out)


def summarize(findings: Sequence[Finding]) -> str:
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    parts = [
        f"{counts[level]} {level.value}{'s' if counts[level] != 1 else ''}"
        for level in (Level.ERROR, Level.WARNING)
    ]
    return f"{', '.join(parts)}, {counts[Level.OK]} ok"


def write_findings_as_json(
    findings: Sequence[Finding], out: TextIO, at: Sequence[str] | None = None
) -> None:
    found = [
        {
            "id": finding.id,
            "level": finding.level.value,
            "what": finding.what,
            "why": finding.why,
            "fix": [{"kind": kind, "text": text} for kind, text in finding.write_fix(at)],
        }
        for finding in findings
    ]
    write_json({"ok": not has_errors(findings), "findings": found}, out)


def write_json(what: Any, out: TextIO) -> None:
    print(json.dumps(what, indent=2, ensure_ascii=False), file=out)


def has_errors(findings: Sequence[Finding]) -> bool:
    return any(finding.level is Level.ERROR for finding in findings)


def write_explanation(explanation: Explanation, out: TextIO) -> None:
    coloured, columns = is_coloured(out), _columns(out)
    where = f" (server {explanation.server!r})" if explanation.server else ""
    print(f"What a server of {explanation.user} would get now{where}:\n", file=out)
    for token in explanation.tokens:
        colour = "32" if token.status == "ok" else "31" if token.length is None else "33"
        print(
            f"{paint(token.name, '1', coloured)}  {paint(token.status, colour, coloured)}", file=out
        )
        for label, text in _describe(token, explanation.now):
            printable = "".join(
                each if each.isprintable() else "?" for each in text
            )  # scopes are the provider's text
            first, *more = _wrap(printable, columns - 17)
            print(f"    {label:<12} {first}", file=out)
            for line in more:
                print(" " * 17 + line, file=out)
        print(file=out)
    for note in explanation.notes or ():
        print("\n".join(_wrap(note, columns)), file=out)


def _describe(token: Explained, now: float) -> Iterator[tuple[str, str]]:
    if token.why:
        yield "why", token.why
    if token.length is None:
        ends = (
            "the server does not start"
            if token.policy == "refuse"
            else "withheld, the server starts"
        )
        yield "so", f"{ends} (missing: {token.policy})"
        return
    if token.why and token.policy == "refuse":
        yield "so", "the server does not start (missing: refuse)"
    yield "variables", ", ".join(token.variables) or "none"
    yield "file", token.path or "none"
    yield "token", f"{token.length} characters, fingerprint {token.fingerprint}"
    if token.issued_at is None:
        yield "issued", "not known"
    else:
        yield "issued", f"{_clock(token.issued_at)}, {_span(now - token.issued_at)} ago"
    if token.expires_at is None:
        yield "expires", "not known, or never"
    else:
        left = token.expires_at - now
        yield (
            "expires",
            f"{_clock(token.expires_at)}, "
            + (f"in {_span(left)}" if left > 0 else f"{_span(-left)} ago"),
        )
    yield "scopes", "not known" if token.scopes is None else ", ".join(token.scopes) or "none"


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _span(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def write_explanation_as_json(explanation: Explanation, out: TextIO) -> None:
    write_json(asdict(explanation), out)
