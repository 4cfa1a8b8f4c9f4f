"""The local backend: token files in a private directory in memory, on the Hub's own host."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pwd
import secrets
import shutil
import stat
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from jupyterhub import orm
from jupyterhub.objects import Hub
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from sqlalchemy import inspect
from traitlets import default

from .mixin import TokenSpawnerMixin


class LocalTokenMixin(TokenSpawnerMixin):
    """Delivers files in a private directory on the Hub's host. Mix it into spawners of local processes::

        class MySpawner(LocalTokenMixin, SomeLocalSpawner):
            pass

    The files belong to the server's system user if the Hub is root, and to the Hub's user if it is
    not. A spawner whose servers run as somebody else overrides :meth:`get_file_owner`.
    """

    @default("token_mount_path")
    def _default_token_mount_path(self) -> str:
        return str(_find_memory(self.log.warning))

    @property
    def token_directory(self) -> str:
        return str(self._server_directory)

    def get_file_owner(self) -> tuple[int, int]:
        """uid and gid of the server's process, as :class:`~jupyterhub.spawner.LocalProcessSpawner` chooses them.

        Raises :exc:`KeyError` if there is no such system user.
        """
        if os.geteuid() != 0 or isinstance(self, SimpleLocalProcessSpawner):
            return os.geteuid(), os.getegid()
        user = pwd.getpwnam(self.user.name)
        return user.pw_uid, user.pw_gid

    async def deliver_files(self, files: Mapping[str, bytes]) -> None:
        owner = self.get_file_owner()
        _make_private(self._hub_directory.parent)
        _make_private(self._hub_directory)
        directory = self._server_directory
        directory.mkdir(mode=0o700, exist_ok=True)
        # Nothing below is looked up by a path that the user could have bent with a link.
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            for name, contents in files.items():
                _write(handle, name, contents, owner)
            os.fchmod(handle, 0o700)
            os.fchown(handle, *owner)
        finally:
            os.close(handle)

    async def withdraw_files(self) -> None:
        if trash := _set_aside(self._server_directory):
            await asyncio.to_thread(_remove, trash)

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        if self.hub is not None and self.hub not in _swept:  # our first Spawner since this Hub started
            _swept.add(self.hub)
            for leftover in self._find_leftovers():
                self.log.warning("Removing %s, which a server left behind", leftover)
                if trash := _set_aside(leftover):
                    threading.Thread(target=_remove, args=[trash]).start()

    def _find_leftovers(self) -> Iterator[Path]:
        session = inspect(self.orm_spawner).session
        running = {str(row.id) for row in session.query(orm.Spawner.id).filter(orm.Spawner.server != None)}  # noqa: E711
        if self._hub_directory.is_dir():
            yield from (path for path in self._hub_directory.iterdir() if path.name not in running)

    @cached_property
    def _hub_directory(self) -> Path:
        """One directory per Hub of a host. What makes a Hub is its database."""
        url = inspect(self.orm_spawner).session.get_bind().url
        identity = url.render_as_string()  # without its password
        if url.get_backend_name() == "sqlite":
            identity = os.path.abspath(url.database) if url.database else f"in memory of {os.getpid()}"
        return Path(self.token_mount_path) / hashlib.sha256(identity.encode()).hexdigest()[:12]

    @property
    def _server_directory(self) -> Path:
        # The row's id: unlike names it stays when the user or the server is renamed.
        return self._hub_directory / str(self.orm_spawner.id)


_swept: weakref.WeakSet[Hub] = weakref.WeakSet()


def _write(directory: int, name: str, contents: bytes, owner: tuple[int, int]) -> None:
    """Put a file into an open directory: whole at any time, readable by its owner alone."""
    temporary = f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=directory), "wb") as file:
            file.write(contents)
            os.fchmod(file.fileno(), 0o600)
            os.fchown(file.fileno(), *owner)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        try:
            os.unlink(temporary, dir_fd=directory)
        except FileNotFoundError:
            pass
        raise


def _set_aside(directory: Path) -> Path | None:
    """Take a directory out of its place at once, however much the user put into it."""
    trash = directory.with_name(f".{directory.name.lstrip('.')[:40]}.{secrets.token_hex(8)}")
    try:
        directory.rename(trash)
    except FileNotFoundError:
        return None
    return trash


def _remove(trash: Path) -> None:
    """Remove all that can be removed. Raises :exc:`OSError` if anything is left."""
    if trash.is_symlink():
        trash.unlink()
        return
    trash.chmod(0o700)
    shutil.rmtree(trash, ignore_errors=True)
    if trash.exists():
        raise OSError(f"{trash} could not be removed entirely")


def _make_private(directory: Path) -> None:
    """Make a directory that nobody else can write to, or make sure that it is one. Others may pass through it.

    Raises :exc:`PermissionError` if somebody else put it there.
    """
    try:
        directory.mkdir(mode=0o711)
        directory.chmod(0o711)
    except FileExistsError:
        found = directory.lstat()
        ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
        passable = found.st_mode & 0o001 or os.geteuid() != 0
        if not ours or not passable:
            raise PermissionError(
                f"{directory} has to be a directory of the Hub's user with mode 0711: "
                "nobody else can write to it, everybody may pass through it"
            ) from None


def _find_memory(warn: Any) -> Path:
    """A directory of our own on a tmpfs; on disk, with a warning, where there is none."""
    name = f"spawner-tokens-{os.geteuid()}"
    mounts = dict(line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    for parent in ("/run", "/dev/shm", os.environ.get("XDG_RUNTIME_DIR", "")):
        if mounts.get(_mount_point(parent)) in ("tmpfs", "ramfs") and os.access(parent, os.W_OK):
            try:
                _make_private(Path(parent, name))
            except OSError as error:
                warn("Not keeping token files in %s: %s", parent, error)
            else:
                return Path(parent, name)
    directory = Path(tempfile.gettempdir(), name)
    warn("Found no directory in memory: token files are kept on disk, in %s", directory)
    return directory


def _mount_point(path: str) -> str:
    while path and not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


class TokenLocalProcessSpawner(LocalTokenMixin, LocalProcessSpawner):
    """:class:`~jupyterhub.spawner.LocalProcessSpawner` that hands over tokens."""


class TokenSimpleLocalProcessSpawner(LocalTokenMixin, SimpleLocalProcessSpawner):
    """:class:`~jupyterhub.spawner.SimpleLocalProcessSpawner` that hands over tokens.

    As its base class: for tests only, since all servers run as the Hub's own user and can read each other's files.
    """
