"""The store: each user's auth_state in the Hub's database.

What is written follows from what was read: if somebody has saved in between, it is made anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from sqlalchemy import event, inspect
from sqlalchemy.exc import SQLAlchemyError

from ..redaction import describe_error
from ..tokens.selection import Login
from .auth_state import (
    LARGE,
    AuthState,
    Written,
    fingerprint,
    merge,
    read_login,
    write_login,
)
from .database import Database
from .foreign_saves import ForeignSaves
from .history import TokenHistory

_T = TypeVar("_T")
_Result = asyncio.Future
_Known = tuple[bytes | None, _Result[Login]]

_STORE = "spawner_tokens.store"
# Seconds for which what was read is kept for others who ask.
_KEPT = 1.0


class AuthStateStore:
    """Reads and writes auth_state, and sees every save by anyone.

    ``on_save`` is called with the :class:`jupyterhub.orm.User` before a saved value is visible, and
    with whether it is a login's; ``on_delete`` with one that is deleted, before that is final.
    """

    def __init__(
        self,
        session: Any,
        clock: Callable[[], float],
        log: Any,
        on_save: Callable[[orm.User, bool], None],
        on_delete: Callable[[orm.User], None],
    ) -> None:
        self._clock = clock
        self._log = log
        self._on_save = on_save
        self.on_delete = on_delete
        self.history = TokenHistory(CryptKeeper.instance())
        # What was read of late, and what is not stored yet, with the stored value that it is of.
        self._known: WeakKeyDictionary[orm.User, _Known] = WeakKeyDictionary()
        self._unsaved: WeakKeyDictionary[orm.User, tuple[bytes | None, Login]] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, "spawner-tokens")
        self._database = Database(session)
        self._foreign = ForeignSaves(self, clock, log)
        self._writing = False
        session.info[_STORE] = self
        if not event.contains(orm.User.encrypted_auth_state, "set", _on_set):
            event.listen(orm.User.encrypted_auth_state, "set", _on_set, retval=True)
            event.listen(orm.User, "after_delete", _on_delete)

    async def read(self, user: orm.User) -> AuthState | None:
        """``None`` if there is no auth_state, or none that can be decrypted. Not to be changed."""
        login = await self.load(user)
        return None if login.auth_state is None else dict(login.auth_state)

    async def load(self, user: orm.User) -> Login:
        """What is stored, or will be as soon as the database is not locked any more.

        It is read and walked once for all who ask within seconds, in a thread if it is large.
        """
        encrypted = user.encrypted_auth_state
        if (unsaved := self._unsaved.get(user)) and unsaved[0] == encrypted:
            return unsaved[1]
        known = self._known.get(user)
        if known is None or known[0] != encrypted:
            known = encrypted, self.run(encrypted, _read_and_walk, encrypted)
            self._remember(user, known)
        login = await asyncio.shield(known[1])
        if len(encrypted or b"") > LARGE:
            self.history.note(user, encrypted, login.auth_state)
        return login

    def run(self, encrypted: bytes | None, work: Callable[..., _T], *args: Any) -> _Result[_T]:
        """In the thread if it is large. There is only one: with several, the loop waits longer."""
        loop = asyncio.get_running_loop()
        if len(encrypted or b"") > LARGE:
            return loop.run_in_executor(self._thread, work, *args)
        return _make_done(work(*args))

    def _remember(self, user: orm.User, known: _Known) -> None:
        self._known[user], loop, context = known, asyncio.get_running_loop(), Context()
        known[1].add_done_callback(
            lambda _: loop.call_later(_KEPT, self._forget, user, known, context=context),
            context=context,
        )

    def _forget(self, user: orm.User, known: _Known) -> None:
        if self._known.get(user) is known:
            del self._known[user]

    async def record(
        self,
        user: orm.User,
        refresh_token: str,
        answer: Mapping[str, Any],
        asked_at: float,
        on_failure: Callable[[Exception], None],
    ) -> AuthState | None:
        """Store the provider's answer for a refresh token, unless a login came in between.

        Returns the auth_state that is now stored; ``None`` if the user is gone. While the database
        is down or locked, it is tried again, ever later, and :meth:`load` has the answer meanwhile.
        ``on_failure`` is called with each error. Raises :exc:`sqlalchemy.exc.SQLAlchemyError` if
        the database refuses what is written again and again.
        """

        def make(stored: AuthState | None) -> AuthState | None:
            if stored is None or stored.get("refresh_token") != refresh_token:
                return None
            return merge(stored, answer, asked_at)

        return await self.save(user, make, on_failure)

    async def replace(
        self,
        user: orm.User,
        seen: AuthState | None,
        auth_state: AuthState,
        on_failure: Callable[[Exception], None],
    ) -> AuthState | None:
        """Store an auth_state that was made from ``seen``, unless there are other tokens by now.

        Returns and raises as :meth:`record`.
        """

        def make(stored: AuthState | None) -> AuthState | None:
            is_kept = auth_state == stored or fingerprint(stored) != fingerprint(seen)
            return None if is_kept else auth_state

        return await self.save(user, make, on_failure)

    async def save(
        self,
        user: orm.User,
        make: Callable[[AuthState | None], AuthState | None],
        on_failure: Callable[[Exception], None],
    ) -> AuthState | None:
        while True:
            seen, login = user.encrypted_auth_state, await self.load(user)
            stored = None if login.auth_state is None else dict(login.auth_state)
            keeper, now = CryptKeeper.instance(), self._clock()
            made = await self.run(seen, write_login, make, stored, now, keeper)
            if made is None:
                return stored
            if inspect(user).session is None:
                return None
            if await self._commit(user, seen, login, made, on_failure):
                return dict(made.login.auth_state or {})

    async def _commit(
        self,
        user: orm.User,
        seen: bytes | None,
        stored: Login,
        made: Written,
        on_failure: Callable[[Exception], None],
    ) -> bool:
        """Returns whether it is stored: not if somebody else has stored something meanwhile."""

        def write_row() -> None:
            if user.encrypted_auth_state == seen:
                self._remember(user, (made.encrypted, _make_done(made.login)))
                self._writing = True
                try:
                    user.encrypted_auth_state = made.encrypted
                finally:
                    self._writing = False

        def wait(error: Exception | None) -> None:
            if error is not None:
                on_failure(error)
            with suppress(SQLAlchemyError):  # after a rollback not even the user's id is known
                self._on_save(user, False)  # what can be delivered already

        self.history.note(user, seen, stored.auth_state)
        self.history.note(user, made.encrypted, made.login.auth_state)
        self._unsaved[user] = seen, made.login
        try:
            await self._database.commit(user, write_row, wait)
        finally:
            self._unsaved.pop(user, None)
        return bool(user.encrypted_auth_state == made.encrypted)

    def see_save(self, user: orm.User, encrypted: bytes | None) -> bytes | None:
        """What is to be saved in place of what somebody saves. Never raises."""
        try:
            is_login = False
            if encrypted is not None and not self._writing:
                encrypted, is_login = self._foreign.repair(user, encrypted)
            self._on_save(user, is_login)
        except Exception as error:  # it must not stop somebody else's save
            words = "Could not look at the auth_state of %s: %s"
            self._log.error(words, user.name, describe_error(error))
        return encrypted

    def find_stored(self, user: orm.User) -> Login | None:
        """What :meth:`load` returns, if that is known."""
        encrypted: bytes | None = user.encrypted_auth_state
        known = self._known.get(user)
        if (unsaved := self._unsaved.get(user)) and unsaved[0] == encrypted:
            return unsaved[1]
        return known[1].result() if known and known[0] == encrypted and known[1].done() else None


def _read_and_walk(encrypted: bytes | None) -> Login:
    login = read_login(True, encrypted, CryptKeeper.instance())
    _ = login.contents
    return login


def _make_done(value: _T) -> _Result[_T]:
    result: _Result[_T] = asyncio.get_running_loop().create_future()
    result.set_result(value)
    return result


def _on_set(user: orm.User, encrypted: bytes | None, old: Any, initiator: Any) -> bytes | None:
    """SQLAlchemy's ``set`` event, which is raised by every save in this process."""
    session = inspect(user).session
    store = session.info.get(_STORE) if session is not None else None
    return store.see_save(user, encrypted) if store and encrypted != old else encrypted


def _on_delete(mapper: Any, connection: Any, user: orm.User) -> None:
    """SQLAlchemy's ``after_delete`` event."""
    if store := inspect(user).session.info.get(_STORE):
        store.on_delete(user)
