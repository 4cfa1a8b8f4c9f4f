"""The Hub's database, read and never written: neither its bytes nor a Hub that runs with it are disturbed."""

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

# What makes the transactions of a connection read-only, where a database is not opened so.
_READ_ONLY = {
    "postgresql": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "mysql": "SET SESSION TRANSACTION READ ONLY",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


# SQLite's reason → what to do.
_ADVICE = {
    "database is locked": "it is being written: try again, and if it stays so, look what else has it open",
    "attempt to write a readonly database": "a Hub that was killed left a write unfinished: start it, and it is mended",
    "unable to open database file": "a Hub that was killed left a write unfinished: start it, and it is mended",
}


class _ReadingSession(Session):
    """What JupyterHub's classes add or change for themselves, as the row of a server that there is none of, stays here."""

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
    """A session that can only read. ``url`` and ``options`` are JupyterHub's ``db_url`` and ``db_kwargs``."""
    try:
        engine = _open(make_url(url), options)
    except (
        SQLAlchemyError,
        ImportError,
        ValueError,
    ) as error:  # the last one has a part of the URL in it
        raise DatabaseError(f"the database cannot be opened: {type(error).__name__}") from None
    try:
        with _ReadingSession(engine, autoflush=False) as session:
            yield session
    except DBAPIError as error:
        # Of SQLite's texts it is known that they have nothing but names.
        reason = (
            str(error.orig) if isinstance(error.orig, sqlite3.Error) else type(error.orig).__name__
        )
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
        raise DatabaseError(f"a database of the kind {backend} cannot be opened for reading alone")
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
        raise DatabaseError("the database is in the memory of the Hub: nobody else can read it")
    path = os.path.abspath(str(url.database))
    if not os.path.isfile(path):
        raise DatabaseError(
            f"there is no database {path}; run this in the folder where the Hub runs, as it does"
        )
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError as error:
        raise DatabaseError(f"the database {path} cannot be read: {error.strerror}") from None
    # With a write-ahead log, SQLite makes two files beside it, also to read, and writes into one of them, unless it is
    # told to keep both hands off. Without them nobody has it open.
    unused = header[18:20] == b"\x02\x02" and not os.path.exists(f"{path}-wal")
    return f"file:{quote(path)}?mode=ro&readonly_shm=1" + ("&immutable=1" if unused else "")
