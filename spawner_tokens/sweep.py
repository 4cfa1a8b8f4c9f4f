"""The sweep: what servers that do not run any more left behind goes, and nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .redaction import describe_error

_AT_ONCE = 8  # removals
_LAST_RETRY = 600.0  # seconds: after a failure it waits for two, then each time for twice as long
_PATIENCE = 20.0  # seconds for a removal, and so for a start at its place
_FAILED = "Could not remove the token files that servers left behind"


@dataclass(frozen=True)
class Leftover:
    """What a server that does not run any more left behind.

    ``location``: those entries of the server's location that tell it from all others. ``remove``
    removes it. ``made_at``: seconds since the epoch; ``None`` if it is not known.
    """

    location: Mapping[str, Any]
    remove: Callable[[], Awaitable[object]]
    made_at: float | None = None


async def find_each(*sources: AsyncIterator[Leftover]) -> AsyncIterator[Leftover]:
    """What they all find. Raises the last of their errors, at the end."""
    failure = None
    for source in sources:
        try:
            async for left in source:
                yield left
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure


def parse_time(text: str) -> float:
    """Seconds since the epoch, of a time as engines write it: ``2006-01-02T15:04:05.99Z``."""
    return datetime.fromisoformat(text[:19] + "+00:00").timestamp()


async def _await(remove: Callable[[], Awaitable[object]]) -> None:
    await remove()  # raises here, too


@dataclass(eq=False)
class Sweeps:
    """A Hub's sweeps. They spare what is younger than the Hub.

    ``kept``: the location of each server that this Hub starts or runs, by its Spawner's row. They
    spare what is there, too. ``tasks`` has each backend's sweep, by its method.
    """

    started_at: float = field(default_factory=time.time)
    kept: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    tasks: dict[Any, asyncio.Task[None]] = field(default_factory=dict)
    _spawners: dict[Any, Any] = field(default_factory=dict)
    _removals: dict[asyncio.Future[Any], Leftover] = field(default_factory=dict)
    _logged: set[str] = field(default_factory=set)

    def begin(self, spawner: Any) -> None:
        """Begin the sweep of a Spawner's backend, if it has not begun; its newest one goes on."""
        method = type(spawner).sweep_files
        is_new = method not in self.tasks
        if is_new or method in self._spawners:
            self._spawners[method] = spawner
        if is_new:
            self.tasks[method] = asyncio.ensure_future(self._run(method))

    async def _run(self, method: Any) -> None:
        pause = 1.0
        while not await self.run_once(self._spawners[method]):
            pause = min(2 * pause, _LAST_RETRY)
            await asyncio.sleep(pause * random.uniform(0.5, 1))
        del self._spawners[method]  # with its user

    async def run_once(self, spawner: Any) -> bool:
        """Remove what is found. Returns whether nothing has failed; errors are logged once."""
        found, done = [], []
        try:
            async for left in spawner.sweep_files():
                found.append(left)
        except Exception as error:
            done.append(self._note_failure(spawner.log, "", error))
        slots = asyncio.Semaphore(_AT_ONCE)
        removals = (self._remove(spawner.log, left, slots) for left in found)
        return all([*done, *await asyncio.gather(*removals)])

    async def _remove(self, log: logging.Logger, left: Leftover, slots: asyncio.Semaphore) -> bool:
        async with slots:
            if self._is_spared(left):
                return True
            log.info("Removing what a server left behind: %s", dict(left.location))
            removal: asyncio.Future[Any] = asyncio.ensure_future(_await(left.remove))
            self._removals[removal] = left
            try:
                await asyncio.wait_for(removal, _PATIENCE)
            except Exception as error:
                return self._note_failure(log, f", at {dict(left.location)}", error)
            finally:
                del self._removals[removal]
            return True

    def _note_failure(self, log: logging.Logger, where: str, error: Exception) -> bool:
        if where not in self._logged:
            self._logged.add(where)
            log.error("%s%s: %s", _FAILED, where, describe_error(error))
        return False

    def _is_spared(self, left: Leftover) -> bool:
        if left.made_at is not None and left.made_at >= self.started_at:
            return True
        return any(left.location.items() <= each.items() for each in self.kept.values())

    def is_anothers(self, row: int, location: Mapping[str, Any]) -> bool:
        """Whether a server of another row starts or runs there."""
        kept = (each for other, each in self.kept.items() if other != row)
        return any(location.items() <= each.items() for each in kept)

    async def keep(self, row: int, location: Mapping[str, Any]) -> None:
        """Spare what is made at a location from here on, once nothing is removed there."""
        self.kept[row] = location
        removals = [
            removal
            for removal, left in self._removals.items()
            if left.location.items() <= location.items()
        ]
        if removals:
            await asyncio.wait(removals)
