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
    """One running server's: calls ``call`` when it is ``find_due()``, by ``clock``.

    Both clocks give seconds since the epoch. Values that are due at once are called for ever later.
    """

    def __init__(
        self, find_due: Callable[[], float], call: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._find_due = find_due
        self._call = call
        self._clock = clock
        self._idle = 0  # calls in a row whose values were due at once
        self._not_before = 0.0  # by the event loop's clock
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
        self._not_before = asyncio.get_running_loop().time() + pause
        self._offset = find_offset(self._clock)
        self._wait()

    def _wait(self) -> None:
        self.cancel()
        loop, due_at = asyncio.get_running_loop(), self._find_due()
        if math.isinf(due_at) and due_at > 0:
            return
        was_set_back = self._offset - find_offset(self._clock) > DRIFT
        left = 0.0 if was_set_back else due_at - self._clock()
        seconds = max(left, self._not_before - loop.time())
        if seconds > 0:
            self._timer = loop.call_later(min(seconds, LONGEST_TIMER), self._wait)
        else:
            self._call()
