"""A token's lifetime: when it was issued, when it ends, and how long it is."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, NamedTuple

_LATEST_TIME = 253402300799.0  # the end of the year 9999, the last that ISO 8601 can write


# A token's name and the hash of its value.
TokenId = tuple[str, int]


class Due(NamedTuple):
    """When a token should be renewed, and when it ends: seconds since the epoch.

    ``life``: how long it lives in all, in seconds; infinite if unknown.
    """

    stale_at: float
    ends_at: float
    life: float = math.inf

    def set_back(self, seconds: float) -> Due:
        """The same, now that the clock was set back by so many seconds."""
        return Due(-math.inf, self.ends_at - seconds, self.life) if seconds else self


# Seconds that an issue time may be later than the Hub's clock: times of providers are rounded.
_ROUNDING = 2.0


@dataclass(frozen=True)
class Lifetime:
    """Times in seconds since the epoch, ``None`` where unknown.

    ``total`` is in seconds, infinite where unknown.
    """

    issued_at: float | None = None
    expires_at: float | None = None
    total: float = math.inf

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

        Infinite if its end is not known; minus infinity if only its age is not.
        """
        if self.expires_at is None:
            return self._without_end
        return self.expires_at - self.asked(min_lifetime)

    def stale_at(self, min_lifetime: float, delay: float, spread: float) -> float:
        """When the token should be renewed, in seconds since the epoch.

        That is when less than ``min_lifetime``, ``delay`` (seconds that a new token needs to reach
        the server) or a fifth of its life is left, and earlier by up to a tenth: ``spread``, from 0
        to 1, scatters tokens that were issued together. It is never before half of its life is
        over. Infinite if its end is not known; minus infinity if only its age is not.
        """
        if self.expires_at is None:
            return self._without_end
        if math.isinf(self.total):
            return self.expires_at - max(min_lifetime, delay) * (1 + spread / 10)
        earliest = max(min_lifetime, delay, self.total / 5) + self.total / 10
        begin = self.expires_at - min(earliest, self.total / 2)
        return begin + self.total / 10 * spread

    @property
    def _without_end(self) -> float:
        # A known life that began at an unknown time may be over. Where the life is not known, a
        # renewal would bring another token of which nothing is known.
        return math.inf if math.isinf(self.total) else -math.inf


def find_lifetime(value: str, source: Mapping[str, Any], now: float = math.inf) -> Lifetime:
    """A token's lifetime, from its value and what the provider answered with it.

    A life is ``expires_in`` (RFC 6749, section 5.1) or a JWT's ``exp − iat`` (RFC 7519, section
    4.1). It begins at ``created_at``, which is the Hub's time of asking where the Hub asked, or at
    ``iat``; neither is believed if it is later than ``now``. Where no life is known, the end is
    ``expires_at`` or ``exp``, by the provider's clock.
    """
    claims = jwt_claims(value)
    iat, exp = _time(claims.get("iat")), _time(claims.get("exp"))
    total = _time(source.get("expires_in"))
    if total is None and iat is not None and exp is not None:
        total = _time(exp - iat)
    times = [at for at in (_time(source.get("created_at")), iat) if at is not None]
    issued_at = next((at for at in times if at <= now + _ROUNDING), None)
    end = _time(source.get("expires_at")) or exp
    if total is None:
        if issued_at is None or end is None or end <= issued_at:
            return Lifetime(issued_at, end)
        return Lifetime(issued_at, end, end - issued_at)
    if issued_at is not None:
        return Lifetime(issued_at, min(issued_at + total, _LATEST_TIME), total)
    if end is None or times:  # which are in the future: the provider's clock is not believed
        return Lifetime(None, None, total)
    return Lifetime(_time(end - total), end, total)


def find_life_until(end: Any, now: float) -> Lifetime | None:
    """The lifetime from ``now`` to an end, in seconds since the epoch or ISO 8601.

    A time without an offset is UTC. ``None`` if it is neither.
    """
    at = _time(end)
    if at is None and isinstance(end, str):
        try:  # Python 3.10 knows no "Z", and no nanoseconds
            moment = datetime.fromisoformat(re.sub(r"[.,]\d+", "", end).replace("Z", "+00:00"))
            at = (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()
        except (ValueError, OverflowError):
            return None
    if at is None:
        return None
    return Lifetime(now, at, at - now) if at > now else Lifetime(None, at)


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
