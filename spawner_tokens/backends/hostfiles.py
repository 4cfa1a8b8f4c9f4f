"""Files in directories that only the Hub's user can write to, safe from links that users plant.

Each path is relative to an open directory, so no part of it can be replaced by a link meanwhile.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
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

    Raises :exc:`PermissionError` if its owner or mode is wrong, :exc:`FileNotFoundError` if there
    is none.
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


@contextmanager
def open_hub_directory(
    root: str, hub: str, *, create: bool = False, closed: bool = False
) -> Iterator[int | None]:
    """Open a Hub's directory in ``root``, by the Hub's name; ``None`` if there is none.

    ``create``, ``closed`` and errors: as in :func:`open_private`, for both directories.
    """
    with ExitStack() as stack:
        try:
            parent = stack.enter_context(open_private(root, create=create, closed=closed))
            directory: int | None = stack.enter_context(
                open_private(hub, parent, create=create, closed=closed)
            )
        except FileNotFoundError:
            if create:
                raise
            directory = None
        yield directory


def _make(path: str, parent: int | None) -> bool:
    """Make a directory if there is none; its owner can open it, whatever the umask is."""
    try:
        os.mkdir(path, _PASSABLE, dir_fd=parent)
    except FileExistsError:
        return False
    _allow_owner(path, parent)
    return True


def _allow_owner(path: str, parent: int | None) -> None:
    # root needs no permission, and must not follow a link that a user has put there.
    if os.geteuid() != 0:
        os.chmod(path, 0o700, dir_fd=parent)


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


def list_files(parent: int, name: str) -> set[str]:
    """The names in the directory ``name``; none if there is no such directory."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return set()
    try:
        return set(os.listdir(directory))
    finally:
        os.close(directory)


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


def write_files(
    parent: int,
    name: str,
    files: Mapping[str, bytes | None],
    owner: tuple[int, int],
    *,
    mode: int = 0o600,
    directory_mode: int = 0o700,
) -> None:
    """Write files into the directory ``name``, which is made if there is none.

    ``files``: name → contents, or ``None`` for a file that is to be removed. ``owner``: uid and gid
    of the directory and its files. A reader sees an old file or a new one, and never a part.
    """
    _make(name, parent)
    directory = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        for file, contents in files.items():
            if contents is None:
                with suppress(FileNotFoundError):
                    os.unlink(file, dir_fd=directory)
            else:
                _write(directory, file, contents, owner, mode)
        os.fchmod(directory, directory_mode)
        os.fchown(directory, *owner)
    finally:
        os.close(directory)


def _write(directory: int, name: str, contents: bytes, owner: tuple[int, int], mode: int) -> None:
    temporary = f".{name}.new"
    with suppress(FileNotFoundError):  # left by a Hub that was killed while it wrote
        os.unlink(temporary, dir_fd=directory)
    try:
        with os.fdopen(os.open(temporary, _NEW_FILE, 0o600, dir_fd=directory), "wb") as file:
            file.write(contents)
            os.fchmod(file.fileno(), mode)
            os.fchown(file.fileno(), *owner)
        os.replace(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=directory)
        raise


def set_aside(parent: int, names: Iterable[str]) -> list[str]:
    """Rename directories, which is fast however much is in them. Returns their new names.

    Names that are not there are left out.
    """
    found = []
    for name in names:
        with suppress(FileNotFoundError):
            found.append(_move(parent, name, parent))
    return found


def remove(parent: int, names: Iterable[str], limit: int) -> list[str]:
    """Remove files and directories with their contents, but at most ``limit`` entries in all.

    A directory in another one is first moved to ``parent``, so that paths do not get long. Returns
    the names in ``parent`` that are left. Raises the last :exc:`OSError`, after all others are
    removed.
    """
    left, failure = list(names), None
    while left and limit > 0:
        try:
            limit -= _remove_one(parent, left.pop(), left, limit)
        except OSError as error:
            failure = error
    if failure:
        raise failure
    return left


def _remove_one(parent: int, name: str, left: list[str], limit: int) -> int:
    """Remove ``name``, or add to ``left`` what has to be removed before it.

    Returns the number of entries that were removed or moved.
    """
    try:
        directory = _open_own(parent, name)
    except NotADirectoryError:
        os.unlink(name, dir_fd=parent)
        return 1
    try:
        os.fchmod(directory, 0o700)
        with os.scandir(directory) as entries:
            first = [entry.name for entry in islice(entries, limit)]
        for entry in first:
            try:
                os.unlink(entry, dir_fd=directory)
            except (IsADirectoryError, PermissionError):
                _allow_owner(entry, directory)
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


def _open_own(parent: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except PermissionError:
        _allow_owner(name, parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)


def _move(directory: int, name: str, target: int) -> str:
    """Move a directory's entry to the directory ``target``, by a new name. Returns that name."""
    new = f".{secrets.token_hex(8)}"
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=target)
    return new
