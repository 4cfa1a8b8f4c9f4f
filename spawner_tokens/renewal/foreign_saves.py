"""What somebody else saves of a user: a login, a hook of the admin's, JupyterHub's own refresh."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from contextlib import suppress
from contextvars import Context
from typing import Any
from weakref import WeakKeyDictionary

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from sqlalchemy.exc import SQLAlchemyError

from ..redaction import describe_error
from .auth_state import (
    LARGE,
    AuthState,
    Fingerprint,
    hash_tokens,
    read_login,
    stamp,
    take_tokens,
    write,
)


class ForeignSaves:
    """Keeps the newest tokens in what others save.

    ``store`` is the :class:`.AuthStateStore`, ``clock`` gives seconds since the epoch.
    """

    def __init__(self, store: Any, clock: Callable[[], float], log: Any) -> None:
        self._store, self._history = store, store.history
        self._clock, self._log = clock, log
        self._later: set[asyncio.Task[None]] = set()
        self._last: WeakKeyDictionary[orm.User, int] = WeakKeyDictionary()  # by its hash

    def repair(self, user: orm.User, encrypted: bytes) -> tuple[bytes, bool]:
        """What somebody else saves, with its age, and the stored tokens in place of older ones.

        Also whether it is a login's, whose tokens are the newest. Not later: the only copy of a
        refresh token may be in what it replaces. What is large is left without its age, so that
        such a token is renewed when it is first seen.
        """
        self._last[user] = hash(encrypted)
        if len(encrypted) > LARGE:
            return self._keep_newer(user, encrypted)
        keeper = CryptKeeper.instance()
        login = read_login(True, encrypted, keeper)
        if login.auth_state is None:
            return encrypted, False
        stored = self._store.find_stored(user) or read_login(
            True, user.encrypted_auth_state, keeper
        )
        repaired, tokens = dict(login.auth_state), hash_tokens(login.auth_state)
        is_login, is_old = self._history.judge(user, tokens, hash_tokens(stored.auth_state))
        if is_old:
            repaired.update(copy.deepcopy(take_tokens(dict(stored.auth_state or {}))))
        if stamp(repaired, stored.auth_state, self._clock()) or is_old:
            encrypted = write(repaired, keeper).encrypted
        return encrypted, is_login

    def _keep_newer(self, user: orm.User, encrypted: bytes) -> tuple[bytes, bool]:
        """The same of what is large. In place of older tokens, what is stored stays for now."""
        before: bytes | None = user.encrypted_auth_state
        stored: Fingerprint = frozenset()
        if (login := self._store.find_stored(user)) is not None:
            stored = hash_tokens(login.auth_state)
        elif self._history.has_seen(user) or before is None or len(before) <= LARGE:
            stored = self._history.find_tokens(before)
        else:
            self._do_later(self._look_at(user, before))
        tokens = self._history.find_tokens(encrypted)
        is_login, is_old = self._history.judge(user, tokens, stored)
        if not is_old or before is None or not stored:
            return encrypted, is_login
        self._do_later(self._add(user, encrypted))
        return before, is_login

    def _do_later(self, work: Coroutine[Any, Any, None]) -> None:
        task = Context().run(asyncio.create_task, work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _look_at(self, user: orm.User, encrypted: bytes) -> None:
        """Take note of the tokens of what was there when the Hub started."""
        keeper = CryptKeeper.instance()
        login = await self._store.run(encrypted, read_login, True, encrypted, keeper)
        self._history.note(user, encrypted, login.auth_state)

    async def _add(self, user: orm.User, encrypted: bytes) -> None:
        """Store what somebody saved with older tokens, with the newest ones.

        Not if there was another save since, which is newer.
        """

        def make(stored: AuthState | None) -> AuthState | None:
            if self._last.get(user) != hash(encrypted):
                return None
            saved = read_login(True, encrypted, CryptKeeper.instance()).auth_state
            return {**saved, **take_tokens(stored)} if saved and stored else None

        def log(error: Exception) -> None:
            words = "Could not store what was saved of %s: %s"
            self._log.error(words, user.name, describe_error(error))

        with suppress(SQLAlchemyError):
            await self._store.save(user, make, log)
