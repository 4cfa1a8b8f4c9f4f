"""Errors in the log: by type and place, since their text may hold a token."""

from __future__ import annotations

import traceback
from errno import errorcode
from os import strerror


def describe_error(error: BaseException) -> str:
    """The error's type and place: ``TypeError in exchange, line 12 of hooks.py``.

    An error with a true attribute ``discreet`` is described by its text, and one of the system's by
    the system's words for it, too: ``OSError (No space left on device)``.
    """
    if getattr(error, "discreet", False):
        return str(error)
    number, words = getattr(error, "errno", None), ""
    if isinstance(error, OSError) and isinstance(number, int) and number in errorcode:
        words = f" ({error.strerror})" if error.strerror == strerror(number) else ""
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return (
        type(error).__name__
        + words
        + "".join(f" in {at.name}, line {at.lineno} of {at.filename}" for at in place)
    )
