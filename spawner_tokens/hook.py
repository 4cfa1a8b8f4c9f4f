"""The admin's ``tokens_hook``: it has the last word on names and values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from .foreign import call_foreign
from .redaction import describe_error
from .tokens.lifetime import find_life_until
from .tokens.lookup import copy_auth_state
from .tokens.selection import Login, Token, apply_hook_value


class HookFailed(Exception):
    """``tokens_hook`` raised, was cancelled, or returned something else. The text has no value."""

    discreet = True  # see describe_error()


async def run_tokens_hook(
    hook: Callable[..., Any], spawner: Any, login: Login, tokens: Sequence[Token], lost: Set[str]
) -> list[Token]:
    """The tokens with the values that the hook gives them. Raises :exc:`HookFailed`.

    ``lost``: the names of tokens whose specs are not known any more.
    """
    found = {token.spec.name: token.value for token in tokens if token.value is not None}
    try:
        state = copy_auth_state(login.auth_state or {})
        values = await call_foreign(hook, spawner, state, found)
    except Exception as error:
        raise HookFailed(describe_error(error)) from None
    if not isinstance(values, Mapping):
        problem = f"it did not return a dict of names and values, but {type(values).__name__}"
        raise HookFailed(problem)
    declared = {token.spec.name for token in tokens} | lost
    if others := values.keys() - declared:  # not which: a hook may take a value for a name
        words = "Ignored what tokens_hook returned for undeclared names, %d of them; declared: %s"
        spawner.log.warning(words, len(others), ", ".join(sorted(declared)))
    values = {name: values[name] for name in values.keys() & declared}
    lives = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            values[name] = value.get("token")
            if (end := value.get("expires_at")) is not None:
                life = find_life_until(end, time.time())
                if life is None:
                    raise HookFailed(f"the expires_at of {name} is not seconds or ISO 8601")
                lives[name] = life
    return [apply_hook_value(token, values, login, lives) for token in tokens]


def describe_failure(failed: HookFailed, lost: Iterable[str]) -> str:
    """Why a running server keeps what it has. ``lost``: see :func:`run_tokens_hook`."""
    names = ", ".join(lost)
    without = f"; it was called without {names}, whose spec is not known any more"
    return f"tokens_hook failed ({failed}){without if names else ''}"
