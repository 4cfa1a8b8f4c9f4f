"""The Hub's database, opened for reading only, also beside a Hub that runs with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

# What makes the transactions of a connection read-only.
_READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}
# SQLite's reason → what to do.
_UNFINISHED = "a Hub that was killed left a write unfinished: start the Hub, which completes it"
_ADVICE = {
    "database is locked": "it is being written: try again, or look what else has it open",
    "attempt to write a readonly database": _UNFINISHED,
    "unable to open database file": _UNFINISHED,
}


class _ReadingSession(Session):
    """Writes nothing of what JupyterHub's classes add or change, as the row of a new server."""

    def add(self, instance: object, _warn: bool = True) -> None:
        pass

    def flush(self, objects: object = None) -> None:
        pass

    def commit(self) -> None:
        pass


class DatabaseError(Exception):
    """The database cannot be read. The text shows nothing of it, and no password."""


@contextmanager
def read_database(url: str, options: Mapping[str, Any]) -> Iterator[Session]:
    """A session that can only read.

    ``url`` and ``options`` are JupyterHub's ``db_url`` and ``db_kwargs``. Raises
    :exc:`DatabaseError`.
    """
    try:
        engine = _open(make_url(url), options)
    except (SQLAlchemyError, ImportError, ValueError) as error:  # its text may show the password
        raise DatabaseError(f"the database cannot be opened: {type(error).__name__}") from None
    try:
        with _ReadingSession(engine, autoflush=False) as session:
            yield session
    except DBAPIError as error:
        # SQLite's texts are known to show names only.
        is_sqlite = isinstance(error.orig, sqlite3.Error)
        reason = str(error.orig) if is_sqlite else type(error.orig).__name__
        advice = _ADVICE.get(reason, "if JupyterHub is newer than it, run jupyterhub upgrade-db")
        raise DatabaseError(f"the database cannot be read ({reason}); {advice}") from None
    finally:
        engine.dispose()


def _open(url: URL, options: Mapping[str, Any]) -> Engine:
    backend = url.get_backend_name()
    if backend == "sqlite":
        path = _find_file(url)
        return create_engine(
            url, creator=lambda: sqlite3.connect(path, uri=True, check_same_thread=False)
        )
    if backend not in _READ_ONLY:
        raise DatabaseError(f"a database of the kind {backend} cannot be opened for reading only")
    engine = create_engine(url, **options)

    @event.listens_for(engine, "connect")
    def make_read_only(connection: Any, record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(_READ_ONLY[backend])
        cursor.close()
        connection.commit()

    return engine


def _find_file(url: URL) -> str:
    if url.database in (None, "", ":memory:"):
        raise DatabaseError("the database is in the memory of the Hub, where only the Hub reads it")
    path = os.path.abspath(str(url.database))
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except FileNotFoundError:
        raise DatabaseError(f"there is no database {path}; run this in the Hub's folder") from None
    except OSError as error:
        raise DatabaseError(f"the database {path} cannot be read: {error.strerror}") from None
    # With a write-ahead log, SQLite makes files beside it even to read. "immutable" forbids that,
    # and is right only where no other process has the database open.
    unused = header[18:20] == b"\x02\x02" and not os.path.exists(f"{path}-wal")
    return f"file:{quote(path)}?mode=ro&readonly_shm=1" + ("&immutable=1" if unused else "")
