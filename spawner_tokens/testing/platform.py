"""Where a backend's servers run: how a test starts and stops them, and how it looks at them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import pytest
import pytest_asyncio
from jupyterhub import orm
from traitlets.config import Config

from ..backend import TokenBackend
from .contents import DIFFICULT_VALUES, Files
from .hub import BareHub


class Platform:
    """What a backend's tests may override. By default, its files are on this machine."""

    spawner_class: ClassVar[type[Any]]

    # Two users, one name the beginning of the other. Some spawners need existing system users.
    users: ClassVar[tuple[str, str]] = ("alice", "alice-x")

    # How often a file is replaced while a reader reads it.
    rewrites: ClassVar[int] = 200

    # Contents that files get: without the empty one where a platform cannot store it.
    difficult_values: ClassVar[Files] = DIFFICULT_VALUES

    @pytest.fixture
    def config(self) -> Config:
        """The Hub's configuration."""
        return Config()

    @pytest_asyncio.fixture
    async def make_spawner(
        self, config: Config
    ) -> AsyncIterator[Callable[[str, str], Awaitable[Any]]]:
        """``await make_spawner(user, server)``: a Spawner of one Hub that has not been started."""
        spawner_class = getattr(self, "spawner_class", None)
        if not (isinstance(spawner_class, type) and issubclass(spawner_class, TokenBackend)):
            pytest.fail(
                f"{type(self).__name__}.spawner_class has to be a class with TokenSpawnerMixin",
                pytrace=False,
            )
        hub = BareHub(spawner_class, config)
        yield hub.make_spawner
        hub.close()

    async def start(self, spawner: Any, files: Files) -> None:
        """Start a server that has these files, at the latest when this returns."""
        await spawner.deliver_files(files)

    async def stop(self, spawner: Any) -> None:
        """Stop the server, without withdrawing its files."""

    async def read_file(self, spawner: Any, path: str) -> bytes | None:
        """A file's contents as the server's process reads them; ``None`` if it is not there."""
        return await asyncio.to_thread(_read, Path(path))

    async def can_others_read(self, spawner: Any, path: str) -> bool:
        """Whether another user of the server's system can read a file whose path they know.

        By default, the modes of the file and its directory decide.
        """
        expect_here(path)
        return is_open(path)

    async def list_stored(self, spawner: Any) -> set[str]:
        """The names of all that the backend keeps: files, volumes, Secrets.

        By default, all files beside the server's directory and below it.
        """
        place = os.path.dirname(spawner.tokens_directory)
        if place == "/":
            _fail_elsewhere(spawner.tokens_directory)
        return await asyncio.to_thread(_list, place)

    @asynccontextmanager
    async def obstructed(self, spawner: Any) -> AsyncIterator[None]:
        """Deliveries to this server, which runs or has stopped, fail meanwhile.

        By default, a plain file is in the place of its directory.
        """
        directory, aside = Path(spawner.tokens_directory), Path(f"{spawner.tokens_directory}.aside")
        if has_directory := directory.exists():
            directory.rename(aside)
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.touch()
        try:
            yield
        finally:
            directory.unlink()
            if has_directory:
                aside.rename(directory)

    @pytest_asyncio.fixture
    async def servers(
        self, make_spawner: Callable[[str, str], Awaitable[Any]]
    ) -> AsyncIterator[Servers]:
        servers = Servers(self, make_spawner)
        yield servers
        await servers.close()


class Servers:
    """The servers of a test: those that still run at its end are stopped then."""

    def __init__(
        self, platform: Platform, make_spawner: Callable[[str, str], Awaitable[Any]]
    ) -> None:
        self._platform = platform
        self._make_spawner = make_spawner
        self._running: list[Any] = []

    async def make(self, user: str = "", server: str = "") -> Any:
        """A Spawner of a server that has not been started; by default, of the first user."""
        return await self._make_spawner(user or self._platform.users[0], server)

    async def start(self, files: Files, user: str = "", server: str = "") -> Any:
        """Start a server with these files. Returns its Spawner."""
        spawner = await self.make(user, server)
        self._running.append(spawner)
        await spawner.keep_location()
        await self._platform.start(spawner, files)
        set_running(spawner, True)
        return spawner

    async def stop(self, spawner: Any) -> None:
        """Stop a server. Its files are not withdrawn."""
        self._running.remove(spawner)
        await self._platform.stop(spawner)
        set_running(spawner, False)

    async def close(self) -> None:
        for spawner in list(self._running):
            await self.stop(spawner)
            await spawner.withdraw_files()


# For the group and for all: the bit that reads a file, and the bit that enters its directory.
_OTHERS = ((stat.S_IRGRP, stat.S_IXGRP), (stat.S_IROTH, stat.S_IXOTH))


def set_running(spawner: Any, runs: bool) -> None:
    spawner.orm_spawner.server = orm.Server() if runs else None
    spawner.user.db.commit()


def is_open(path: str) -> bool:
    """Whether the group or all can read a file, by its mode and its directory's."""
    found = [os.stat(each).st_mode for each in (path, os.path.dirname(path))]
    return any(found[0] & readable and found[1] & passable for readable, passable in _OTHERS)


def expect_here(path: str) -> None:
    """Fail unless a running server's file is on this machine, where its path may be another's."""
    if not os.path.exists(path):
        _fail_elsewhere(path)


def _fail_elsewhere(path: str) -> NoReturn:
    methods = "can_others_read(), list_stored() and obstructed()"
    pytest.fail(f"{path} is not on this machine: override {methods}", pytrace=False)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _list(directory: str) -> set[str]:
    return {
        os.path.join(at, name)
        for at, *names in os.walk(directory)
        for name in (*names[0], *names[1])
    }
