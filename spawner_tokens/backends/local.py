"""The local backend: token files in a private directory in memory, on the Hub's own host."""

from __future__ import annotations

import hmac
import os
import pwd
import tempfile
import threading
from collections.abc import Callable, Mapping

from jupyterhub import orm
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from sqlalchemy import inspect
from traitlets import default

from ..mixin import TokenSpawnerMixin
from ..tokens.files import PUBLIC_FILE
from .hostfiles import (
    find_own_directory,
    is_in_memory,
    open_hub_directory,
    remove,
    set_aside,
    write_files,
)


class LocalTokenMixin(TokenSpawnerMixin):
    """Delivers files in a private directory on the Hub's host. Mix it into spawners of local processes::

        class MySpawner(LocalTokenMixin, SomeLocalSpawner):
            pass

    The files belong to the server's system user if the Hub is root, and to the Hub's user if it is
    not. A spawner whose servers run as somebody else overrides :meth:`tokens_file_owner`.
    """

    @default("tokens_mount_path")
    def _default_tokens_mount_path(self) -> str:
        return _find_memory(self.log.warning)

    @property
    def tokens_directory(self) -> str:
        return os.path.join(self.tokens_mount_path, self.tokens_hub_name, self._server_name)

    def tokens_file_owner(self) -> tuple[int, int]:
        """uid and gid of the server's process, as :class:`~jupyterhub.spawner.LocalProcessSpawner` chooses them.

        Raises :exc:`OSError` if there is no such system user, as for systemdspawner's dynamic users.
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
        # Others may read the file, but must not find it: its name cannot be guessed, and is always the same one.
        secret: bytes = self.user.settings["cookie_secret"]
        name = hmac.digest(secret, self._server_name.encode(), "sha256").hex()[:16]
        return os.path.join(
            self.tokens_mount_path, self.tokens_hub_name, self._server_name + _PUBLIC, name
        )

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        owner = self.tokens_file_owner()
        private = {name: contents for name, contents in files.items() if name != PUBLIC_FILE}
        with open_hub_directory(self.tokens_mount_path, self.tokens_hub_name, create=True) as hub:
            assert hub is not None
            if private:
                write_files(hub, self._server_name, private, owner)
            if PUBLIC_FILE in files:
                public = {os.path.basename(self.tokens_public_path): files[PUBLIC_FILE]}
                write_files(
                    hub,
                    self._server_name + _PUBLIC,
                    public,
                    owner,
                    mode=0o644,
                    directory_mode=0o711,
                )

    async def withdraw_files(self) -> None:
        with open_hub_directory(self.tokens_mount_path, self.tokens_hub_name) as hub:
            if hub is not None:
                names = (self._server_name, self._server_name + _PUBLIC)
                self._remove(hub, [aside for name in names if (aside := set_aside(hub, name))])

    async def sweep_files(self) -> None:
        session = inspect(self.orm_spawner).session
        running = {
            str(row.id) for row in session.query(orm.Spawner.id).filter(orm.Spawner.server != None)
        }  # noqa: E711
        with open_hub_directory(self.tokens_mount_path, self.tokens_hub_name) as hub:
            if hub is None:
                return
            leftovers = [
                name for name in os.listdir(hub) if name.removesuffix(_PUBLIC) not in running
            ]
            trash = [aside for name in leftovers if (aside := set_aside(hub, name))]
            if trash:
                self.log.warning(
                    "Removing token files of %i servers that left them behind", len(trash)
                )
                self._remove(hub, trash)

    def _remove(self, hub: int, trash: list[str]) -> None:
        if left := remove(hub, trash, _AT_ONCE):
            arguments = [os.dup(hub), left]
            threading.Thread(
                target=self._remove_later, args=arguments, name=_REMOVER, daemon=True
            ).start()

    def _remove_later(self, hub: int, trash: list[str]) -> None:
        """In a thread of our own: what users made of their directories must not occupy the Hub's."""
        try:
            with _one_at_a_time:
                if remove(hub, trash, _AT_MOST):
                    self.log.warning(
                        "More than %i files in token directories: the rest waits for the Hub's next start",
                        _AT_MOST,
                    )
        except Exception:
            self.log.exception("Could not remove all token files")
        finally:
            os.close(hub)

    @property
    def _server_name(self) -> str:
        # The row's id: unlike names it stays when the user or the server is renamed.
        return str(self.orm_spawner.id)


_PUBLIC = ".public"

# Entries that are removed at once (some milliseconds), and in all: a user's process can make them faster than that.
_AT_ONCE, _AT_MOST = 500, 1_000_000
_REMOVER = "spawner-tokens-remover"
_one_at_a_time = threading.Lock()


def _find_memory(warn: Callable[..., None]) -> str:
    """A directory of our own on a tmpfs; on disk, with a warning, where there is none."""
    private = os.environ.get("XDG_RUNTIME_DIR") if os.geteuid() != 0 else None
    for parent in (private, "/run", "/dev/shm"):
        if parent and os.access(parent, os.W_OK) and is_in_memory(parent):
            return find_own_directory(parent)
    directory = find_own_directory(tempfile.gettempdir())
    warn("Found no directory in memory: token files are kept on disk, in %s", directory)
    return directory


class TokenLocalProcessSpawner(LocalTokenMixin, LocalProcessSpawner):
    """:class:`~jupyterhub.spawner.LocalProcessSpawner` that hands over tokens."""


class TokenSimpleLocalProcessSpawner(LocalTokenMixin, SimpleLocalProcessSpawner):
    """:class:`~jupyterhub.spawner.SimpleLocalProcessSpawner` that hands over tokens.

    As its base class: for tests only, since all servers run as the Hub's own user and can read each other's files.
    """
