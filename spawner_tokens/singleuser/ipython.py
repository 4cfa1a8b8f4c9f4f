"""The IPython extension: a running kernel's variables have the live tokens, before each cell."""

from __future__ import annotations

from typing import Any

from .live import set_variables
from .sources import NoToken, get_token, read_variables


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext spawner_tokens``"""
    update()
    shell.events.register("pre_run_cell", update)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext spawner_tokens``"""
    shell.events.unregister("pre_run_cell", update)


def update(*_: Any) -> None:
    """Give this process's variables the tokens that there are now."""
    for name, variables in read_variables().items():
        if variables.get("env"):
            try:
                set_variables(name, get_token(name))
            except NoToken:
                set_variables(name, None)
