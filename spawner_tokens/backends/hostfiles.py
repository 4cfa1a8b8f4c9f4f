"""Files in directories that only the Hub's user can write to, safe from links that users plant.

Each path is relative to an open directory, so no part of it can be replaced by a link meanwhile.
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from errno import ENOTEMPTY
from glob import escape, glob
from itertools import islice
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PASSABLE, _CLOSED = 0o711, 0o700
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_private(
    path: str, parent: int | None = None, *, create: bool = False, closed: bool = False
) -> Iterator[int]:
    """Open a directory that only the Hub's user can write to; in ``parent`` if it is given.

    ``parent`` and the result are descriptors of open directories. ``create``: make the directory if
    there is none. ``closed``: other users cannot pass through it, if it is made here or in
    ``parent``; who made it elsewhere has chosen its mode.

    Raises :exc:`PermissionError` for a wrong owner or mode, :exc:`FileNotFoundError` for none.
    """
    made = create and _make(path, parent)
    try:
        directory = os.open(path, _DIRECTORY, dir_fd=parent)
    except NotADirectoryError:  # a link, too
        raise _not_private(path, closed) from None
    try:
        found = os.fstat(directory)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise _not_private(path, closed)
        if made or parent is not None:
            os.fchmod(directory, _CLOSED if closed else _PASSABLE)
        elif os.geteuid() == 0 and not closed and not found.st_mode & 0o001:
            raise _not_private(path, closed)
        yield directory
    finally:
        os.close(directory)


@dataclass(frozen=True)
class HubDirectory:
    """A Hub's directory, in which each of its servers has one. It is there while it is not empty.

    ``root``: the path of the directory in which it is. ``hub``: its name. ``closed``: as in
    :func:`open_private`, for both.
    """

    root: str
    hub: str
    closed: bool = False

    @contextmanager
    def open(self, *, create: bool = False) -> Iterator[int | None]:
        """Its descriptor; ``None`` if it is not there. Raises as :func:`open_private`."""
        with ExitStack() as stack:
            directory: int | None = None
            try:
                opened = open_private(self.root, create=create, closed=self.closed)
                parent = stack.enter_context(opened)
                opened = open_private(self.hub, parent, create=create, closed=self.closed)
                directory = stack.enter_context(opened)
            except FileNotFoundError:
                if create:
                    raise
            try:
                yield directory
            finally:
                if directory is not None:
                    with suppress(OSError):  # most often, it is not empty
                        os.rmdir(self.hub, dir_fd=parent)

    def find_times(self) -> dict[str, float]:
        """The directories in it: name → time of its last change, in seconds since the epoch."""
        times = {}
        with self.open() as directory:
            for name in os.listdir(directory) if directory is not None else ():
                with suppress(FileNotFoundError):  # servers start and stop meanwhile
                    times[name] = os.lstat(name, dir_fd=directory).st_mtime
        return times

    def write(
        self,
        name: str,
        files: Mapping[str, bytes | None],
        owner: tuple[int, int],
        *,
        mode: int = 0o600,
        directory_mode: int = 0o700,
        replace: bool = False,
    ) -> None:
        """Write files into the directory ``name``, which is made if there is none.

        ``files``: name → contents, or ``None`` for a file that is to be removed. ``owner``: uid and
        gid of the directory and its files. ``replace``: remove all other files. A reader sees an
        old file or a new one, and never a part.
        """

        def write() -> None:
            with self.open(create=True) as hub:
                assert hub is not None
                _make(name, hub)
                directory = _enter(name, hub)
                try:
                    others = os.listdir(directory) if replace else ()
                    for file, contents in {**dict.fromkeys(others), **files}.items():
                        _write(directory, file, contents, owner, mode)
                    os.fchmod(directory, directory_mode)
                    os.fchown(directory, *owner)
                finally:
                    os.close(directory)

        try:
            write()
        except FileNotFoundError:  # it was empty, and a thread has removed it meanwhile
            write()

    def remove(self, names: Iterable[str], limit: int) -> list[str]:
        """Remove directories of servers, but at most ``limit`` entries in all.

        They are first renamed, which is fast however much is in them. A directory in another one is
        first moved to this one, so that paths do not get long. Returns the names that are left.
        Raises the last :exc:`OSError`, after all others are removed.
        """
        left: list[str] = []
        failure = None
        with self.open() as directory:
            if directory is None:
                return []
            for name in names:
                with suppress(FileNotFoundError):
                    left.append(_move(directory, name, directory))
            while left and limit > 0:
                try:
                    limit -= _remove_one(directory, left.pop(), left, limit)
                except OSError as error:
                    failure = error
        if failure:
            raise failure
        return left


def _make(path: str, parent: int | None) -> bool:
    """Make a directory if there is none; its owner can open it, whatever the umask is."""
    try:
        os.mkdir(path, _PASSABLE, dir_fd=parent)
    except FileExistsError:
        return False
    # root needs no permission, and must not follow a link that a user has put there.
    if os.geteuid() != 0:
        os.chmod(path, 0o700, dir_fd=parent)
    return True


def _not_private(path: str, closed: bool) -> PermissionError:
    mode = "0700: no other user can write to it"
    if not closed:
        mode = "0711: no other user can write to it, and all can pass through it"
    return PermissionError(f"{path} has to be a directory of the Hub's user with mode {mode}")


def make_private_directory(parent: str) -> str:
    """Make a directory in one that other users may write to, or find the one of an earlier call.

    Returns its path. It is another one if another user has already taken the usual name.
    """
    usual = os.path.join(parent, name := f"spawner-tokens-{os.geteuid()}")
    if (found := find_private_directory(parent)) is not None:
        return found
    with suppress(OSError), open_private(usual, create=True):
        return usual
    path = tempfile.mkdtemp(dir=parent, prefix=f"{name}-")
    os.chmod(path, _PASSABLE)
    return path


def find_private_directory(parent: str) -> str | None:
    """The path of a directory that :func:`make_private_directory` has made, if there is one."""
    usual = os.path.join(parent, f"spawner-tokens-{os.geteuid()}")
    for path in [usual, *sorted(glob(f"{escape(usual)}-*"))]:
        with suppress(OSError), open_private(path):
            return path
    return None


def is_in_memory(path: str) -> bool:
    """Whether files at this path are kept in memory: on a tmpfs or ramfs."""
    try:
        mounts = dict(line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    except OSError:
        return False
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return mounts.get(path) in ("tmpfs", "ramfs")


def _enter(name: str, parent: int, *, take: bool = False) -> int:
    """Open a server's directory in ``parent``, so that what is in it can be changed.

    root may be without ``CAP_DAC_OVERRIDE``, so it gets in by the group. The user keeps access,
    unless the Hub is to ``take`` the directory.
    """
    found, hub = os.stat(name, dir_fd=parent, follow_symlinks=False), os.geteuid()
    if stat.S_ISDIR(found.st_mode):  # no link, and only the Hub can put one there
        if found.st_uid != hub:
            uid = hub if take else -1
            os.chown(name, uid, os.getegid(), dir_fd=parent, follow_symlinks=False)
        mode = 0o700 if take or found.st_uid == hub else 0o770
        kept = 0 if take else stat.S_IMODE(found.st_mode)
        os.chmod(name, mode | kept, dir_fd=parent)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _write(
    directory: int, name: str, contents: bytes | None, owner: tuple[int, int], mode: int
) -> None:
    if contents is None:
        _clear(directory, name)
        return
    temporary = f".{name}.new"
    _clear(directory, temporary)  # left by a Hub that was killed while it wrote
    try:
        with os.fdopen(os.open(temporary, _NEW_FILE, 0o600, dir_fd=directory), "wb") as file:
            file.write(contents)
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), *owner)
        try:
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        except IsADirectoryError:
            _clear(directory, name)
            os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise


def _clear(directory: int, name: str) -> None:
    """Remove a file. A directory that its user has put there goes with the server's, if not now."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        pass
    except IsADirectoryError:
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError:
            _move(directory, name, directory)


def _remove_one(parent: int, name: str, left: list[str], limit: int) -> int:
    """Remove ``name``, or add to ``left`` what has to be removed before it.

    Returns the number of entries that were removed or moved.
    """
    try:
        directory = _enter(name, parent, take=True)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)
        return 1
    try:
        with os.scandir(directory) as entries:
            first = [entry.name for entry in islice(entries, limit)]
        for entry in first:
            try:
                os.unlink(entry, dir_fd=directory)
            except IsADirectoryError:
                os.close(_enter(entry, directory, take=True))  # who moves a directory changes it
                left.append(_move(directory, entry, parent))
    finally:
        os.close(directory)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:
        if error.errno != ENOTEMPTY:
            raise
        left.append(name)
    return len(first) + 1


def _move(directory: int, name: str, target: int) -> str:
    """Move a directory's entry to the directory ``target``, by a new name. Returns that name."""
    new = f".{secrets.token_hex(8)}"
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=target)
    return new
