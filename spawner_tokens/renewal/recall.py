"""The recall: before what a hook or an exchange gave to a running server ends, it is due again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from .pace import FIRST_PAUSE, LAST_PAUSE, backoff

# Seconds. The event loop's timers do not follow a clock that was set, or a machine's sleep.
LONGEST_TIMER = 60.0
# Seconds by which the two clocks may drift apart between two looks.
DRIFT = 5.0


def find_offset(clock: Callable[[], float]) -> float:
    """Of the Hub's clock from the event loop's, in seconds: less after it was set back."""
    return clock() - asyncio.get_running_loop().time()


class RecallTimer:
    """One running server's: calls ``call`` when a hook or an exchange is due, by ``clock``.

    ``find_due()`` and ``find_exchange_due()`` say when. All are in seconds since the epoch. A
    hook's values that are due at once are called for ever later; exchanges have their own pace.
    """

    def __init__(
        self,
        find_due: Callable[[], float],
        find_exchange_due: Callable[[], float],
        call: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self._find_due = find_due
        self._find_exchange_due = find_exchange_due
        self._call = call
        self._clock = clock
        self._idle = 0  # calls in a row whose values were due at once
        # By the event loop's clock, for the hook and for exchanges.
        self._not_before = self._exchange_not_before = 0.0
        self._offset = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def set(self) -> None:
        """Begin anew: the server has what was given last."""
        self._idle = self._idle + 1 if self._find_due() <= self._clock() else 0
        pause = backoff(max(self._idle, 1), FIRST_PAUSE, LAST_PAUSE)
        now = asyncio.get_running_loop().time()
        self._not_before, self._exchange_not_before = now + pause, now + min(pause, FIRST_PAUSE)
        self._offset = find_offset(self._clock)
        self._wait()

    def _wait(self) -> None:
        self.cancel()
        loop = asyncio.get_running_loop()
        hook = self._find_left(self._find_due(), self._not_before - loop.time())
        exchange = self._find_left(
            self._find_exchange_due(), self._exchange_not_before - loop.time()
        )
        seconds = min(hook, exchange)
        if seconds == math.inf:
            return
        if seconds > 0:
            self._timer = loop.call_later(min(seconds, LONGEST_TIMER), self._wait)
        else:
            self._call()

    def _find_left(self, due_at: float, pause: float) -> float:
        """Seconds to a call; infinite if there is to be none."""
        was_set_back = self._offset - find_offset(self._clock) > DRIFT
        left = 0.0 if was_set_back and due_at < math.inf else due_at - self._clock()
        return max(left, pause)
