"""Waiting for what tests wait for."""

import asyncio
import inspect
import time


async def until(condition, seconds=30, pause=0.02):
    """The first true value of a function, which may be async."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if inspect.isawaitable(value):
            value = await value
        if value:
            return value
        assert time.monotonic() < deadline, condition
        await asyncio.sleep(pause)
