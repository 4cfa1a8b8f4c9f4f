"""Checks of hooks that write tokens into the environment, as they did before: read, and never run."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from textwrap import dedent
from typing import Any

from .finding import Finding, Setting, Words, warning
from .provider import own_class
from .setup import Setup

_WHY = (
    "What a hook writes into spawner.environment wins over the specs, is never renewed, and stays in the Spawner for the "
    "next start."
)
_TOKENS = ("access_token", "id_token", "refresh_token", "token_response")
_SOURCES = ("auth_state", *_TOKENS)


@dataclass(frozen=True)
class Seen:
    """What the source of a hook says: the names that it reads, and the variables that it sets in an environment."""

    line: int
    reads: tuple[str, ...]
    sets: tuple[str, ...]


def look_at(function: Callable[..., Any]) -> Seen | None:
    """What a function does with tokens and an environment; ``None`` if nothing, or if there is no source."""
    try:
        lines, line = inspect.getsourcelines(inspect.unwrap(function))
        tree = ast.parse(dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError, ValueError):  # compiled, a partial, a lambda in the middle of something
        return None
    nodes = list(ast.walk(tree))
    names = {name for node in nodes for name in _names(node)}
    reads = tuple(source for source in _SOURCES if any(source in name for name in names))
    aliases = {"environment"} | {name for node in nodes for name in _aliases(node)}
    sets = tuple(dict.fromkeys(variable for node in nodes for variable in _sets(node, aliases)))
    is_of_tokens = not set(_TOKENS).isdisjoint(reads) or any("TOKEN" in variable for variable in sets)
    return Seen(line, reads, sets) if reads and sets and is_of_tokens else None


def _aliases(node: ast.AST) -> Iterator[str]:
    """The names in ``env = spawner.environment``."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "environment":
        yield from (target.id for target in node.targets if isinstance(target, ast.Name))


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.arg):
        yield node.arg
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in _SOURCES:
        yield node.value


def _sets(node: ast.AST, aliases: Container[str]) -> Iterator[str]:
    """The variables that a statement sets in an environment, which may have other names."""

    def is_environment(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr == "environment"
        return isinstance(node, ast.Name) and node.id in aliases

    if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
            if isinstance(target, ast.Subscript) and is_environment(target.value):
                yield _variable(target.slice)
            elif is_environment(target) and not is_environment(node.value or target):
                yield from _keys(node.value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and is_environment(node.func.value):
        if node.func.attr == "setdefault" and node.args:
            yield _variable(node.args[0])
        elif node.func.attr == "update":
            yield from (keyword.arg or "…" for keyword in node.keywords)
            for argument in node.args:
                yield from _keys(argument)


def _keys(node: ast.AST | None) -> Iterator[str]:
    if isinstance(node, ast.Dict):
        yield from (_variable(key) for key in node.keys if key is not None)
    else:
        yield "…"


def _variable(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else "…"


def check_hooks(setup: Setup) -> Iterator[Finding]:
    """No hook writes tokens into the environment."""
    for trait in ("auth_state_hook", "pre_spawn_hook"):
        hook = getattr(setup.spawner, trait, None)
        if callable(hook) and (seen := look_at(hook)):
            mend = setup.setting(setup.spawner, trait, None, "Spawner")
            yield _finding(f"Spawner.{trait}", seen, mend)
    authenticator = setup.authenticator
    if authenticator is None:
        return
    method = type(authenticator).pre_spawn_start
    is_own = not str(method.__module__).startswith(("jupyterhub.", "oauthenticator."))
    if is_own and (seen := look_at(method)):
        stock = own_class(authenticator)
        fix: Setting | Words = Words(f"remove pre_spawn_start from {type(authenticator).__name__}")
        if stock is not type(authenticator):
            fix = Setting(("JupyterHub", "authenticator_class"), f"{stock.__module__}.{stock.__name__}")
        yield _finding(f"{type(authenticator).__name__}.pre_spawn_start", seen, fix)


def _finding(place: str, seen: Seen, fix: Setting | Words) -> Finding:
    return warning(
        "hook-writes-tokens",
        f"{place}, line {seen.line}, sets {', '.join(seen.sets)} in the environment, and reads {', '.join(seen.reads)}.",
        _WHY,
        fix,
    )
