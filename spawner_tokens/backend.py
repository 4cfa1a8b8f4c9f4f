"""The backend: what brings files to servers of one kind, and what each implements of it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import inspect

from .traits import TokenTraits


class TokenBackend(TokenTraits):
    """The part of :class:`~spawner_tokens.mixin.TokenSpawnerMixin` that a backend overrides:

    - :meth:`deliver_files` and :meth:`withdraw_files`,
    - :attr:`tokens_directory` if the files are not at ``tokens_mount_path``,
    - :attr:`tokens_public_path` if all users of the server's system can be shown a file,
    - :attr:`delivery_delay` if a running server sees new files only some time later,
    - :meth:`sweep_files` if a Hub that was killed may leave something behind,
    - :attr:`delivers_in_start` if it knows only during its own start where the files go,
    - :attr:`prepares_in_start` if it knows only during its own start what is to be delivered, and
    - :attr:`delivers_variables` and :meth:`make_variable` if its platform can look variables up in what is delivered.
    """

    # Whether start() itself calls deliver_tokens(), or prepare_tokens(), where it knows more than before it.
    delivers_in_start: bool = False
    prepares_in_start: bool = False

    # Whether the text of variables that get a token is among the files: see name_variable_file().
    delivers_variables: bool = False

    @property
    def delivery_delay(self) -> float:
        """Seconds until a running server sees what was delivered; infinite if it never does."""
        return 0.0

    @property
    def shows_files(self) -> bool:
        """Whether the server itself sees the files, and not only what runs beside it."""
        return True

    def make_variable(self, variable: str, text: str) -> Any:
        """A variable of ours, as the environment of this Spawner has it."""
        return text

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        """Show these files to the server, each of them whole at any time: before it starts, and while it runs.

        ``files``: name → contents, or ``None`` for a file that must not be there any more. These are always all of
        the server's files; ``.gitconfig`` is the one at :attr:`tokens_public_path`. Raises :exc:`OSError` if it cannot:
        for a running server, it is called again. The error is logged, so there are no contents in it.
        """
        raise NotImplementedError(f"{type(self).__name__} delivers no files")

    async def withdraw_files(self) -> None:
        """Remove all that :meth:`deliver_files` made for this server, known by its names alone.

        Called when a spawn failed, and when the server has stopped; also before a spawn, unless the backend
        :attr:`delivers_in_start`. Most often there is nothing.
        """

    async def sweep_files(self) -> None:
        """Remove what servers of this Hub left behind that do not run any more.

        Called for the first Spawner after the Hub's start; spawns wait for it.
        """

    @property
    def tokens_directory(self) -> str:
        """The directory of the files, as the server sees it."""
        return self.tokens_mount_path

    @property
    def tokens_public_path(self) -> str | None:
        """Where the server sees a file that is no secret, and that all users of its system are able to read, though
        they need not find it; ``None`` if it cannot be shown one. git refuses to work when it cannot read a file
        that it is told of. One that has to go may as well be empty.
        """
        return None

    @cached_property
    def tokens_hub_name(self) -> str:
        """A name for this Hub among those that share a host, an engine or a cluster."""
        return find_hub_name(inspect(self.orm_spawner).session)


def find_hub_name(session: Any) -> str:
    """Twelve hexadecimal digits. What makes a Hub is its database, by the URL of SQLAlchemy's ``session``."""
    url = session.get_bind().url
    identity = url.render_as_string()  # without its password
    if url.get_backend_name() == "sqlite":
        in_memory = url.database in (None, "", ":memory:")
        identity = f"in memory of {os.getpid()}" if in_memory else os.path.abspath(url.database)
    return hashlib.sha256(identity.encode()).hexdigest()[:12]
