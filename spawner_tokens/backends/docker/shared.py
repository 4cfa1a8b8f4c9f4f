"""The directory of token files that the Hub shares with the engine, for the mode ``bind``."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ...tokens.files import PUBLIC_FILE
from ..hostfiles import HubDirectory

SHARED = ("root", "host_root", "hub")  # these entries of a location are a SharedDirectory's
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

    @classmethod
    def from_location(cls, location: Mapping[str, str]) -> SharedDirectory:
        return cls(*(location[name] for name in SHARED))

    @property
    def here(self) -> HubDirectory:
        """As the Hub has it."""
        return HubDirectory(self.root, self.hub, closed=True)

    def get_host_path(self, name: str) -> str:
        """The path on the engine's host of a name in this directory."""
        return os.path.join(self.host_root, self.hub, name)

    def write(
        self,
        server: str,
        files: Mapping[str, bytes | None],
        owner: tuple[int, int] | None,
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
        self.here.write(server, private, owner, mode=mode, directory_mode=0o755, replace=replace)
        self.here.write(server, public, owner, mode=0o644, directory_mode=0o755)

    def find(self, server: str) -> list[int] | None:
        """The device and inode of a server's directory; ``None`` if there is none.

        A container has the directory that was mounted, whatever is at its path by now.
        """
        with self.here.open() as hub, suppress(FileNotFoundError):
            if hub is not None:
                found = os.stat(server, dir_fd=hub, follow_symlinks=False)
                return [found.st_dev, found.st_ino]
        return None

    def remove(self, servers: Iterable[str]) -> None:
        self.here.remove(servers, _AT_MOST)
