"""What every backend promises of its files."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import pytest

from ..delivery import PUBLIC_FILE
from .contents import DIFFICULT_NAMES, Files
from .platform import Platform, Servers


class DeliveryContract(Platform):
    """What every backend promises of its files. The tests of one inherit it::

        class TestMySpawner(DeliveryContract):
            spawner_class = MySpawner

    As it is, that is enough for files that are on this machine as soon as they are delivered. Others say how a
    server is started and stopped (:meth:`start`, :meth:`stop`), how its process reads a file (:meth:`read_file`),
    and, where a Hub that only has a database is not enough, how a Spawner is made (the fixture ``make_spawner``).
    """

    @pytest.mark.asyncio
    async def test_a_server_finds_all_of_its_files_whole(self, servers: Servers) -> None:
        files = {"t": b"value", "t.json": b'{"status": "ok"}\n', "u": b"another"}
        await self._expect(await servers.start(files), files)

    @pytest.mark.asyncio
    async def test_difficult_contents_arrive_byte_for_byte(self, servers: Servers) -> None:
        await self._expect(await servers.start(self.difficult_values), self.difficult_values)

    @pytest.mark.asyncio
    async def test_every_name_that_a_token_can_have_is_a_file(self, servers: Servers) -> None:
        files = {name: f"of {name}".encode() for name in DIFFICULT_NAMES}
        await self._expect(await servers.start(files), files)

    @pytest.mark.asyncio
    async def test_a_file_that_has_nothing_to_hold_is_not_there(self, servers: Servers) -> None:
        files = {"t": None, "u": b"value"}
        await self._expect(await servers.start(files), files)

    @pytest.mark.asyncio
    async def test_the_file_that_is_no_secret_is_at_its_own_path(self, servers: Servers) -> None:
        spawner = await servers.make()
        if spawner.token_public_path is None:
            pytest.skip("token_public_path is None: it is not delivered")
        files = {PUBLIC_FILE: b"[user]\n\tname = {Alice}\n", "t": b"value"}
        await self._expect(await servers.start(files), files)

    @pytest.mark.asyncio
    async def test_a_running_server_sees_what_changed_and_keeps_the_rest(self, servers: Servers) -> None:
        files: dict[str, bytes | None] = {"t": b"old", "t.json": b"{}", "u": b"value", "v": None}
        spawner = await self._start_changeable(servers, files)
        last = {"t": b"back", "u": b"shorter"}
        for changes in ({"t": b"new"}, {"t": None, "v": b"came"}, self.difficult_values, last):
            files |= changes
            await spawner.deliver_files(files)
            await self._expect(spawner, files)

    @pytest.mark.asyncio
    async def test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part(self, servers: Servers) -> None:
        letters = [bytes([letter]) for letter in range(ord("a"), ord("z") + 1)]
        spawner = await self._start_changeable(servers, {"t": letters[0] * 50_000})
        reads, over = 0, asyncio.Event()

        async def read() -> None:
            nonlocal reads
            while True:
                is_last = over.is_set()
                contents = await self.read_file(spawner, self._find_path(spawner, "t"))
                is_whole = contents is not None and len(contents) == 50_000 and len(set(contents)) == 1
                assert is_whole, f"{_describe(contents)} in place of 50000 of one kind"
                reads += 1
                if is_last:
                    return

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
    async def test_what_was_withdrawn_is_not_there_when_the_server_starts_again(self, servers: Servers) -> None:
        spawner = await servers.start({"t": b"old", "u": b"old", PUBLIC_FILE: b"old"})
        await servers.stop(spawner)
        # Not by the Spawner that delivered: a Hub that was started since has another.
        await (await servers.make()).withdraw_files()
        again = await servers.start({"u": b"new"})
        expected = {"t": None, "u": b"new"} | ({PUBLIC_FILE: None} if again.token_public_path else {})
        await self._expect(again, expected)

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
    async def test_servers_have_nothing_of_each_other(self, servers: Servers) -> None:
        first, second = self.users
        files, started = {}, {}
        for key in ((first, ""), (first, "x"), (second, "")):
            files[key] = {"t": " of ".join(key).encode(), PUBLIC_FILE: "public".join(key).encode()}
            started[key] = await servers.start(files[key], *key)
        for key, spawner in started.items():
            if spawner.token_public_path is None:
                del files[key][PUBLIC_FILE]
            await self._expect(spawner, files[key])
        gone = started.pop((first, "x"))
        await servers.stop(gone)
        await gone.withdraw_files()
        for key, spawner in started.items():
            await self._expect(spawner, files[key])

    @pytest.mark.asyncio
    async def test_a_sweep_leaves_the_files_of_running_servers_alone(self, servers: Servers) -> None:
        files = {"t": b"value", "u": b"another"}
        spawner = await servers.start(files)
        other = await servers.make(self.users[1])
        await other.sweep_files()
        await self._expect(spawner, files)

    # -- inside ----------------------------------------------------------------------------------

    async def _start_changeable(self, servers: Servers, files: Files) -> Any:
        if (await servers.make()).delivery_delay == math.inf:
            pytest.skip("delivery_delay is infinite: a running server sees nothing new")
        return await servers.start(files)

    async def _expect(self, spawner: Any, files: Files) -> None:
        """The server sees these, within the time that its backend needs."""
        delay = 0.0 if spawner.delivery_delay == math.inf else spawner.delivery_delay
        deadline = time.monotonic() + delay
        for name, contents in files.items():
            while (found := await self.read_file(spawner, self._find_path(spawner, name))) != contents:
                assert time.monotonic() < deadline, f"{name}: {_describe(found)} in place of {_describe(contents)}"
                await asyncio.sleep(min(1.0, delay / 10))

    def _find_path(self, spawner: Any, name: str) -> str:
        return str(spawner.token_public_path if name == PUBLIC_FILE else f"{spawner.token_directory}/{name}")


def _describe(contents: bytes | None) -> str:
    return "no file" if contents is None else f"{len(contents)} bytes"
