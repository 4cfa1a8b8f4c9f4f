"""The Hub's database, which another process may have locked."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from jupyterhub import orm
from sqlalchemy import inspect
from sqlalchemy.exc import (
    DataError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    SQLAlchemyError,
)

# Milliseconds that the event loop waits for SQLite's lock.
_LOCK_TIMEOUT = 10
# Seconds to the next try: doubled each time. In a minute that are ten tries, and so 100 ms.
_FIRST_RETRY, _LAST_RETRY = 0.1, 30.0
# How often the database may refuse what is written.
_REFUSALS = 3


class Database:
    """The Hub's SQLAlchemy session, which commits in the event loop, as all of JupyterHub does."""

    def __init__(self, session: Any) -> None:
        self._session = session
        # By the event loop's clock: until then SQLite is not asked again, for nobody.
        self._locked_until = 0.0
        self._lock_pause = _FIRST_RETRY

    async def commit(
        self, user: orm.User, write: Callable[[], None], on_wait: Callable[[Exception | None], None]
    ) -> None:
        """Have ``write`` change a user's row, and commit that; later, if it is not possible now.

        ``on_wait`` is called with the error then; with ``None``, if another caller had it. Returns
        without having written if the user is gone. Raises :exc:`sqlalchemy.exc.SQLAlchemyError` if
        the database refuses it again and again.
        """
        pause, refusals, loop = _FIRST_RETRY, 0, asyncio.get_running_loop()
        while inspect(user).session is not None:
            error: SQLAlchemyError | None = None
            if loop.time() >= self._locked_until:
                try:
                    with self._lock():
                        write()
                        self._session.commit()
                    self._lock_pause = _FIRST_RETRY
                    return
                except _SQLiteLocked as locked:
                    error = locked
                    self._locked_until = loop.time() + self._lock_pause
                    self._lock_pause = min(2 * self._lock_pause, _LAST_RETRY)
                except SQLAlchemyError as refused:
                    error = refused
                    self._session.rollback()  # another object's change may have been refused, too
            on_wait(error)
            refusals += isinstance(error, (DataError, NotSupportedError, ProgrammingError))
            if error is not None and refusals >= _REFUSALS:
                raise error
            if (left := self._locked_until - loop.time()) > 0:
                await asyncio.sleep(left)
            else:
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LAST_RETRY)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Lock SQLite: what is done in here does not wait for another process."""
        with wait_briefly(self._session) as sqlite:
            if sqlite is not None and not sqlite.in_transaction:
                try:
                    sqlite.execute("BEGIN EXCLUSIVE")
                except sqlite3.OperationalError as error:
                    raise _SQLiteLocked("BEGIN EXCLUSIVE", None, error) from None
            yield


@contextmanager
def wait_briefly(session: Any) -> Iterator[Any]:
    """In here, nothing waits for SQLite's lock for longer than some milliseconds.

    Yields SQLite's own connection; ``None`` if it is another database.
    """
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        yield None
        return
    before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()
    sqlite = connection.connection.dbapi_connection  # the same one after a commit
    sqlite.execute(f"PRAGMA busy_timeout = {_LOCK_TIMEOUT}")
    try:
        yield sqlite
    finally:
        with suppress(sqlite3.ProgrammingError):  # a pool that keeps none has closed it
            sqlite.execute(f"PRAGMA busy_timeout = {before}")


class _SQLiteLocked(OperationalError):
    """Nothing has changed."""
