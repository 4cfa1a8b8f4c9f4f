"""Private files: directories that nobody can bend, whatever a user planted. Everything goes by open directories."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator, Mapping
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
    """Open a directory that only we can write to, within ``parent`` if it is given.

    Everybody can pass through it, unless it is ``closed``. Raises :exc:`PermissionError` if it is not as it has to
    be, :exc:`FileNotFoundError` if there is none.
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
    """Open the directory of a Hub in ``root``, as :func:`open_private`; ``None`` if there is none."""
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
    """Make a directory, if there is none, that at least its owner can open, whatever the umask is."""
    try:
        os.mkdir(path, _PASSABLE, dir_fd=parent)
    except FileExistsError:
        return False
    _allow_owner(path, parent)
    return True


def _allow_owner(path: str, parent: int | None) -> None:
    if (
        os.geteuid() != 0
    ):  # root needs no permission, and must not follow a link that was put in its place
        os.chmod(path, 0o700, dir_fd=parent)


def _not_private(path: str, closed: bool) -> PermissionError:
    mode, others = ("0700", "") if closed else ("0711", ", everybody may pass through it")
    return PermissionError(
        f"{path} has to be a directory of the Hub's user with mode {mode}: nobody else can write to it{others}"
    )


def find_own_directory(parent: str) -> str:
    """Our directory in one that others may write to: the same one each time, though somebody took its name."""
    name = f"spawner-tokens-{os.geteuid()}"
    usual = os.path.join(parent, name)
    for path in [usual, *sorted(glob(f"{escape(usual)}-*"))]:
        with suppress(OSError), open_private(path):
            return path
    with suppress(OSError), open_private(usual, create=True):
        return usual
    path = tempfile.mkdtemp(dir=parent, prefix=f"{name}-")
    os.chmod(path, _PASSABLE)
    return path


def list_files(parent: int, name: str) -> set[str]:
    """The names in a directory; none if there is no such directory."""
    try:
        directory = os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        return set()
    try:
        return set(os.listdir(directory))
    finally:
        os.close(directory)


def is_in_memory(path: str) -> bool:
    """Whether what is written to this path stays in memory."""
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
    """Write files into a directory of its owner: each is whole at any time, and, unless a mode says more, his alone.

    ``files``: name → contents, or ``None`` for a file that has to go.
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
    with suppress(FileNotFoundError):  # a Hub was killed while it wrote
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


def set_aside(parent: int, name: str) -> str | None:
    """Take something out of its place at once, however much is in it. Returns its new name, if it was there."""
    try:
        return _move(parent, name, parent)
    except FileNotFoundError:
        return None


def remove(parent: int, names: list[str], limit: int) -> list[str]:
    """Remove these with all that is in them, but not more than ``limit`` entries. Returns the names that are left.

    A directory in another is lifted out of it first, so that no depth matters. Raises the last :exc:`OSError`, when
    all is done that can be.
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
    """Remove one, or add to ``left`` what has to be removed for it. Returns the number of entries that it took."""
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
                left.append(_lift(directory, entry, parent))
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


def _lift(directory: int, entry: str, parent: int) -> str:
    _allow_owner(entry, directory)
    return _move(directory, entry, parent)


def _move(directory: int, name: str, target: int) -> str:
    """Move something to a new name in an open directory. Returns that name."""
    new = f".{secrets.token_hex(8)}"
    os.rename(name, new, src_dir_fd=directory, dst_dir_fd=target)
    return new
