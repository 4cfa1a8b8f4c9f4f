"""The Hub's database, opened for reading only, also beside a Hub that runs with it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

# What SQLite says after a crash: "attempt to write a readonly database" and others.
_ADVICE = (
    "if a Hub was killed while it wrote, start the Hub, which completes it; if JupyterHub is newer "
    "than the database, run jupyterhub upgrade-db; else try again"
)


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
        with Session(engine, autoflush=False) as session:
            for name in ("add", "flush", "commit"):  # as JupyterHub's classes do for a new server
                setattr(session, name, lambda *arguments, **given: None)
            if engine.name != "sqlite":
                event.listen(session, "after_begin", _make_read_only)
            yield session
    except DBAPIError as error:
        # SQLite's texts are known to show names only.
        is_sqlite = isinstance(error.orig, sqlite3.Error)
        reason = str(error.orig) if is_sqlite else type(error.orig).__name__
        raise DatabaseError(f"the database cannot be read ({reason}); {_ADVICE}") from None
    finally:
        engine.dispose()


def _make_read_only(session: Session, transaction: object, connection: Any) -> None:
    connection.execute(text("SET TRANSACTION READ ONLY"))


def _open(url: URL, options: Mapping[str, Any]) -> Engine:
    if url.get_backend_name() != "sqlite":
        return create_engine(url, **options)
    if url.database in (None, "", ":memory:"):
        raise DatabaseError("the database is in the memory of the Hub, where only the Hub reads it")
    path = os.path.abspath(str(url.database))
    try:
        with open(path, "rb") as file:
            header = file.read(20)
    except OSError as error:
        what = f"the database {path} cannot be read here: {error.strerror}"
        raise DatabaseError(f"{what}; run this in the Hub's folder") from None
    # With a write-ahead log, SQLite makes files beside it even to read. "immutable" forbids that,
    # and is right only where no other process has the database open.
    unused = header[18:20] == b"\x02\x02" and not os.path.exists(f"{path}-wal")
    uri = f"file:{quote(path)}?mode=ro&readonly_shm=1" + ("&immutable=1" if unused else "")
    return create_engine(
        url, creator=lambda: sqlite3.connect(uri, uri=True, check_same_thread=False)
    )
