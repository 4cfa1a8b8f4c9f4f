"""A token's lifetime: when it was issued, when it ends, and how long it is."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_LATEST_TIME = 253402300799.0  # the end of the year 9999, the last that ISO 8601 can write


# A token's name and the hash of its value.
TokenId = tuple[str, int]


class Due(NamedTuple):
    """When a token should be renewed, and when it ends: seconds since the epoch."""

    stale_at: float
    ends_at: float


@dataclass(frozen=True)
class Lifetime:
    """Times in seconds since the epoch, ``None`` where unknown.

    ``total`` is in seconds, infinite where unknown.
    """

    issued_at: float | None = None
    expires_at: float | None = None
    total: float = math.inf

    @property
    def is_known(self) -> bool:
        """Whether the token's age is known."""
        return self.issued_at is not None or self.expires_at is not None

    @property
    def ends_at(self) -> float:
        """Seconds since the epoch; infinite where it is not known."""
        return math.inf if self.expires_at is None else self.expires_at

    def left(self, now: float) -> float:
        """Seconds that the token still lives; infinite where its end is not known."""
        return self.ends_at - now

    def asked(self, min_lifetime: float) -> float:
        """Seconds that it has to live: at most half of the life that the provider gives it."""
        return min(min_lifetime, self.total / 2)

    def short_at(self, min_lifetime: float) -> float:
        """When less than :meth:`asked` will be left, in seconds since the epoch.

        Infinite if the token has no end, minus infinity if its age is unknown.
        """
        if self.expires_at is None:
            return math.inf if self.is_known else -math.inf
        return self.expires_at - self.asked(min_lifetime)

    def stale_at(self, min_lifetime: float, delay: float, spread: float) -> float:
        """When the token should be renewed, in seconds since the epoch.

        That is when less than ``min_lifetime``, ``delay`` (seconds that a new token needs to reach
        the server) or a fifth of its life is left, and earlier by up to a tenth: ``spread``, from 0
        to 1, scatters tokens that were issued together. It is never before half of its life is
        over. Infinite if the token has no end, minus infinity if its age is unknown.
        """
        if self.expires_at is None:
            return math.inf if self.is_known else -math.inf
        if math.isinf(self.total):
            return self.expires_at - max(min_lifetime, delay) * (1 + spread / 10)
        earliest = max(min_lifetime, delay, self.total / 5) + self.total / 10
        begin = self.expires_at - min(earliest, self.total / 2)
        return begin + self.total / 10 * spread


def find_lifetime(value: str, source: Mapping[str, Any]) -> Lifetime:
    """A token's lifetime, from its value and what the provider answered with it.

    In this order: an explicit ``expires_at``; a JWT's own ``exp`` (RFC 7519, section 4.1.4);
    ``created_at`` (Doorkeeper, so GitLab) and ``expires_in`` (RFC 6749, section 5.1), which is
    relative, and alone does not give the end.
    """
    claims = jwt_claims(value)
    issued_at = _time(source.get("created_at")) or _time(claims.get("iat"))
    expires_at = _time(source.get("expires_at")) or _time(claims.get("exp"))
    total = _time(source.get("expires_in"))
    if expires_at is None and issued_at is not None and total is not None:
        expires_at = _time(issued_at + total)
    if total is None and expires_at is not None and issued_at is not None:
        total = _time(expires_at - issued_at)
    if issued_at is None and expires_at is not None and total is not None:
        issued_at = _time(expires_at - total)
    return Lifetime(issued_at, expires_at, math.inf if total is None else total)


def _time(value: Any) -> float | None:
    """A number of seconds, given as a number or as its text."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if 0 < number <= _LATEST_TIME else None


def jwt_claims(value: str) -> Mapping[str, Any]:
    """The claims of a JWT (RFC 7519), unverified. Empty for any other text."""
    parts = value.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, Mapping) else {}
