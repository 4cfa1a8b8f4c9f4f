"""What is left after files were withdrawn or swept: nothing of them, and all other files."""

from __future__ import annotations

import asyncio
import math

import pytest

from ..backend import TokenBackend
from ..sweep import Sweeps
from .checks import Checks
from .contents import Files
from .platform import Servers, set_running


class RemovalContract(Checks):
    """The part of the contract about what is left of a server."""

    @pytest.mark.asyncio
    async def test_nothing_is_left_of_a_server_that_has_stopped(self, servers: Servers) -> None:
        spawner = await servers.make()
        await spawner.withdraw_files()  # nothing, which is not an error
        before = await self.list_stored(spawner)
        public = self._make_public(spawner, b"old")
        files: Files = {"t": b"old", "u": b"old", **public}
        spawner = await servers.start(files)
        first = await self._list_new(spawner, before)
        if spawner.delivery_delay < math.inf:
            await spawner.deliver_files({**files, "t": b"new"})
            second = await self._list_new(spawner, before)
            assert len(second) <= len(first), f"a delivery leaves behind: {sorted(second - first)}"
        await servers.stop(spawner)
        # Another Spawner than the one that delivered, as a Hub has that was started since.
        again = await servers.make()
        for _ in range(2):
            await again.withdraw_files()
        await self._expect_nothing_left(again, before)
        again = await servers.start({"u": b"new"})
        await self._expect(again, {"t": None, "u": b"new", **dict.fromkeys(public)})

    @pytest.mark.asyncio
    async def test_servers_at_once_have_nothing_of_each_other(self, servers: Servers) -> None:
        # The first one's name is the beginning of the others', whatever joins user and server.
        first, second = self.users
        keys = [(first, ""), (first, "x"), (second, "")]
        files: dict[tuple[str, str], dict[str, bytes | None]] = {}
        for key in keys:
            files[key] = {file: "".join((file, *key)).encode() * 9999 for file in ("t", "u")}
            files[key] |= self._make_public(await servers.make(*key), "of".join(key).encode())
        spawners = await asyncio.gather(*(servers.start(files[key], *key) for key in keys))
        started = dict(zip(keys, spawners, strict=True))
        await self._expect_all(started, files)
        for _ in range(_ROUNDS if spawners[0].delivery_delay < math.inf else 0):
            for key in keys:
                files[key] = {name: (text or b"")[::-1] for name, text in files[key].items()}
            await asyncio.gather(*(started[key].deliver_files(files[key]) for key in keys))
            await self._expect_all(started, files)
        await self._stop_and_withdraw(servers, started.pop(keys[0]))
        await self._expect_all(started, files)
        started[keys[0]] = await servers.start(files[keys[0]], *keys[0])
        await self._stop_and_withdraw(servers, started.pop(keys[1]))
        await self._expect_all(started, files)

    @pytest.mark.asyncio
    async def test_a_sweep_removes_what_a_hub_that_was_killed_has_left_and_no_more(
        self, servers: Servers
    ) -> None:
        first, second = self.users
        other = await servers.make(second)
        if type(other).sweep_files is TokenBackend.sweep_files:
            pytest.skip("sweep_files() does nothing: what is left stays until the next start")
        files: Files = {"t": b"value", "u": b"another"}
        # A server runs whose name begins like the others'.
        runs = await servers.start(files, server="x")
        before, gone = {}, {}
        for key in ((first, ""), (first, "xx"), (second, "")):
            before[key] = await self.list_stored(await servers.make(*key))
            gone[key] = await servers.start(files, *key)
            await self._list_new(gone[key], before[key])
            set_running(gone[key], False)
        await other.tokens_hub.sweeps.run_once(other)  # this Hub's: they may start yet
        await self._expect_all(gone, dict.fromkeys(gone, files))
        for spawner in gone.values():
            await servers.stop(spawner)
        await Sweeps().run_once(other)  # that of a Hub that starts
        await self._expect(runs, files)
        for key, spawner in gone.items():
            await self._expect_nothing_left(spawner, before[key])


# How often several servers get files at once.
_ROUNDS = 5
