"""The directory of token files that the Hub shares with the engine, for the mode ``bind``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from ...tokens.files import PUBLIC_FILE
from ..hostfiles import list_files, open_hub_directory, remove, set_aside, write_files

_AT_MOST = 10_000  # entries to remove; users cannot add any, since the mounts are read-only


@dataclass(frozen=True)
class SharedDirectory:
    """A Hub's directory, in which each server has one. Other users of the host cannot enter it.

    ``root``: the path of its parent, as the Hub has it. ``host_root``: the same, as the engine's
    host has it. ``hub``: the Hub's name.
    """

    root: str
    host_root: str
    hub: str

    def open(self, *, create: bool = False) -> AbstractContextManager[int | None]:
        """As :func:`~spawner_tokens.backends.hostfiles.open_hub_directory`."""
        return open_hub_directory(self.root, self.hub, create=create, closed=True)

    def get_host_path(self, name: str) -> str:
        """The path on the engine's host of a name in this directory."""
        return os.path.join(self.host_root, self.hub, name)

    def list_servers(self) -> list[str]:
        with self.open() as directory:
            return [] if directory is None else os.listdir(directory)

    def write(
        self,
        server: str,
        files: Mapping[str, bytes | None],
        owner: tuple[int, int] | None,
        *,
        replace: bool,
    ) -> None:
        """Write files for a server: name → contents, or ``None`` for a file that is to be removed.

        ``owner``: the uid and gid on the engine's host of the user who reads them; ``None`` if it
        is not known, and all users in the container have to read them. ``replace``: remove all
        other files.
        """
        mode = 0o600
        if owner is None or os.geteuid() != 0:
            owner, mode = (os.geteuid(), os.getegid()), 0o644
        public = {name: contents for name, contents in files.items() if name == PUBLIC_FILE}
        private = {name: contents for name, contents in files.items() if name != PUBLIC_FILE}
        with self.open(create=True) as directory:
            assert directory is not None
            if replace:
                private = dict.fromkeys(list_files(directory, server) - files.keys()) | private
            write_files(directory, server, private, owner, mode=mode, directory_mode=0o755)
            write_files(directory, server, public, owner, mode=0o644, directory_mode=0o755)

    def remove(self, servers: Iterable[str]) -> None:
        with self.open() as directory:
            if directory is not None:
                remove(directory, set_aside(directory, servers), _AT_MOST)
