"""The private directory in memory for the tokens that a server got from its Hub."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

_PREFIX = "spawner-tokens-server-"
_LOCK = ".lock"


class PrivateDirectory:
    """A new directory (0700) whose files (0600) are replaced in one piece.

    It is gone after :meth:`remove`. What a process that was killed has left is removed by the next
    one of the same user: a lock says whether it lives.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or find_memory()
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = self.path / f"{_LOCK}.new"
        self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        lock.rename(self.path / _LOCK)  # which others see when it is locked

    def write(self, name: str, contents: bytes) -> None:
        """Replace a file. Raises :exc:`OSError`."""
        handle, path = tempfile.mkstemp(prefix=".", dir=self.path)  # 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(contents)
            os.replace(path, self.path / name)
        except OSError:
            with suppress(OSError):
                os.unlink(path)
            raise

    def link(self, path: Path) -> None:
        """Show another directory's file under its name, until one of that name is written."""
        (self.path / path.name).symlink_to(path)

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            os.close(self._lock)


def find_memory() -> Path:
    """A directory in memory, where there is one, in which this user can make others."""
    candidates = (os.environ.get("XDG_RUNTIME_DIR"), "/dev/shm")
    for path in candidates:
        if path and os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return Path(path)
    return Path(tempfile.gettempdir())


def _sweep(parent: Path) -> None:
    for path in parent.glob(f"{_PREFIX}*"):
        try:
            if path.lstat().st_uid != os.geteuid():
                continue
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # one that is just being made, or removed
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except OSError:  # its process lives
            pass
        finally:
            os.close(lock)
