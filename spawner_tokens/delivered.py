"""The files of one server that were delivered, by their digests: only what has changed is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from .metrics import count_delivery


class DeliveredFiles:
    """What a server has by now, as far as this Hub has delivered it."""

    def __init__(self, spawner: Any) -> None:
        self._spawner = spawner
        self._digests: Mapping[str, bytes] = {}  # by name

    def __contains__(self, name: str) -> bool:
        """Whether it is known what became of this file."""
        return name in self._digests

    def forget(self) -> None:
        """The server has none of them any more, as far as is known."""
        self._digests = {}

    async def deliver(
        self, files: Mapping[str, bytes | None], *, running: bool, are_all: bool = True
    ) -> set[str]:
        """Deliver these files if they have changed. ``are_all``: the server has no others.

        Returns the names of those that have changed. Raises what the backend raises.
        """
        before = self._digests
        after = dict({} if are_all else before)
        after |= {name: _digest(contents) for name, contents in files.items()}
        if after == before:
            return set()
        self._digests = {}
        try:
            await self._spawner.deliver_files(files)
        except BaseException:
            if self._spawner.tokens_running == running:  # else cancelled, since the server stops
                count_delivery(running=running, delivered=False)
            raise
        self._digests = after
        count_delivery(running=running, delivered=True)
        names = before.keys() | after.keys()
        return {name for name in names if before.get(name) != after.get(name)}


def _digest(contents: bytes | None) -> bytes:
    return b"" if contents is None else hashlib.sha256(contents).digest()
