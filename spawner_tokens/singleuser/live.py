"""Live variables: those of this process get the tokens that there are now."""

from __future__ import annotations

import os
from collections.abc import Iterable

from .sources import find_withheld, read_file, read_variables


def set_variables(name: str, text: str | None) -> None:
    """Give a token to the variables that have it; ``None``: there is none any more."""
    for variable in read_variables().get(name, {}).get("env", ()):
        if text is not None:
            os.environ[variable] = text
        else:
            os.environ.pop(variable, None)


def read_files(names: Iterable[str] | None = None) -> None:
    """Give the tokens in the files to their variables, and take away what is withheld.

    Another one without a file stays as it is.
    """
    for name in read_variables() if names is None else names:
        if (text := read_file(name)) is not None or find_withheld(name):
            set_variables(name, text)
