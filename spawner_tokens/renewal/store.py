"""The store: each user's auth_state in the Hub's database.

What is written follows from what was read: if somebody has saved in between, it is made anew.
"""

from __future__ import annotations

import asyncio
import copy
from collections import deque
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
    AuthState,
    Fingerprint,
    Written,
    fingerprint,
    hash_tokens,
    merge,
    read_login,
    stamp,
    take_tokens,
    write,
    write_login,
)
from .database import Database

_T = TypeVar("_T")
_Result = asyncio.Future
_Known = tuple[bytes | None, _Result[Login]]

# Tokens to remember, per user: a save may bring what was read before a renewal.
_REMEMBERED = 128
_STORE = "spawner_tokens.store"
# Bytes of an encrypted auth_state. More would keep the event loop for more than some milliseconds.
_LARGE = 65536
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
        self._seen: WeakKeyDictionary[orm.User, tuple[int, ...]] = WeakKeyDictionary()
        # What was read of late, and what is not stored yet, with the stored value that it is of.
        self._known: WeakKeyDictionary[orm.User, _Known] = WeakKeyDictionary()
        self._unsaved: WeakKeyDictionary[orm.User, tuple[bytes | None, Login]] = WeakKeyDictionary()
        self._thread = ThreadPoolExecutor(1, "spawner-tokens")
        self._database = Database(session)
        self._logins: deque[Fingerprint] = deque(maxlen=_REMEMBERED)
        self._writing = False
        session.info[_STORE] = self
        if not event.contains(orm.User.encrypted_auth_state, "set", _on_set):
            event.listen(orm.User.encrypted_auth_state, "set", _on_set, retval=True)
            event.listen(orm.User, "after_delete", _on_delete)

    def note_login(self, auth_state: AuthState) -> None:
        """A login brought these tokens, which the Hub is going to save."""
        if tokens := hash_tokens(auth_state):
            self._logins.append(tokens)

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
            known = encrypted, self._run(encrypted, _read_and_walk, encrypted)
            self._remember(user, known)
        login = await asyncio.shield(known[1])
        if len(encrypted or b"") > _LARGE:
            self._note(user, login.auth_state)  # so that the next foreign save need not decrypt it
        return login

    def _run(self, encrypted: bytes | None, work: Callable[..., _T], *args: Any) -> _Result[_T]:
        """In the thread if it is large. There is only one: with several, the loop waits longer."""
        loop = asyncio.get_running_loop()
        if len(encrypted or b"") > _LARGE:
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

        return await self._save(user, make, on_failure)

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

        return await self._save(user, make, on_failure)

    async def _save(
        self,
        user: orm.User,
        make: Callable[[AuthState | None], AuthState | None],
        on_failure: Callable[[Exception], None],
    ) -> AuthState | None:
        while True:
            seen, login = user.encrypted_auth_state, await self.load(user)
            stored = None if login.auth_state is None else dict(login.auth_state)
            keeper, now = CryptKeeper.instance(), self._clock()
            made = await self._run(seen, write_login, make, stored, now, keeper)
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

        self._note(user, stored.auth_state)
        self._note(user, made.login.auth_state)
        self._unsaved[user] = seen, made.login
        try:
            await self._database.commit(user, write_row, wait)
        finally:
            self._unsaved.pop(user, None)
        return bool(user.encrypted_auth_state == made.encrypted)

    def _note(self, user: orm.User, auth_state: Mapping[str, Any] | None) -> None:
        known = self._seen.get(user, ())
        self._seen[user] = (*known, *(hash_tokens(auth_state) - {*known}))[-_REMEMBERED:]

    def see_save(self, user: orm.User, encrypted: bytes | None) -> bytes | None:
        """What is to be saved in place of what somebody saves. Never raises."""
        try:
            is_login = False
            if encrypted is not None and not self._writing:
                encrypted, is_login = self._repair_foreign_save(user, encrypted)
            self._on_save(user, is_login)
        except Exception as error:  # it must not stop somebody else's save
            words = "Could not look at the auth_state of %s: %s"
            self._log.error(words, user.name, describe_error(error))
        return encrypted

    def _repair_foreign_save(self, user: orm.User, encrypted: bytes) -> tuple[bytes, bool]:
        """What somebody else saves, with its age, and the stored tokens in place of older ones.

        Also whether it is a login's, whose tokens are the newest. Not later, however large it is:
        the only copy of a refresh token may be in what it replaces. What is large is left without
        its age, so that such a token is renewed when it is first seen.
        """
        keeper = CryptKeeper.instance()
        login = read_login(True, encrypted, keeper)
        if login.auth_state is None:
            return encrypted, False
        tokens, is_large = hash_tokens(login.auth_state), len(encrypted) > _LARGE
        if is_login := tokens in self._logins:
            self._logins.remove(tokens)
        seen = self._seen.get(user)
        may_be_old = not (is_login or tokens.isdisjoint(seen or ()))
        if not is_large or may_be_old or seen is None:
            stored = self._find_stored(user).auth_state
            self._note(user, stored)
            repaired, is_old = dict(login.auth_state), False
            if may_be_old and stored is not None:
                is_old = not (tokens - hash_tokens(stored)).isdisjoint(seen or ())
            if is_old:
                repaired.update(copy.deepcopy(take_tokens(dict(stored or {}))))
            if (not is_large and stamp(repaired, stored, self._clock())) or is_old:
                encrypted, login = write(repaired, keeper)
        self._note(user, login.auth_state)
        return encrypted, is_login

    def _find_stored(self, user: orm.User) -> Login:
        encrypted: bytes | None = user.encrypted_auth_state
        known = self._known.get(user)
        if (unsaved := self._unsaved.get(user)) and unsaved[0] == encrypted:
            return unsaved[1]
        if known is not None and known[0] == encrypted and known[1].done():
            return known[1].result()
        return read_login(True, encrypted, CryptKeeper.instance())


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
