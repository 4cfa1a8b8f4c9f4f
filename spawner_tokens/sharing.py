"""Sharing: which servers others may use, too, and the moment when that changes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context
from datetime import datetime, timezone
from typing import Any

from jupyterhub import orm
from sqlalchemy import event, func, inspect, or_, select, union
from sqlalchemy.exc import SQLAlchemyError
from tornado.log import app_log

from .redaction import describe_error
from .renewal.database import wait_briefly
from .renewal.places import Places

_SHARING = "spawner_tokens.sharing"
# Seconds for which what was read is right as long as this process does not change it. It is right
# for longer while the database cannot be asked.
_LONGEST = 60.0
# Seconds: changes that come together are looked at once. And until a database that fails is tried.
_PAUSE, _RETRY = 0.2, 1.0
# Withdrawals at a time: many, when a Hub with many shared servers has started again.
_AT_ONCE, _RETRIES_AT_ONCE = 100, 20


def is_shared(session: Any, spawner: orm.Spawner) -> bool:
    """Whether others may use this server at this moment, or have a code to get there.

    ``session`` is the Hub's SQLAlchemy session. It is a look into memory, most often. Raises
    :exc:`sqlalchemy.exc.SQLAlchemyError` if the database does not say, and this process has changed
    something since it did: then it may be shared.
    """
    return Sharing.from_session(session).is_shared(spawner.id)


class SharingChanged(Exception):
    """A server is shared, or is not any more, since something was prepared for it."""


class Sharing:
    """All shares of a Hub, by the id of their Spawner's row: the one of a session.

    A share lets others in until its row is gone: JupyterHub looks at ``expires_at`` only when it
    removes the expired ones, once in an hour. A code is of no use from its end on.
    """

    def __init__(self, session: Any, clock: Callable[[], float] = time.time) -> None:
        self._session = session
        self._clock = clock
        self._shared: set[int] = set()
        # When it was read, by the monotonic clock, and when a code ends next.
        self._read_at, self._ends_at = -math.inf, math.inf
        # Of the servers that run: what to call, and those that were shared at the last call.
        self._watched: dict[int, Callable[[Places], None]] = {}
        self._noted: set[int] = set()
        self._places = Places(_AT_ONCE, _RETRIES_AT_ONCE)
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = False
        for name in ("after_bulk_delete", "after_bulk_update", "after_rollback"):
            event.listen(session, name, self._on_session_event)
        if not event.contains(orm.Share, "after_insert", _on_change):
            for share in (orm.Share, orm.ShareCode):
                for name in ("after_insert", "after_update", "after_delete"):
                    event.listen(share, name, _on_change)

    @classmethod
    def from_session(cls, session: Any) -> Sharing:
        """The one of the Hub with this SQLAlchemy session."""
        if _SHARING not in session.info:
            session.info[_SHARING] = cls(session)
        sharing: Sharing = session.info[_SHARING]
        return sharing

    def is_shared(self, spawner_id: int) -> bool:
        """See :func:`is_shared`."""
        self._read()
        return spawner_id in self._shared

    def watch(self, spawner_id: int, was_shared: bool, on_change: Callable[[Places], None]) -> None:
        """From now on, call ``on_change`` when a server is shared, and when it is not any more.

        ``was_shared`` is what is known of it. It is called within a second, and perhaps in vain,
        with the places of all servers for their withdrawals.
        """
        self._watched[spawner_id] = on_change
        (self._noted.add if was_shared else self._noted.discard)(spawner_id)
        self._look_in(_PAUSE)

    def unwatch(self, spawner_id: int) -> None:
        """Forget a server."""
        self._watched.pop(spawner_id, None)

    # -- inside ----------------------------------------------------------------------------------

    def note_change(self) -> None:
        """Something is not as it was read. It may not be final, or be rolled back."""
        self._read_at = -math.inf
        with suppress(RuntimeError):  # no loop: the Hub does not run
            self._look_in(_PAUSE)

    def _on_session_event(self, context: Any) -> None:
        entity = getattr(getattr(context, "mapper", None), "class_", None)
        if entity in (None, orm.Share, orm.ShareCode):  # None: a rollback
            self.note_change()

    def _read(self) -> None:
        now = self._clock()
        if time.monotonic() - self._read_at <= _LONGEST and now < self._ends_at:
            return
        try:
            self._read_again(now)
        except SQLAlchemyError:
            if self._read_at == -math.inf:
                raise
            # This process has changed nothing since. It asks again soon, and not for each server.
            self._read_at, self._ends_at = time.monotonic() - _LONGEST + _RETRY, math.inf

    def _read_again(self, now: float) -> None:
        share, code = orm.Share, orm.ShareCode
        is_over = code.expires_at <= datetime.fromtimestamp(now, timezone.utc).replace(tzinfo=None)
        codes = select(code.spawner_id).where(or_(code.expires_at.is_(None), ~is_over))
        with wait_briefly(self._session), self._session.no_autoflush:
            shared = set(self._session.scalars(union(select(share.spawner_id), codes)))
            ends_at = self._session.scalar(select(func.min(code.expires_at)).where(~is_over))
        self._shared, self._read_at, self._ends_at = shared, time.monotonic(), math.inf
        if ends_at is not None:
            self._ends_at = ends_at.replace(tzinfo=timezone.utc).timestamp()

    def _look_in(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        # In an empty context: a timer would keep a refresh's, and so its tokens.
        self._timer = loop.call_later(seconds, self._look, context=Context())

    def _look(self) -> None:
        self._timer = None
        try:
            self._read()
        except Exception as error:
            if not self._has_failed:
                app_log.error("Cannot see who shares a server: %s", describe_error(error))
            self._has_failed = True
            self._look_in(_RETRY)
            return
        changed = (self._shared ^ self._noted) & self._watched.keys()
        self._has_failed, self._noted = False, set(self._shared)
        for spawner_id in changed:
            loop, on_change = asyncio.get_running_loop(), self._watched[spawner_id]
            loop.call_soon(on_change, self._places, context=Context())
        if self._watched:
            self._look_in(min(max(self._ends_at - self._clock(), 0.0), _LONGEST))


def _on_change(mapper: Any, connection: Any, share: Any) -> None:
    """SQLAlchemy's ``after_insert``, ``after_update`` and ``after_delete`` events."""
    if (sharing := inspect(share).session.info.get(_SHARING)) is not None:
        sharing.note_change()
