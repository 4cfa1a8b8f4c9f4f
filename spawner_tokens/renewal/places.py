"""Places: how much work is done at a time, and which work is next."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

# Compared one number after the other.
Priority = tuple[float, ...]


class PrioritySemaphore:
    """A semaphore whose next place goes to the waiting task with the least ``priority``."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._order = count()
        self._waiting: list[tuple[Priority, int, asyncio.Future[None]]] = []

    async def acquire(self, priority: Priority) -> None:
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (priority, next(self._order), turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()
            raise

    def release(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class Places:
    """Places for all users. Work that failed before has only some of them.

    So what keeps failing, or hanging, does not keep the others waiting.
    """

    def __init__(self, places: int, for_retries: int) -> None:
        self._places = PrioritySemaphore(places)
        self._retries = PrioritySemaphore(for_retries)

    @asynccontextmanager
    async def take(
        self, priority: Priority = (), *, is_retry: bool, seconds: float | None = None
    ) -> AsyncIterator[None]:
        """Wait for a place, and keep it meanwhile, but for at most so many ``seconds``.

        The least ``priority`` is first.
        """
        held: list[PrioritySemaphore] = []

        def release() -> None:
            while held:
                held.pop().release()

        timer = None
        try:
            for semaphore in (self._retries, self._places) if is_retry else (self._places,):
                await semaphore.acquire(priority)
                held.append(semaphore)
            if seconds is not None:
                timer = asyncio.get_running_loop().call_later(seconds, release)
            yield
        finally:
            if timer is not None:
                timer.cancel()
            release()
