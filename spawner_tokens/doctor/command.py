"""The subcommands ``doctor`` and ``explain``: what a person starts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

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


def doctor(*, config: str, options: Sequence[str], values: str | None, as_json: bool) -> int:
    """Examine a configuration. Returns the exit status: 1 if there are errors."""
    findings = examine_values(values) if values is not None else examine_file(config, options)
    allow_any_text(sys.stdout)
    write = write_findings_as_json if as_json else write_findings
    write(findings, sys.stdout, for_chart=values is not None)
    return 1 if has_errors(findings) else 0


def explain(*, config: str, options: Sequence[str], user: str, server: str, as_json: bool) -> int:
    """Tell what a server of one user would get now. Returns the exit status: 1 if that cannot be told."""
    try:
        explanation = asyncio.run(explain_user(load_file(config, options), user, server))
    except (LoadError, DatabaseError, ExplanationError) as error:
        print(f"spawner-tokens explain: {error}", file=sys.stderr)
        return 1
    allow_any_text(sys.stdout)
    write = write_explanation_as_json if as_json else write_explanation
    write(explanation, sys.stdout)
    return 0
