"""The contract: what every backend promises of its files."""

from __future__ import annotations

import asyncio
import math

import pytest

from ..tokens.files import PUBLIC_FILE
from .checks import describe
from .contents import DIFFICULT_NAMES, Files
from .platform import Servers
from .privacy import PrivacyContract
from .removal import RemovalContract


class DeliveryContract(PrivacyContract, RemovalContract):
    """What every backend promises of its files. The tests of one inherit it::

        class TestMySpawner(DeliveryContract):
            spawner_class = MySpawner

    That is enough for a backend whose files are on this machine as soon as they are delivered.
    Others override how a server is started and stopped (:meth:`start`, :meth:`stop`), how its
    process reads a file (:meth:`read_file`), how a test looks at files (:meth:`can_others_read`,
    :meth:`list_stored`), and how it makes a delivery fail (:meth:`obstructed`). Where a Hub that
    has nothing but a database is not enough, they override the fixture ``make_spawner``.
    """

    @pytest.mark.asyncio
    async def test_a_server_finds_all_of_its_files_whole(self, servers: Servers) -> None:
        """With every name that a token can have, and none of what has nothing to hold."""
        files: dict[str, bytes | None] = {name: f"of {name}".encode() for name in DIFFICULT_NAMES}
        files |= {**self.difficult_values, "t": None}
        files |= self._make_public(await servers.make(), None)
        await self._expect(await servers.start(files), files)

    @pytest.mark.asyncio
    async def test_a_running_server_sees_what_changed_and_keeps_the_rest(
        self, servers: Servers
    ) -> None:
        def public(contents: bytes | None) -> Files:
            return self._make_public(unstarted, contents)

        unstarted = await servers.make()
        files = {"t": b"old", "t.json": b"{}", "u": b"value", "v": None, **public(b"old")}
        spawner = await self._start_changeable(servers, files)
        changes: list[Files] = [
            {"t": b"new", **public(b"new")},
            {"t": None, "v": b"came", **public(None)},
            self.difficult_values,
            {"t": b"back", "u": b"shorter", **public(b"back")},
        ]
        for each in changes:
            files |= each
            await spawner.deliver_files(files)
            await self._expect(spawner, files)
            if files.get(PUBLIC_FILE) is not None:
                can_read = await self.can_others_read(spawner, spawner.tokens_public_path)
                assert can_read, f"others cannot read {PUBLIC_FILE} any more"
        # While a server is shared, only what it must not have is delivered, and withdrawn by that.
        spawner._tokens_delivery.running = True
        await spawner.deliver_files({"t": None, "t.json": b"shared"})
        await self._expect(spawner, {**files, "t": None, "t.json": b"shared"})

    @pytest.mark.asyncio
    async def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(
        self, servers: Servers
    ) -> None:
        letters = [bytes([letter]) for letter in range(ord("a"), ord("z") + 1)]
        spawner = await self._start_changeable(servers, {"t": letters[0] * 50_000})
        reads, over = 0, asyncio.Event()

        async def read() -> None:
            nonlocal reads
            while True:
                is_last = over.is_set()
                contents = await self.read_file(spawner, self._find_path(spawner, "t"))
                is_whole = contents and len(contents) == 50_000 and len(set(contents)) == 1
                assert is_whole, f"{describe(contents)} in place of 50000 of one kind"
                reads += 1
                if is_last:
                    return
                await asyncio.sleep(0)  # read_file() may not wait for anything

        reading = asyncio.create_task(read())
        for number in range(self.rewrites):
            await spawner.deliver_files({"t": letters[number % len(letters)] * 50_000})
            await asyncio.sleep(0)
            if reading.done():
                break
        over.set()
        await reading
        assert reads > 1

    @pytest.mark.asyncio
    async def test_what_cannot_be_delivered_is_an_oserror_and_leaves_nothing(
        self, servers: Servers
    ) -> None:
        before = await self.list_stored(await servers.make())
        spawner = await servers.start({"t": b"old"})
        await self._expect_failure(spawner, self._obstructed(servers, spawner))
        if spawner.delivery_delay < math.inf:  # later it can be
            await spawner.deliver_files({"t": b"new"})
            await self._expect(spawner, {"t": b"new"})
            await self._expect_failure(spawner, self._obstructed(servers, spawner))
            await servers.stop(spawner)
        await spawner.withdraw_files()
        await self._expect_nothing_left(spawner, before)
        if not spawner.delivers_in_start:
            await self._expect_failure(spawner, self.obstructed(spawner))
            await spawner.withdraw_files()
            await self._expect_nothing_left(spawner, before)
