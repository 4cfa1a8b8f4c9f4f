"""When the tokens of a login are due to be renewed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from .lifetime import Due, Lifetime, TokenId
from .selection import Login, select_value
from .spec import TokenSpec

# By a token's lifetime and the seconds that it has to live: a time in seconds since the epoch.
FindTime = Callable[[Lifetime, float], float]


def find_due(
    specs: Iterable[TokenSpec],
    login: Login,
    now: float,
    min_lifetime: float,
    find_time: FindTime,
) -> dict[TokenId, Due]:
    """The tokens that are there, and when each is due.

    ``now``: seconds since the epoch. ``min_lifetime`` (seconds) is for specs that name none.
    """
    specs, found = list(specs), {}
    by_key = {id(spec.key): spec for spec in specs}  # a callable may have no hash
    tokens = {key: select_value(spec, login, now) for key, spec in by_key.items()}
    for spec in specs:
        if (token := tokens[id(spec.key)]).value is not None:
            asked = min_lifetime if spec.min_lifetime is None else spec.min_lifetime
            lifetime = token.lifetime
            life = lifetime.left(now) if math.isinf(lifetime.total) else lifetime.total
            due = Due(find_time(lifetime, asked), lifetime.ends_at, life)
            found[spec.name, hash(token.value)] = due
    return found
