"""The check of hooks that write tokens into the environment, by the text of their source."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

from .finding import Finding, Level, warning
from .loading import is_library
from .setup import Setup

_OF_SPAWNER = (
    *("pre_spawn_hook", "auth_state_hook", "run_pre_spawn_hook", "run_auth_state_hook"),
    *("get_env", "start"),
)


def check_hooks(setup: Setup) -> Iterator[Finding]:
    """The source of no hook has an environment and an auth_state in it."""
    hooks = [(setup.spawner, name) for name in _OF_SPAWNER]
    for owner, name in [*hooks, (setup.authenticator, "pre_spawn_start")]:
        hook = getattr(owner, name, None)
        place = f"{type(owner).__name__}.{name}" if inspect.ismethod(hook) else f"Spawner.{name}"
        while isinstance(hook, partial):
            hook = hook.func
        if hook is None:
            continue
        try:
            if is_library(_find_file(hook)):
                continue
            source = inspect.getsource(hook)
        except (OSError, TypeError):
            yield Finding("hooks", Level.NOTE, f"{place} was not looked at: it has no source here.")
            continue
        # The second argument of an auth_state_hook is the auth_state, whatever its name is.
        has_state = name == "auth_state_hook" or re.search("auth_state|access_token", source)
        if has_state and re.search(r"\benviron(ment)?\b|\benv\b", source):
            yield warning(
                "hook-writes-tokens",
                f"{place} has both an environment and an auth_state in its source.",
                "if it writes tokens, remove that, and name the variables in env of a spec",
            )


def _find_file(hook: Any) -> str:
    return inspect.getsourcefile(inspect.unwrap(hook)) or ""
