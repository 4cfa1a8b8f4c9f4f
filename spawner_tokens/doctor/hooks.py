"""Checks of hooks that write tokens into the environment, as they did before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .finding import Finding, Level, Setting, Words, warning
from .provider import own_class
from .setup import Setup
from .source import TOKENS, Seen, Write, look_at

_WHY = (
    "What a hook writes into spawner.environment wins over the specs, is never renewed, and stays in the Spawner for the "
    "next start."
)


def check_hooks(setup: Setup) -> Iterator[Finding]:
    """No hook writes tokens into the environment."""
    unread = []
    for place, hook, instead in _hooks(setup):
        seen = look_at(hook)
        unread += [f"{name} ({place})" for name in seen.unread]
        if tokens := _find_tokens(seen):
            yield _finding(setup, place, seen, tokens, instead)
    if unread:
        yield Finding("hooks", Level.OK, f"Not looked at, since there is no source: {', '.join(unread)}.")


def _hooks(setup: Setup) -> Iterator[tuple[str, Any, Setting | None]]:
    """Where a hook is, the hook, and a line of the config that is instead of it."""
    for trait in ("auth_state_hook", "pre_spawn_hook"):
        hook = getattr(setup.spawner, trait, None)
        if callable(hook):
            instead = setup.setting(setup.spawner, trait, None, "Spawner")
            yield f"Spawner.{trait}", hook, instead if setup.is_set(setup.spawner, trait) else None
    authenticator = setup.authenticator
    if authenticator is None:
        return
    cls = type(authenticator)
    if not str(cls.pre_spawn_start.__module__).startswith(("jupyterhub.", "oauthenticator.")):
        stock = own_class(authenticator)
        line = Setting(("JupyterHub", "authenticator_class"), f"{stock.__module__}.{stock.__name__}")
        has_more = cls.__bases__ != (stock,) or {name for name in vars(cls) if name[0] != "_"} != {"pre_spawn_start"}
        is_set = has_more or cls.__name__ in setup.config
        yield f"{cls.__name__}.pre_spawn_start", authenticator.pre_spawn_start, None if is_set else line


def _find_tokens(seen: Seen) -> list[Write]:
    """What is, or may be, a token among that which a hook writes."""
    reads_token = not set(TOKENS).isdisjoint(seen.reads)
    sure = [write for write in seen.writes if (reads_token if write.variable == "…" else write.is_token)]
    return (sure or (seen.writes if reads_token else [])) if seen.reads else []


def _finding(setup: Setup, place: str, seen: Seen, tokens: list[Write], instead: Setting | None) -> Finding:
    claims = {claim for spec in setup.specs for claim in spec.claims}
    is_all = all(write.is_token or write.variable in claims for write in seen.writes) and not seen.does_more
    fix: Setting | Words | None = instead if is_all and not setup.is_chart else None
    if fix is None:
        lines = ", ".join(f"{write.variable} ({write.line})" for write in tokens)
        fix = Words(f"remove from {place} what sets {lines}" + ("" if is_all else "; it does more, which stays"))
    variables = ", ".join(dict.fromkeys(write.variable for write in tokens))
    return warning(
        "hook-writes-tokens",
        f"{place}, line {seen.line}, sets {variables} in the environment, and reads {', '.join(seen.reads)}.",
        _WHY,
        fix,
    )
