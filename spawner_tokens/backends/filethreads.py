"""Threads for work on files, since a file system may hang: the Hub goes on meanwhile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

# Seconds to wait for a file system.
_TIMEOUT = 10.0
# Threads that may hang in a Hub.
_MOST_HANGING = 50

_T = TypeVar("_T")


class FileSystemHangs(TimeoutError):
    """What was asked for may still be done."""

    discreet = True  # see describe_error()


class FileThreads:
    """One for each Hub.

    For each server there is at most one thread: what comes later waits for what began earlier.
    """

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Future[Any]] = {}
        self._hanging: set[Hashable] = set()

    @classmethod
    def from_hub(cls, hub: Any) -> FileThreads:
        """The one of a :class:`~spawner_tokens.hub.TokenHub`."""
        threads: FileThreads = hub.known.setdefault(cls, cls())
        return threads

    async def run(
        self, server: Hashable, work: Callable[..., _T], *arguments: Any, at_last: bool = False
    ) -> _T:
        """What ``work`` returns, called in a thread. Raises what it raises.

        Raises :exc:`FileSystemHangs` after ten seconds. What has begun then goes on, and until
        its end all else for this ``server`` fails at once. ``at_last``: it is done after that end.
        """
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while (earlier := self._running.get(server)) is not None and not earlier.done():
            await self._wait(server, earlier, deadline, *((work, *arguments) if at_last else ()))
        if len(self._hanging) >= _MOST_HANGING:
            raise FileSystemHangs("the file systems of too many servers hang")
        mine: asyncio.Future[_T] = self._start(server, work, *arguments)
        await self._wait(server, mine, deadline)
        return mine.result()

    async def _wait(
        self, server: Hashable, future: asyncio.Future[Any], deadline: float, *afterwards: Any
    ) -> None:
        if server not in self._hanging:
            seconds = deadline - asyncio.get_running_loop().time()
            await asyncio.wait({future}, timeout=max(0.0, seconds))
        if not future.done():
            self._hanging.add(server)
            if afterwards:
                future.add_done_callback(lambda _: self._start(server, *afterwards))
            raise FileSystemHangs("its file system hangs")

    def _start(
        self, server: Hashable, work: Callable[..., _T], *arguments: Any
    ) -> asyncio.Future[_T]:
        promise: concurrent.futures.Future[_T] = concurrent.futures.Future()
        future = self._running[server] = asyncio.wrap_future(promise)
        future.add_done_callback(lambda _: self._finish(server, future))
        # Not one of the Hub's own threads, which it needs, and waits for when it ends.
        arguments = promise, work, arguments
        threading.Thread(
            target=_work, args=arguments, name="spawner-tokens-files", daemon=True
        ).start()
        return future

    def _finish(self, server: Hashable, future: asyncio.Future[Any]) -> None:
        if self._running.get(server) is future:
            del self._running[server]
        self._hanging.discard(server)
        if not future.cancelled():
            future.exception()  # it may be that nobody waits for it any more


def _work(
    promise: concurrent.futures.Future[Any], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        promise.set_result(work(*arguments))
    except BaseException as error:
        promise.set_exception(error)
