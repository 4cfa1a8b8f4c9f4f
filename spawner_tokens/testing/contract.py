"""What every backend promises of its files."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import os
import secrets
import time
import traceback
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ..backend import TokenBackend
from ..delivery import PUBLIC_FILE
from .contents import DIFFICULT_NAMES, Files
from .platform import Platform, Servers


class DeliveryContract(Platform):
    """What every backend promises of its files. The tests of one inherit it::

        class TestMySpawner(DeliveryContract):
            spawner_class = MySpawner

    As it is, that is enough for files that are on this machine as soon as they are delivered. Others say how a
    server is started and stopped (:meth:`start`, :meth:`stop`), how its process reads a file (:meth:`read_file`),
    how to look at the rest (:meth:`can_others_read`, :meth:`list_stored`) and how to be in the way
    (:meth:`obstructed`), and, where a Hub that only has a database is not enough, how a Spawner is made (the fixture
    ``make_spawner``).
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
        spawner = await servers.start(files)
        await self._expect(spawner, files)
        assert await self.can_others_read(spawner, spawner.token_public_path), "others cannot read it"

    @pytest.mark.asyncio
    async def test_nobody_but_the_servers_user_can_read_a_token(self, servers: Servers) -> None:
        files: dict[str, bytes | None] = {"t": b"value", "u": b"another"}
        umask = os.umask(0o022)
        try:
            spawner = await servers.start(files)
            await self._expect_private(spawner, files)
            if spawner.delivery_delay < math.inf:
                files |= {"t": b"new"}
                await spawner.deliver_files(files)
                await self._expect_private(spawner, files)
        finally:
            os.umask(umask)

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
                await asyncio.sleep(0)  # read_file() may have nothing to wait for

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
    async def test_what_cannot_be_delivered_is_an_oserror_and_later_it_can(self, servers: Servers) -> None:
        spawner = await servers.start({"t": b"old"})
        async with self._obstructed(servers, spawner):
            with pytest.raises(OSError):
                await spawner.deliver_files({"t": b"new"})
        if spawner.delivery_delay < math.inf:
            await spawner.deliver_files({"t": b"new"})
            await self._expect(spawner, {"t": b"new"})

    @pytest.mark.asyncio
    async def test_a_token_is_in_no_log_output_state_or_error(
        self, servers: Servers, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        token = secrets.token_hex(30).encode()
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, logger=(await servers.make()).log.name)
        spawner = await servers.start({"t": token, "u": b"value"})
        shown = {}
        async with self._obstructed(servers, spawner):
            try:
                await spawner.deliver_files({"t": token, "u": b"new"})
            except Exception as error:
                shown["error"] = "".join(traceback.format_exception(error))
        if spawner.delivery_delay < math.inf:
            await spawner.deliver_files({"t": token, "u": b"new"})
        shown["state"] = repr((spawner.get_state(), spawner.orm_spawner.state))
        await servers.close()
        shown |= {"log": caplog.text, "output": "".join(capfd.readouterr())}
        found = [place for place, text in shown.items() if any(form in text.encode() for form in _make_forms(token))]
        assert not found, f"the token is in: {', '.join(found)}"

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
    async def test_nothing_is_left_of_servers_that_have_stopped(self, servers: Servers) -> None:
        before = await self.list_stored(await servers.make())
        started = [await servers.start({"t": b"old", "u": b"value"}, server=server) for server in ("", "x")]
        first = await self._list_new(started[0], before)
        if started[0].delivery_delay < math.inf:
            for spawner in started:
                await spawner.deliver_files({"t": b"new", "u": b"value"})
            second = await self._list_new(started[0], before)
            assert len(second) <= len(first), f"a delivery leaves behind: {sorted(second - first)}"
        for spawner in started:
            await servers.stop(spawner)
            await spawner.withdraw_files()
        left = await self.list_stored(spawner) - before
        assert not left, f"servers leave behind: {sorted(left)}"

    @pytest.mark.asyncio
    async def test_servers_have_nothing_of_each_other(self, servers: Servers) -> None:
        started, files = await self._start_several(servers)
        gone = started.pop((self.users[0], "x"))
        await servers.stop(gone)
        await gone.withdraw_files()
        await self._expect_all(started, files)

    @pytest.mark.asyncio
    async def test_deliveries_to_servers_at_once_do_not_mix(self, servers: Servers) -> None:
        names = ("", "x", "y")
        files = {name: {file: f"{file} of {name}".encode() * 9999 for file in ("t", "u")} for name in names}
        spawners = await asyncio.gather(*(servers.start(files[name], server=name) for name in names))
        started = dict(zip(names, spawners))
        await self._expect_all(started, files)
        for _ in range(_ROUNDS if spawners[0].delivery_delay < math.inf else 0):
            files = {name: {file: contents[::-1] for file, contents in files[name].items()} for name in names}
            await asyncio.gather(*(spawner.deliver_files(files[name]) for name, spawner in started.items()))
            await self._expect_all(started, files)

    @pytest.mark.asyncio
    async def test_a_sweep_leaves_the_files_of_running_servers_alone(self, servers: Servers) -> None:
        started, files = await self._start_several(servers)
        gone = await servers.start({"t": b"value"}, server="y")
        await servers.stop(gone)
        await gone.sweep_files()
        await self._expect_all(started, files)
        await gone.withdraw_files()

    @pytest.mark.asyncio
    async def test_a_sweep_removes_what_a_hub_that_was_killed_has_left(self, servers: Servers) -> None:
        other = await servers.make(self.users[1])
        if type(other).sweep_files is TokenBackend.sweep_files:
            pytest.skip("sweep_files does nothing: what a killed Hub leaves stays until the server's next start")
        before = await self.list_stored(other)
        gone = await servers.start({"t": b"value", "u": b"another"})
        await self._list_new(gone, before)
        await servers.stop(gone)
        await other.sweep_files()
        left = await self.list_stored(other) - before
        await gone.withdraw_files()
        assert not left, f"a sweep leaves behind: {sorted(left)}"

    # -- inside ----------------------------------------------------------------------------------

    async def _start_changeable(self, servers: Servers, files: Files) -> Any:
        if (await servers.make()).delivery_delay == math.inf:
            pytest.skip("delivery_delay is infinite: a running server sees nothing new")
        return await servers.start(files)

    async def _start_several(self, servers: Servers) -> tuple[dict[Any, Any], dict[Any, Files]]:
        """User and name of servers → their Spawners, which see their files, and these."""
        first, second = self.users
        started: dict[Any, Any] = {}
        files: dict[Any, Files] = {}
        for key in ((first, ""), (first, "x"), (second, "")):
            contents: dict[str, bytes | None] = {"t": " of ".join(key).encode(), PUBLIC_FILE: "public".join(key).encode()}
            started[key] = await servers.start(contents, *key)
            if started[key].token_public_path is None:
                del contents[PUBLIC_FILE]
            files[key] = contents
        await self._expect_all(started, files)
        return started, files

    @asynccontextmanager
    async def _obstructed(self, servers: Servers, spawner: Any) -> AsyncIterator[None]:
        if spawner.delivery_delay == math.inf:
            await servers.stop(spawner)
            await spawner.withdraw_files()
        async with self.obstructed(spawner):
            yield

    async def _list_new(self, spawner: Any, before: set[str]) -> set[str]:
        """What there is now that a server runs."""
        found = await self.list_stored(spawner) - before
        assert found, "list_stored() shows nothing of a server that runs: say there where its files are"
        return found

    async def _expect_private(self, spawner: Any, files: Files) -> None:
        await self._expect(spawner, files)
        for name in files:
            is_open = await self.can_others_read(spawner, self._find_path(spawner, name))
            assert not is_open, f"{name}: others than the server's user can read it"

    async def _expect(self, spawner: Any, files: Files) -> None:
        """The server sees these, within the time that its backend needs."""
        delay = 0.0 if spawner.delivery_delay == math.inf else spawner.delivery_delay
        deadline = time.monotonic() + delay
        for name, contents in files.items():
            while (found := await self.read_file(spawner, self._find_path(spawner, name))) != contents:
                assert time.monotonic() < deadline, f"{name}: {_describe(found)} in place of {_describe(contents)}"
                await asyncio.sleep(min(1.0, delay / 10))

    async def _expect_all(self, started: Mapping[Any, Any], files: Mapping[Any, Files]) -> None:
        for key, spawner in started.items():
            await self._expect(spawner, files[key])

    def _find_path(self, spawner: Any, name: str) -> str:
        return str(spawner.token_public_path if name == PUBLIC_FILE else f"{spawner.token_directory}/{name}")


# How often servers are delivered to at once.
_ROUNDS = 5


def _make_forms(token: bytes) -> Iterator[bytes]:
    """The token as it may be written somewhere."""
    yield token
    yield token.hex().encode()
    for shift in range(3):  # base64 of a text that has it anywhere
        yield base64.b64encode(b"x" * shift + token)[4:-4]


def _describe(contents: bytes | None) -> str:
    return "no file" if contents is None else f"{len(contents)} bytes"
