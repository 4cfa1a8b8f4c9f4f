"""Errors in the log: by type and place, since their text may hold a token."""

from __future__ import annotations

import traceback


def describe_error(error: BaseException) -> str:
    """The error's type and place: ``TypeError in exchange, line 12 of hooks.py``.

    An error with a true attribute ``discreet`` is described by its text.
    """
    if getattr(error, "discreet", False):
        return str(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return type(error).__name__ + "".join(
        f" in {at.name}, line {at.lineno} of {at.filename}" for at in place
    )
