"""The local backend: token files in a private directory in memory, on the Hub's own host."""

from __future__ import annotations

import hmac
import logging
import os
import pwd
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Container, Iterable, Mapping
from functools import partial
from typing import Any

from jupyterhub import orm
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from sqlalchemy import inspect
from traitlets import default

from ..mixin import TokenSpawnerMixin
from ..sweep import Leftover, find_each
from ..tokens.files import PUBLIC_FILE
from .filethreads import FileThreads
from .hostfiles import HubDirectory, is_in_memory, make_private_directory

_PUBLIC = ".public"  # the end of the name of a server's directory for PUBLIC_FILE

# Entries to remove at once (some milliseconds), and in all: a process of the user may
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

    location_key = "tokens_location_local"

    @default("tokens_mount_path")
    def _default_tokens_mount_path(self) -> str:
        return make_private_directory(find_parent(self.log))

    async def keep_location(self, **more: Any) -> None:
        owner, public = list(self.tokens_file_owner()), self._make_public_name()
        await super().keep_location(owner=owner, public=public, **more)

    @property
    def tokens_directory(self) -> str:
        location = self.tokens_location
        return "/".join(location[name] for name in ("mount_path", "hub", "server"))

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
        name = self.tokens_location.get("public") or self._make_public_name()
        return f"{self.tokens_directory}{_PUBLIC}/{name}"

    def _make_public_name(self) -> str:
        # Other users can read the file if they know its name, so the name cannot be guessed.
        secret: bytes = self.user.settings["cookie_secret"]
        return hmac.digest(secret, str(self.orm_spawner.id).encode(), "sha256").hex()[:16]

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        owner = self.tokens_location.get("owner") or self.tokens_file_owner()
        public = os.path.basename(self.tokens_public_path) if PUBLIC_FILE in files else ""
        await self._run_in_thread(_write, files, owner, public)

    async def withdraw_files(self) -> None:
        await self._run_in_thread(self._remove_server, at_last=True)

    def sweep_files(self) -> AsyncIterator[Leftover]:
        session = inspect(self.orm_spawner).session
        rows = session.query(orm.Spawner.id).filter(orm.Spawner.server_id.is_not(None))
        running, places = {str(row.id) for row in rows}, self.list_locations("mount_path", "hub")
        return find_each(*(self._find_left(root, hub, running) for root, hub in places))

    async def _find_left(
        self, root: str, hub: str, running: Container[str]
    ) -> AsyncIterator[Leftover]:
        directory, threads = HubDirectory(root, hub), FileThreads.from_hub(self.tokens_hub)
        times = await threads.run((root, hub), directory.find_times)
        for name, changed_at in times.items():
            if (server := name.removesuffix(_PUBLIC)) not in running:
                place, location = (root, hub, server), {"mount_path": root, "hub": hub}
                remove = partial(threads.run, place, self._remove, directory, [name])
                yield Leftover({**location, "server": server}, remove, changed_at)

    async def _run_in_thread(
        self, work: Callable[..., None], *arguments: Any, at_last: bool = False
    ) -> None:
        """Call ``work`` with its Hub's directory, the server's name in it, and the arguments."""
        place = tuple(self.tokens_location[name] for name in ("mount_path", "hub", "server"))
        hub, server = HubDirectory(*place[:2]), place[2]
        threads = FileThreads.from_hub(self.tokens_hub)
        await threads.run(place, work, hub, server, *arguments, at_last=at_last)

    # -- in a thread -----------------------------------------------------------------------------

    def _remove_server(self, hub: HubDirectory, server: str) -> None:
        self._remove(hub, [server, server + _PUBLIC])

    def _remove(self, hub: HubDirectory, names: Iterable[str]) -> None:
        """Remove directories of servers: at once if they are small, else in a thread."""
        if left := hub.remove(names, _AT_ONCE):
            assert self.tokens_hub is not None
            key = LocalTokenMixin, "removal"
            lock = self.tokens_hub.known.setdefault(key, threading.Lock())
            arguments = lock, hub, left
            # Not in the Hub's own threads, which large directories would occupy for long.
            threading.Thread(
                target=self._remove_slowly, args=arguments, name=_REMOVER, daemon=True
            ).start()

    def _remove_slowly(self, lock: threading.Lock, hub: HubDirectory, names: list[str]) -> None:
        try:
            with lock:
                left = hub.remove(names, _AT_MOST)
            if left:
                words = "More than %i files to remove: the rest waits for the Hub's next start"
                self.log.warning(words, _AT_MOST)
        except Exception:
            self.log.exception("Could not remove all token files")


def _write(
    hub: HubDirectory,
    server: str,
    files: Mapping[str, bytes | None],
    owner: tuple[int, int],
    public_name: str,
) -> None:
    private = {name: contents for name, contents in files.items() if name != PUBLIC_FILE}
    if private:
        hub.write(server, private, owner)
    if PUBLIC_FILE in files:
        public = {public_name: files[PUBLIC_FILE]}
        hub.write(server + _PUBLIC, public, owner, mode=0o644, directory_mode=0o711)


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
