"""A token's lifetime: when it began, when it ends, how long it lives in all."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LATEST_TIME = 253402300799.0  # the end of the year 9999, the last that ISO 8601 can write


@dataclass(frozen=True)
class Lifetime:
    """Times in seconds since the epoch, ``None`` where unknown; ``total`` in seconds, infinite where unknown."""

    issued_at: float | None = None
    expires_at: float | None = None
    total: float = math.inf

    def left(self, now: float) -> float:
        """Seconds that the token still lives; infinite where its end is not known."""
        return math.inf if self.expires_at is None else self.expires_at - now


def find_lifetime(value: str, source: Mapping[str, Any]) -> Lifetime:
    """A token's lifetime, from its value and what the provider answered with it.

    In this order: an explicit ``expires_at``; a JWT's own ``exp`` (RFC 7519, section 4.1.4);
    ``created_at`` (Doorkeeper, so GitLab) and ``expires_in`` (RFC 6749, section 5.1), which is
    relative and alone says nothing of the end.
    """
    claims = jwt_claims(value)
    issued_at = _time(source.get("created_at")) or _time(claims.get("iat"))
    expires_at = _time(source.get("expires_at")) or _time(claims.get("exp"))
    total = _time(source.get("expires_in"))
    if expires_at is None and issued_at is not None and total is not None:
        expires_at = _time(issued_at + total)
    if total is None and expires_at is not None and issued_at is not None:
        total = _time(expires_at - issued_at)
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
    """The claims of a JWT (RFC 7519), unverified: they only describe it. Empty for any other text."""
    parts = value.split(".")
    if len(parts) != 3:
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, Mapping) else {}
