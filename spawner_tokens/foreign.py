"""Foreign code: hooks and authenticators, whose cancellations, hangs and errors are not ours."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from jupyterhub.utils import maybe_future


class ForeignCancelled(OSError):
    """Foreign code was cancelled, or raised an error that is no :exc:`Exception`.

    Our own task was not cancelled. Some packages raise such errors for their timeouts.
    """


async def call_foreign(function: Callable[..., Any], *arguments: Any) -> Any:
    """What foreign code returns, as :func:`run_foreign`, though it may be synchronous."""

    async def call() -> Any:
        return await maybe_future(function(*arguments))

    return await run_foreign(call())


async def run_foreign(result: Any, seconds: float | None = None) -> Any:
    """What foreign code returns in the end.

    Waits for at most so many ``seconds``. Raises what the code raises, :exc:`asyncio.TimeoutError`
    and :exc:`ForeignCancelled`; :exc:`asyncio.CancelledError` only if the caller is cancelled.
    """
    task = maybe_future(result)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        # An error that comes after that would be logged with its text, which may have a token.
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        task.cancel()
    if not done:
        raise asyncio.TimeoutError
    if task.cancelled() or not isinstance(task.exception(), (Exception, type(None))):
        raise ForeignCancelled
    return task.result()
