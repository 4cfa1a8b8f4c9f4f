"""The contract of a backend, as tests that those of a custom spawner inherit. It needs pytest and pytest-asyncio."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from jupyterhub import orm
from jupyterhub.auth import Authenticator
from jupyterhub.objects import Hub
from jupyterhub.user import User
from traitlets.config import Config

from .delivery import PUBLIC_FILE

Files = Mapping[str, "bytes | None"]

# What templates, shells, environments, JSON and lines of text would make something else of.
DIFFICULT_VALUES: Mapping[str, bytes] = {
    "braces": b"{token} {0} {{}} {",
    "expansions": b"$(X) ${X} $X $$ `id` %s %(x)s \\x41 \\n ~ *",
    "quotes": b"\"' '' \"\" \\\" \\'",
    "lines": b"one\ntwo\r\n\n\tthree\n",
    "spaces": b" -n --help # ; & | < > ",
    "unicode": "żółć 密钥 🔑 \u202e\ufeff".encode(),
    "json": b'{"null": null, "a": ["\\u0000", 1e400]}',
    "empty": b"",
    "large": bytes(range(33, 127)) * 700,  # 64 kB
}

# A token's name is a file name: lower-case letters, digits, and these between them.
DIFFICULT_NAMES = ("a", "0", "a.b", "a-b", "a_b", "a--b..c__d", "t.json", "t.config.json", "x" * 100)


class DeliveryContract:
    """What every backend promises of its files. The tests of one inherit it::

        class TestMySpawner(DeliveryContract):
            spawner_class = MySpawner

    As it is, that is enough for files that are on this machine as soon as they are delivered. Others say how a
    server is started and stopped (:meth:`start`, :meth:`stop`), how its process reads a file (:meth:`read_file`),
    and, where a Hub that only has a database is not enough, how a Spawner is made (the fixture ``make_spawner``).
    """

    spawner_class: ClassVar[type[Any]]

    # Two users, whose names are alike: for spawners of system users, two that there are.
    users: ClassVar[tuple[str, str]] = ("alice", "alice-x")

    # How often a file is written anew beside a reader.
    rewrites: ClassVar[int] = 200

    # Contents that files get: without the empty one where the platform cannot hold it, as Docker Swarm cannot.
    difficult_values: ClassVar[Files] = DIFFICULT_VALUES

    # -- what a backend may say ------------------------------------------------------------------

    @pytest.fixture
    def config(self) -> Config:
        """The Hub's configuration."""
        return Config()

    @pytest_asyncio.fixture
    async def make_spawner(self, config: Config) -> AsyncIterator[Callable[[str, str], Awaitable[Any]]]:
        """``await make_spawner(user, server)``: a Spawner that has not been started. All are of one Hub."""
        hub = BareHub(self.spawner_class, config)
        yield hub.make_spawner
        hub.close()

    async def start(self, spawner: Any, files: Files) -> None:
        """Start a server that has these files from its beginning, or at least as soon as this returns."""
        await spawner.deliver_files(files)

    async def stop(self, spawner: Any) -> None:
        """Stop what :meth:`start` started. Its files are not to be withdrawn here."""

    async def read_file(self, spawner: Any, path: str) -> bytes | None:
        """The contents of a file as the server's own process reads it; ``None`` if there is no such file."""
        return await asyncio.to_thread(_read, Path(path))

    # -- the contract ----------------------------------------------------------------------------

    @pytest_asyncio.fixture
    async def servers(self, make_spawner: Callable[[str, str], Awaitable[Any]]) -> AsyncIterator[Servers]:
        servers = Servers(self, make_spawner)
        yield servers
        await servers.close()

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


class Servers:
    """The servers of a test."""

    def __init__(self, contract: DeliveryContract, make_spawner: Callable[[str, str], Awaitable[Any]]) -> None:
        self._contract = contract
        self._make_spawner = make_spawner
        self._running: list[Any] = []

    async def make(self, user: str = "", server: str = "") -> Any:
        """A Spawner, by default the first user's."""
        return await self._make_spawner(user or self._contract.users[0], server)

    async def start(self, files: Files, user: str = "", server: str = "") -> Any:
        """Start a server with these files. Returns its Spawner."""
        spawner = await self.make(user, server)
        self._running.append(spawner)
        await self._contract.start(spawner, files)
        _tell_database(spawner, True)
        return spawner

    async def stop(self, spawner: Any) -> None:
        self._running.remove(spawner)
        await self._contract.stop(spawner)
        _tell_database(spawner, False)

    async def close(self) -> None:
        for spawner in list(self._running):
            await self.stop(spawner)
            await spawner.withdraw_files()


class BareHub:
    """What spawners need of a Hub: a database in memory and its objects. It serves nothing."""

    def __init__(self, spawner_class: type[Any], config: Config) -> None:
        self._session = orm.new_session_factory("sqlite://")()
        self._settings = {
            "hub": Hub(),
            "authenticator": Authenticator(config=config),
            "spawner_class": spawner_class,
            "config": config,
            "cookie_secret": secrets.token_bytes(32),
            "allow_named_servers": True,
        }

    async def make_spawner(self, user: str, server: str = "") -> Any:
        """A Spawner as a Hub makes it: a new object each time, with what the database knows."""
        orm_user = orm.User.find(self._session, user)
        if orm_user is None:
            orm_user = orm.User(name=user)
            self._session.add(orm_user)
        owner = User(orm_user, self._settings, self._session)
        if server not in orm_user.orm_spawners:
            self._session.add(orm.Spawner(name=server, user=orm_user))
        self._session.commit()
        spawner = owner.spawners[server]
        await spawner.wait_for_sweep()
        return spawner

    def close(self) -> None:
        engine = self._session.get_bind()
        self._session.close()
        engine.dispose()


def _tell_database(spawner: Any, runs: bool) -> None:
    spawner.orm_spawner.server = orm.Server() if runs else None
    spawner.user.db.commit()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _describe(contents: bytes | None) -> str:
    return "no file" if contents is None else f"{len(contents)} bytes"
