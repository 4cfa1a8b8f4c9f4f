"""What is left after files were withdrawn or swept: nothing of them, and all other files."""

from __future__ import annotations

import math

import pytest

from ..backend import TokenBackend
from .checks import Checks
from .contents import Files
from .platform import Servers


class RemovalContract(Checks):
    """The part of the contract about what is left of a server."""

    @pytest.mark.asyncio
    async def test_what_was_withdrawn_is_not_there_when_the_server_starts_again(
        self, servers: Servers
    ) -> None:
        public = self._make_public(await servers.make(), b"old")
        await servers.stop(await servers.start({"t": b"old", "u": b"old", **public}))
        # Another Spawner than the one that delivered, as a Hub has that was started since.
        await (await servers.make()).withdraw_files()
        again = await servers.start({"u": b"new"})
        await self._expect(again, {"t": None, "u": b"new", **dict.fromkeys(public)})

    @pytest.mark.asyncio
    async def test_withdrawing_twice_or_nothing_is_no_error(self, servers: Servers) -> None:
        spawner = await servers.make()
        await spawner.withdraw_files()
        spawner = await servers.start({"t": b"value"})
        await servers.stop(spawner)
        for _ in range(2):
            await spawner.withdraw_files()
        await (await servers.make()).withdraw_files()

    @pytest.mark.asyncio
    async def test_nothing_is_left_of_servers_that_have_stopped(self, servers: Servers) -> None:
        before = await self.list_stored(await servers.make())
        started = [
            await servers.start({"t": b"old", "u": b"value"}, server=server) for server in ("", "x")
        ]
        first = await self._list_new(started[0], before)
        if started[0].delivery_delay < math.inf:
            for spawner in started:
                await spawner.deliver_files({"t": b"new", "u": b"value"})
            second = await self._list_new(started[0], before)
            assert len(second) <= len(first), f"a delivery leaves behind: {sorted(second - first)}"
        for spawner in started:
            await self._stop_and_withdraw(servers, spawner)
        await self._expect_nothing_left(spawner, before)

    @pytest.mark.asyncio
    async def test_nothing_is_left_of_a_delivery_that_failed(self, servers: Servers) -> None:
        before = await self.list_stored(await servers.make())
        spawner = await servers.start({"t": b"old"})
        async with self._obstructed(servers, spawner):
            with pytest.raises(OSError):
                await spawner.deliver_files({"t": b"new", "u": b"value"})
        if spawner.delivery_delay < math.inf:
            await servers.stop(spawner)
        await spawner.withdraw_files()
        await self._expect_nothing_left(spawner, before)

    @pytest.mark.asyncio
    async def test_servers_have_nothing_of_each_other(self, servers: Servers) -> None:
        # The first one's name is the beginning of the others', whatever joins user and server.
        first, second = self.users
        started, files = await self._start_several(
            servers, [(first, ""), (first, "x"), (second, "")]
        )
        for key in ((first, ""), (first, "x")):
            await self._stop_and_withdraw(servers, started.pop(key))
            await self._expect_all(started, files)
            started[key] = await servers.start(files[key], *key)

    @pytest.mark.asyncio
    async def test_a_sweep_leaves_the_files_of_running_servers_alone(
        self, servers: Servers
    ) -> None:
        first, second = self.users
        started, files = await self._start_several(
            servers, [(first, ""), (first, "x"), (second, "")]
        )
        gone = await servers.start({"t": b"value"}, server="y")
        await servers.stop(gone)
        await gone.sweep_files()
        await self._expect_all(started, files)
        await gone.withdraw_files()

    @pytest.mark.asyncio
    async def test_a_sweep_removes_what_a_hub_that_was_killed_has_left(
        self, servers: Servers
    ) -> None:
        first, second = self.users
        other = await servers.make(second)
        if type(other).sweep_files is TokenBackend.sweep_files:
            pytest.skip("sweep_files() does nothing: what is left stays until the next start")
        # A server runs whose name begins like the others'.
        await servers.start({"t": b"value"}, server="x")
        files: Files = {"t": b"value", "u": b"another"}
        before, gone = {}, {}
        for key in ((first, ""), (first, "xx"), (second, "")):
            before[key] = await self.list_stored(await servers.make(*key))
            gone[key] = await servers.start(files, *key)
            await self._list_new(gone[key], before[key])
        for spawner in gone.values():
            await servers.stop(spawner)
        await other.sweep_files()
        for key, spawner in gone.items():
            await self._expect_nothing_left(spawner, before[key])
