"""The local backend: token files in a private directory in memory, on the Hub's own host."""

from __future__ import annotations

import hmac
import logging
import os
import pwd
import tempfile
import threading
from collections.abc import Iterable, Mapping

from jupyterhub import orm
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from sqlalchemy import inspect
from traitlets import default

from ..mixin import TokenSpawnerMixin
from ..tokens.files import PUBLIC_FILE
from .hostfiles import (
    is_in_memory,
    make_private_directory,
    open_hub_directory,
    remove,
    set_aside,
    write_files,
)

_PUBLIC = ".public"  # the end of the name of a server's directory for PUBLIC_FILE

# Entries to remove in the event loop (some milliseconds), and in all: a process of the user may
# make new ones faster than they are removed.
_AT_ONCE, _AT_MOST = 500, 1_000_000
_REMOVER = "spawner-tokens-remover"


class LocalTokenMixin(TokenSpawnerMixin):
    """Delivers files in a private directory on the Hub's host.

    Mix it into spawners of local processes::

        class MySpawner(LocalTokenMixin, SomeLocalSpawner):
            pass

    The files belong to the server's system user if the Hub runs as root, else to the Hub's user.
    A spawner whose servers run as another user overrides :meth:`tokens_file_owner`.
    """

    @default("tokens_mount_path")
    def _default_tokens_mount_path(self) -> str:
        return make_private_directory(find_parent(self.log))

    @property
    def tokens_directory(self) -> str:
        return os.path.join(self.tokens_mount_path, self.tokens_hub_name, self._server_name)

    def tokens_file_owner(self) -> tuple[int, int]:
        """The uid and gid of the server's process.

        By default, those that :class:`~jupyterhub.spawner.LocalProcessSpawner` chooses. Raises
        :exc:`OSError` if there is no such system user, as for systemdspawner's dynamic users.
        """
        if os.geteuid() != 0 or isinstance(self, SimpleLocalProcessSpawner):
            return os.geteuid(), os.getegid()
        try:
            user = pwd.getpwnam(self.user.name)
        except KeyError:
            raise OSError(f"there is no system user {self.user.name!r} to own them") from None
        return user.pw_uid, user.pw_gid

    @property
    def tokens_public_path(self) -> str:
        # Other users can read the file if they know its name, so the name cannot be guessed. It is
        # the same at each start.
        secret: bytes = self.user.settings["cookie_secret"]
        name = hmac.digest(secret, self._server_name.encode(), "sha256").hex()[:16]
        return os.path.join(self.tokens_directory + _PUBLIC, name)

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        owner, server = self.tokens_file_owner(), self._server_name
        private = {name: contents for name, contents in files.items() if name != PUBLIC_FILE}
        with open_hub_directory(self.tokens_mount_path, self.tokens_hub_name, create=True) as hub:
            assert hub is not None
            if private:
                write_files(hub, server, private, owner)
            if PUBLIC_FILE in files:
                public = {os.path.basename(self.tokens_public_path): files[PUBLIC_FILE]}
                modes = {"mode": 0o644, "directory_mode": 0o711}
                write_files(hub, server + _PUBLIC, public, owner, **modes)

    async def withdraw_files(self) -> None:
        with open_hub_directory(self.tokens_mount_path, self.tokens_hub_name) as hub:
            if hub is not None:
                self._remove(hub, [self._server_name, self._server_name + _PUBLIC])

    async def sweep_files(self) -> None:
        session = inspect(self.orm_spawner).session
        rows = session.query(orm.Spawner.id).filter(orm.Spawner.server_id.is_not(None))
        running = {str(row.id) for row in rows}
        with open_hub_directory(self.tokens_mount_path, self.tokens_hub_name) as hub:
            names = [] if hub is None else os.listdir(hub)
            left = [name for name in names if name.removesuffix(_PUBLIC) not in running]
            if hub is not None and left:
                words = "Removing %i directories of token files that servers left behind"
                self.log.warning(words, len(left))
                self._remove(hub, left)

    def _remove(self, hub: int, names: Iterable[str]) -> None:
        """Remove directories of servers: at once if they are small, else in a thread."""
        if left := remove(hub, set_aside(hub, names), _AT_ONCE):
            assert self.tokens_hub is not None
            key = LocalTokenMixin, "removal"
            lock = self.tokens_hub.known.setdefault(key, threading.Lock())
            arguments = lock, os.dup(hub), left
            # Not in the Hub's own threads, which large directories would occupy for long.
            threading.Thread(
                target=self._remove_slowly, args=arguments, name=_REMOVER, daemon=True
            ).start()

    def _remove_slowly(self, lock: threading.Lock, hub: int, names: list[str]) -> None:
        try:
            with lock:
                left = remove(hub, names, _AT_MOST)
            if left:
                words = "More than %i files to remove: the rest waits for the Hub's next start"
                self.log.warning(words, _AT_MOST)
        except Exception:
            self.log.exception("Could not remove all token files")
        finally:
            os.close(hub)

    @property
    def _server_name(self) -> str:
        # The row's id: unlike the names of user and server, it never changes.
        return str(self.orm_spawner.id)


def find_parent(log: logging.Logger) -> str:
    """The path of a tmpfs to make a directory in; on disk, with a warning, if there is none."""
    runtime = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() != 0 else None
    for parent in (runtime, "/run", "/dev/shm"):
        if parent and os.access(parent, os.W_OK) and is_in_memory(parent):
            return parent
    parent = tempfile.gettempdir()
    log.warning("Found no directory in memory: token files are kept on disk, in %s", parent)
    return parent


class TokenLocalProcessSpawner(LocalTokenMixin, LocalProcessSpawner):
    """:class:`~jupyterhub.spawner.LocalProcessSpawner` that hands over tokens."""


class TokenSimpleLocalProcessSpawner(LocalTokenMixin, SimpleLocalProcessSpawner):
    """:class:`~jupyterhub.spawner.SimpleLocalProcessSpawner` that hands over tokens.

    For tests only, as its base class: all servers run as the Hub's user, and can read each other's
    files.
    """
