"""Foreign code: hooks and authenticators, whose cancellations, hangs and errors are not ours."""

from __future__ import annotations

import asyncio
from typing import Any

from jupyterhub.utils import maybe_future


class ForeignCancelled(OSError):
    """What foreign code waited for was cancelled, and not what waits for it."""


async def run_foreign(result: Any, seconds: float | None = None) -> Any:
    """What a call of foreign code returned, or returns in the end, if it is asynchronous.

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
    if task.cancelled():
        raise ForeignCancelled
    return task.result()
