"""The subcommands ``doctor`` and ``explain``: what a person starts."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from .database import DatabaseError
from .examination import examine_file, examine_values
from .explanation import ExplanationError, explain_user
from .loading import LoadError, load_file
from .report import (
    allow_any_text,
    has_errors,
    write_explanation,
    write_explanation_as_json,
    write_findings,
    write_findings_as_json,
)


@contextmanager
def own_output() -> Iterator[TextIO]:
    """Standard output for the report alone: what a configuration prints, by its children too, goes to standard error."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed, or no file
        yield sys.stdout
        return
    sys.stdout.flush()
    out = os.fdopen(os.dup(descriptor), "w", encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY), descriptor)
    try:
        allow_any_text(out)
        yield out
    finally:
        sys.stdout.flush()
        os.dup2(out.fileno(), descriptor)
        out.close()


def doctor(*, config: str, options: Sequence[str], values: str | None, as_json: bool) -> int:
    """Examine a configuration. Returns the exit status: 1 if there are errors."""
    with own_output() as out:
        findings, at = (
            examine_values(values) if values is not None else (examine_file(config, options), None)
        )
        write = write_findings_as_json if as_json else write_findings
        write(findings, out, at)
    return 1 if has_errors(findings) else 0


def explain(*, config: str, options: Sequence[str], user: str, server: str, as_json: bool) -> int:
    """Tell what a server of one user would get now. Returns the exit status: 1 if that cannot be told."""
    with own_output() as out:
        try:
            explanation = asyncio.run(explain_user(load_file(config, options), user, server))
        except (LoadError, DatabaseError, ExplanationError) as error:
            print(f"spawner-tokens explain: {error}", file=sys.stderr)
            return 1
        write = write_explanation_as_json if as_json else write_explanation
        write(explanation, out)
    return 0
