"""What a running server has lost is delivered again where its tokens are not renewed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from ..foreign import run_foreign
from ..redaction import describe_error
from ..tokens.selection import Login
from .pace import backoff
from .places import Places
from .schedule import DELIVERY_TIMEOUT

# Seconds for which a withdrawal from a server that is shared keeps a place.
_WITHHOLD_TIME = 1.0


async def restore(
    server: Any, read: Callable[[], Awaitable[Login]], name: str, log: logging.Logger
) -> None:
    """Update a running server that has lost its files, and whose tokens are not renewed.

    ``read`` gives the login as it is stored. For more, see :func:`withhold`.
    """

    async def update(_: bool) -> None:
        change = await server.prepare(await read(), False) if server.running else None
        if change is not None:
            await server.update(change)

    await _keep_trying(update, server, name, log)


async def withhold(server: Any, places: Places, name: str, log: logging.Logger) -> None:
    """Withdraw from a running server what it must not have while it is shared.

    ``name`` is the server's in the log. What fails is tried again, ever later, while it runs. One
    that hangs keeps one of the ``places`` for a moment alone.
    """

    async def withdraw(is_retry: bool) -> None:
        async with places.take(is_retry=is_retry, seconds=_WITHHOLD_TIME):
            await run_foreign(server.withhold(), DELIVERY_TIMEOUT)

    await _keep_trying(withdraw, server, name, log)


async def _keep_trying(
    attempt: Callable[[bool], Awaitable[object]], server: Any, name: str, log: logging.Logger
) -> None:
    """``attempt`` is called with whether it has failed before."""
    failures = 0
    while True:
        try:
            await attempt(failures > 0)
            return
        except Exception as error:
            if not failures:
                log.error("Cannot deliver to %s yet: %s", name, describe_error(error))
            failures += 1
            await asyncio.sleep(backoff(failures))
        if not server.running:
            return
