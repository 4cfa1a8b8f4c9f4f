"""When the tokens of a login are due to be renewed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from .lifetime import Due, Lifetime, TokenId
from .selection import Login, Token, select_found
from .spec import TokenSpec

# By a token's lifetime and the seconds that it has to live: a time in seconds since the epoch.
FindTime = Callable[[Lifetime, float], float]
# When a spec's token is to be exchanged again, in seconds since the epoch: by a number from 0 to 1
# that scatters what was issued together, and the token's life.
FindExchangeDue = Callable[[TokenSpec, float, Lifetime], float]


def find_due(
    specs: Iterable[TokenSpec],
    login: Login,
    now: float,
    min_lifetime: float,
    find_time: FindTime,
) -> dict[TokenId, Due]:
    """The login's tokens that are there, and when each is due: of an exchange, the subject token.

    ``now``: seconds since the epoch. ``min_lifetime`` (seconds) is for specs that name none.
    """
    specs, found = list(specs), {}
    by_key = {id(spec.key): spec for spec in specs}  # a callable may have no hash
    tokens = {key: select_found(spec, login, now) for key, spec in by_key.items()}
    for spec in specs:
        if (token := tokens[id(spec.key)]).value is not None:
            # What is exchanged has a life of its own.
            asked = min_lifetime if spec.exchange else spec.find_min_lifetime(min_lifetime)
            lifetime = token.lifetime
            life = lifetime.left(now) if math.isinf(lifetime.total) else lifetime.total
            due = Due(find_time(lifetime, asked), lifetime.ends_at, life)
            found[spec.name, hash(token.value)] = due
    return found


def find_hook_due(tokens: Iterable[Token], min_lifetime: float, find_time: FindTime) -> float:
    """When ``tokens_hook`` is to be called again for these; infinite if none of its values ends."""
    times = [
        find_time(token.lifetime, token.spec.find_min_lifetime(min_lifetime))
        for token in tokens
        if token.from_hook and token.value is not None and token.lifetime.expires_at is not None
    ]
    return min(times, default=math.inf)


def keep_lives(tokens: Iterable[Token], before: Iterable[Token]) -> list[Token]:
    """The tokens; what ``tokens_hook`` gave ``before``, too, has lived since then."""
    lives = {(token.spec.name, token.value): token.lifetime for token in before if token.from_hook}
    kept = []
    for token in tokens:
        life = lives.get((token.spec.name, token.value), token.lifetime)
        is_same = token.from_hook and life.expires_at == token.lifetime.expires_at
        kept.append(replace(token, lifetime=life) if is_same else token)
    return kept
