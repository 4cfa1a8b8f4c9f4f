"""The private directory in memory for the tokens that a server got from its Hub."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

_PREFIX = "spawner-tokens-server-"
_LOCK = ".lock"


class PrivateDirectory:
    """A directory (0700) whose files (0600) are replaced in one piece.

    Where it cannot be made, or has been removed, that is tried again with each file. It is gone
    after :meth:`remove`. What a process that was killed has left is removed by the next one of the
    same user: a lock says whether it lives.
    """

    def __init__(self, parent: Path | None = None) -> None:
        parent = parent or find_memory()
        _sweep(parent)
        self.path = parent / f"{_PREFIX}{secrets.token_hex(8)}"
        self._changing, self._has_ended, self._lock = threading.Lock(), False, -1
        with suppress(OSError):
            self._make()

    def _make(self) -> None:
        self.path.mkdir(0o700)  # what is there already is another user's
        lock, flags = self.path / f"{_LOCK}.new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        before, self._lock = self._lock, os.open(lock, flags, 0o600)
        with suppress(OSError):  # of the first one
            os.close(before)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        lock.rename(self.path / _LOCK)  # which others see when it is locked

    def _is_there(self) -> bool:
        try:
            return self.path.lstat().st_uid == os.geteuid()
        except OSError:
            return False

    def write(self, name: str, contents: bytes) -> None:
        """Replace a file. After :meth:`remove`, there is none. Raises :exc:`OSError`."""
        with self._changing:
            if self._has_ended:
                return
            if not self._is_there():
                self._make()
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
        with self._changing:
            self._has_ended = True
            shutil.rmtree(self.path, ignore_errors=True)
            with suppress(OSError):
                os.close(self._lock)


def find_memory() -> Path:
    """A directory in memory, where there is one, in which this user can make others."""
    candidates = (os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm", os.environ.get("TMPDIR", ""))
    for path in filter(os.path.isabs, candidates):
        if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK):
            return Path(path)
    return Path("/tmp")


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
