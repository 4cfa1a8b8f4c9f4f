"""What several tests of the contract do: start servers, look at files, make deliveries fail."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from ..tokens.files import PUBLIC_FILE
from .contents import Files
from .platform import Platform, Servers, expect_here


class Checks(Platform):
    """The helpers of the contract's tests."""

    async def _start_changeable(self, servers: Servers, files: Files) -> Any:
        if (await servers.make()).delivery_delay == math.inf:
            pytest.skip("delivery_delay is infinite: a running server sees nothing new")
        return await servers.start(files)

    def _make_public(self, spawner: Any, contents: bytes | None) -> Files:
        """The file that everybody may read, where the backend delivers it."""
        return {} if spawner.tokens_public_path is None else {PUBLIC_FILE: contents}

    @asynccontextmanager
    async def _obstructed(self, servers: Servers, spawner: Any) -> AsyncIterator[None]:
        """Deliveries to this server fail meanwhile. It runs with a file ``t``.

        It is stopped first where a running server sees nothing new.
        """
        if type(self).obstructed is Platform.obstructed:
            expect_here(self._find_path(spawner, "t"))
        if spawner.delivery_delay == math.inf:
            await self._stop_and_withdraw(servers, spawner)
        async with self.obstructed(spawner):
            yield

    async def _expect_failure(
        self, spawner: Any, obstructed: AbstractAsyncContextManager[None]
    ) -> None:
        async with obstructed:
            with pytest.raises(OSError):
                await spawner.deliver_files({"t": b"new", "u": b"value"})

    async def _stop_and_withdraw(self, servers: Servers, spawner: Any) -> None:
        await servers.stop(spawner)
        await spawner.withdraw_files()

    async def _list_new(self, spawner: Any, before: set[str]) -> set[str]:
        """What is stored since the server runs."""
        found = await self.list_stored(spawner) - before
        assert found, "list_stored() shows nothing of a running server: override it"
        return found

    async def _expect_nothing_left(self, spawner: Any, before: set[str]) -> None:
        left = await self.list_stored(spawner) - before
        assert not left, f"left behind: {sorted(left)}"

    async def _expect(self, spawner: Any, files: Files) -> None:
        """The server sees these files, within ``delivery_delay``."""
        delay = 0.0 if spawner.delivery_delay == math.inf else spawner.delivery_delay
        deadline = time.monotonic() + delay
        for name, contents in files.items():
            path = self._find_path(spawner, name)
            right = {contents, b""} if name == PUBLIC_FILE and contents is None else {contents}
            while (found := await self.read_file(spawner, path)) not in right:
                words = f"{name}: {describe(found)} in place of {describe(contents)}"
                assert time.monotonic() < deadline, words
                await asyncio.sleep(min(0.2, delay / 10))

    async def _expect_all(self, started: Mapping[Any, Any], files: Mapping[Any, Files]) -> None:
        for key, spawner in started.items():
            await self._expect(spawner, files[key])

    def _find_path(self, spawner: Any, name: str) -> str:
        if name == PUBLIC_FILE:
            return str(spawner.tokens_public_path)
        return f"{spawner.tokens_directory}/{name}"


def describe(contents: bytes | None) -> str:
    """Contents as an assertion's text shows them: by their length alone."""
    return "no file" if contents is None else f"{len(contents)} bytes"
