"""The subcommands ``doctor`` and ``explain``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from .database import DatabaseError
from .examination import examine_file, examine_values
from .explanation import ExplanationError, explain_user
from .loading import LoadError, load_file
from .report import has_errors, write_as_json, write_explanation, write_findings


@contextmanager
def own_output() -> Iterator[TextIO]:
    """Standard output for the report alone. What a configuration prints goes to standard error."""
    try:
        descriptor = sys.stdout.fileno()
    except (AttributeError, OSError):  # closed, or not a file
        yield sys.stdout
        return
    sys.stdout.flush()
    # A sign that the locale's encoding lacks is written as a question mark.
    out = os.fdopen(os.dup(descriptor), "w", encoding=sys.stdout.encoding, errors="replace")
    os.dup2(sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY), descriptor)
    try:
        yield out
    finally:
        sys.stdout.flush()
        os.dup2(out.fileno(), descriptor)
        out.close()


def doctor(*, config: str, options: Sequence[str], values: str | None, as_json: bool) -> int:
    """Examine a configuration. Returns the exit status: 1 if there are errors."""
    with own_output() as out:
        findings = examine_file(config, options) if values is None else examine_values(values)
        is_ok = not has_errors(findings)
        if as_json:
            write_as_json({"ok": is_ok, "findings": findings}, out)
        else:
            write_findings(findings, out)
    return 0 if is_ok else 1


def explain(*, config: str, options: Sequence[str], user: str, server: str, as_json: bool) -> int:
    """Explain what a server of a user would get now. Returns the exit status: 1 if it cannot."""
    with own_output() as out:
        try:
            explanation = explain_user(load_file(config, options), user, server)
        except (LoadError, DatabaseError, ExplanationError) as error:
            print(f"spawner-tokens explain: {error}", file=sys.stderr)
            return 1
        (write_as_json if as_json else write_explanation)(explanation, out)
    return 0
