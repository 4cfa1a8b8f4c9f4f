"""Errors as the log may show them: by type and place. Their texts may hold a token."""

from __future__ import annotations

import traceback


def describe_error(error: BaseException) -> str:
    """``TypeError in exchange, line 12 of hooks.py``; of an error that is ``discreet``, its text."""
    if getattr(error, "discreet", False):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return type(error).__name__ + "".join(
        f" in {at.name}, line {at.lineno} of {at.filename}" for at in place
    )
