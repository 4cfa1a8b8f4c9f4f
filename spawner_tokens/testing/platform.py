"""Where a backend's servers run: how a test starts and stops them, and how it looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio
from jupyterhub import orm
from traitlets.config import Config

from .contents import DIFFICULT_VALUES, Files
from .hub import BareHub


class Platform:
    """All that the tests of a backend may have to say of it. By default, its files are on this machine."""

    spawner_class: ClassVar[type[Any]]

    # Two users, whose names are alike: for spawners of system users, two that there are.
    users: ClassVar[tuple[str, str]] = ("alice", "alice-x")

    # How often a file is written anew beside a reader.
    rewrites: ClassVar[int] = 200

    # Contents that files get: without the empty one where the platform cannot hold it, as Docker Swarm cannot.
    difficult_values: ClassVar[Files] = DIFFICULT_VALUES

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

    @pytest_asyncio.fixture
    async def servers(self, make_spawner: Callable[[str, str], Awaitable[Any]]) -> AsyncIterator[Servers]:
        servers = Servers(self, make_spawner)
        yield servers
        await servers.close()


class Servers:
    """The servers of a test."""

    def __init__(self, platform: Platform, make_spawner: Callable[[str, str], Awaitable[Any]]) -> None:
        self._platform = platform
        self._make_spawner = make_spawner
        self._running: list[Any] = []

    async def make(self, user: str = "", server: str = "") -> Any:
        """A Spawner, by default the first user's."""
        return await self._make_spawner(user or self._platform.users[0], server)

    async def start(self, files: Files, user: str = "", server: str = "") -> Any:
        """Start a server with these files. Returns its Spawner."""
        spawner = await self.make(user, server)
        self._running.append(spawner)
        await self._platform.start(spawner, files)
        _tell_database(spawner, True)
        return spawner

    async def stop(self, spawner: Any) -> None:
        self._running.remove(spawner)
        await self._platform.stop(spawner)
        _tell_database(spawner, False)

    async def close(self) -> None:
        for spawner in list(self._running):
            await self.stop(spawner)
            await spawner.withdraw_files()


def _tell_database(spawner: Any, runs: bool) -> None:
    spawner.orm_spawner.server = orm.Server() if runs else None
    spawner.user.db.commit()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
