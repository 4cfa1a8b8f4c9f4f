"""The pace: how long renewals wait, after failures and after each other."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping

from ..tokens.lifetime import Due, TokenId

# Seconds to the next try after a failure: doubled each time, and scattered.
# Two renewals are at least the first of them apart.
FIRST_RETRY, LAST_RETRY = 1.0, 60.0
# The same after a renewal that left a token due: it brought nothing, and the next one may not, too.
FIRST_PAUSE, LAST_PAUSE = 2.0, 600.0
# Scheduled renewals are this share of a token's life apart, or so many seconds if the provider
# names no life.
_SHARE, _WITHOUT_LIFE = 0.2, 600.0


def backoff(failures: int, first: float = FIRST_RETRY, last: float = LAST_RETRY) -> float:
    """Seconds to wait after so many failures in a row, at least one."""
    return min(first * 2.0 ** min(failures - 1, 16), last) * random.uniform(0.5, 1)


class Pace:
    """How long scheduled renewals of one user have to wait, whatever the specs ask for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By the loop's clock, and the Hub's.
        self._asked_at: tuple[float, float] | None = None
        self._renewed_at: tuple[float, float] | None = None

    def note_request(self) -> None:
        """From here on counts the life that a renewal brings, however late it can be stored."""
        self._asked_at = asyncio.get_running_loop().time(), self._clock()

    def note_renewal(self) -> None:
        self._renewed_at = self._asked_at

    def find_left(self, life: float) -> float:
        """Seconds to the next renewal of tokens that live for ``life`` seconds; infinite: unknown.

        The loop's clock stands while the machine sleeps, and the Hub's may be set.
        """
        if self._renewed_at is None:
            return 0.0
        loop_time, time = self._renewed_at
        passed = max(asyncio.get_running_loop().time() - loop_time, self._clock() - time)
        return max(0.0, (_WITHOUT_LIFE if math.isinf(life) else life * _SHARE) - passed)


def find_shortest_life(due: Mapping[TokenId, Due]) -> float:
    """In seconds; infinite if no life is known."""
    return min((at.life for at in due.values() if at.life > 0), default=math.inf)
