"""Checks of hooks that write tokens into the environment, as they did before."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

from .finding import Finding, Level, Setting, Words, warning
from .loading import is_library
from .setup import Setup
from .source import Seen, look_at

_WHY = (
    "What a hook writes into the environment wins over the specs, and is never renewed; in spawner.environment it stays for "
    "the next start."
)

_METHODS = ("get_env", "start", "run_pre_spawn_hook", "run_auth_state_hook")


def check_hooks(setup: Setup) -> Iterator[Finding]:
    """No hook writes tokens into the environment."""
    unread = []
    for place, hook, instead in _hooks(setup):
        seen = look_at(hook, is_given_state="auth_state_hook" in place)
        unread += [f"{name} ({place})" for name in seen.unread]
        if any(write.is_token for write in seen.writes):
            yield _finding(setup, place, seen, instead)
    if unread:
        yield Finding(
            "hooks", Level.OK, f"Not looked at, since there is no source: {', '.join(unread)}."
        )


def _hooks(setup: Setup) -> Iterator[tuple[str, Any, Setting | None]]:
    """Where a hook is, the hook, and a line of the config that is instead of it."""
    for trait in ("auth_state_hook", "pre_spawn_hook"):
        hook = getattr(setup.spawner, trait, None)
        if callable(hook):
            instead = setup.setting(setup.spawner, trait, None, "Spawner")
            yield f"Spawner.{trait}", hook, instead if setup.is_set(setup.spawner, trait) else None
    for base in type(setup.spawner).__mro__:
        for name, method in vars(base).items():
            if (
                name in _METHODS
                and isinstance(method, FunctionType)
                and not is_library(method.__code__.co_filename)
            ):
                yield f"{base.__name__}.{name}", MethodType(method, setup.spawner), None
    authenticator = setup.authenticator
    if authenticator is not None:
        cls = type(authenticator)
        if not str(cls.pre_spawn_start.__module__).startswith(("jupyterhub.", "oauthenticator.")):
            yield f"{cls.__name__}.pre_spawn_start", authenticator.pre_spawn_start, None


def _finding(setup: Setup, place: str, seen: Seen, instead: Setting | None) -> Finding:
    claims = {claim for spec in setup.specs for claim in spec.claims}
    tokens = [write for write in seen.writes if write.is_token]
    variables = list(dict.fromkeys(write.variable for write in tokens))
    fix: Setting | Words | None = None
    if (
        seen.is_plain
        and not setup.is_chart
        and all(write.variable in claims for write in seen.writes)
    ):
        fix = instead
    if fix is None:
        words = f"remove from {place} what sets " + ", ".join(
            f"{write.variable} ({write.line})" for write in tokens
        )
        if missing := [
            variable for variable in variables if variable not in claims and "…" not in variable
        ]:
            words += f"; first name {', '.join(missing)} in the env of a spec, if servers need it"
        if not seen.is_plain or any(
            not write.is_token and write.variable not in claims for write in seen.writes
        ):
            words += "; what else it does stays"
        fix = Words(words)
    reads = ", ".join(seen.reads or ("auth_state",))
    return warning(
        "hook-writes-tokens",
        f"{place}, line {seen.line}, sets {', '.join(variables)} in the environment, and reads {reads}.",
        _WHY,
        fix,
    )
