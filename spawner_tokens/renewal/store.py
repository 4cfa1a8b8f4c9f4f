"""The store: each user's auth_state in the Hub's database.

Its methods do not await: nothing runs between a read and the write that follows from it.
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.fernet import InvalidToken
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from sqlalchemy import event, inspect
from sqlalchemy.exc import DataError, NotSupportedError, ProgrammingError, SQLAlchemyError

from ..redaction import describe_error
from ..tokens.lifetime import find_lifetime
from ..tokens.lookup import find_dicts
from ..tokens.selection import Login, Reason

AuthState = dict[str, Any]
Fingerprint = frozenset[int]

_TOKEN_FIELDS = ("access_token", "refresh_token", "id_token", "scope", "token_response")
_TIMES = ("created_at", "expires_at", "expires_in")
# Seconds to the next try when the database cannot store an auth_state: doubled each time.
_FIRST_RETRY, _LAST_RETRY = 0.1, 30.0
# How often the database may refuse it.
_REFUSALS = 3
# Superseded tokens to remember, per user: a save may bring what was read before a renewal.
_REMEMBERED = 128
_STORE = "spawner_tokens.store"


def read_login(keeps_auth_state: bool, encrypted: bytes | None, keeper: CryptKeeper) -> Login:
    """What is stored of a user's login: ``orm.User.encrypted_auth_state``, decrypted.

    ``keeps_auth_state`` is the authenticator's ``enable_auth_state``. Nothing is encrypted anew if
    there are several keys, as :meth:`jupyterhub.user.User.get_auth_state` does.
    """
    if not keeps_auth_state:
        return Login(reason=Reason.AUTH_STATE_OFF)
    if keeper.fernet is None:
        return Login(reason=Reason.NO_CRYPT_KEY)
    if encrypted is None:
        return Login(reason=Reason.NEVER_STORED)
    try:
        auth_state = keeper._decrypt(encrypted)
    except (InvalidToken, ValueError):
        return Login(reason=Reason.UNDECRYPTABLE)
    return Login(auth_state if isinstance(auth_state, dict) else {})


def fingerprint(auth_state: AuthState | None) -> Fingerprint:
    """Which login an auth_state is of, and which renewal of it: the hashes of its tokens.

    These are the access token and the refresh token. Where there are none, it is the hash of all.
    """
    return hash_tokens(auth_state) or frozenset(
        {hash(json.dumps(auth_state or {}, sort_keys=True))}
    )


def hash_tokens(auth_state: AuthState | None) -> Fingerprint:
    """The hashes of the access token and the refresh token, if there are any."""
    values = ((auth_state or {}).get(field) for field in ("access_token", "refresh_token"))
    return frozenset(hash(value) for value in values if isinstance(value, str))


def carry_over(stored: AuthState | None, new: AuthState) -> AuthState:
    """A new auth_state with the fields of the stored one that no token answer fills.

    They are an admin's ``post_auth_hook``'s, or an authenticator's own.
    """
    names = (*_TOKEN_FIELDS, *_TIMES)
    return {name: value for name, value in (stored or {}).items() if name not in names} | new


def take_tokens(auth_state: AuthState) -> AuthState:
    """The fields of an auth_state that a token answer fills."""
    return {name: auth_state[name] for name in _TOKEN_FIELDS if name in auth_state}


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
        self._superseded: WeakKeyDictionary[orm.User, deque[int]] = WeakKeyDictionary()
        self._logins: deque[Fingerprint] = deque(maxlen=_REMEMBERED)
        self._writing = False
        session.info[_STORE] = self
        if not event.contains(orm.User.encrypted_auth_state, "set", _on_set):
            event.listen(orm.User.encrypted_auth_state, "set", _on_set, retval=True)
            event.listen(orm.User, "after_delete", _on_delete)

    def note_login(self, auth_state: AuthState | None) -> None:
        """A login brought these tokens, which the Hub is going to save."""
        if tokens := hash_tokens(auth_state):
            self._logins.append(tokens)

    def read(self, user: orm.User) -> AuthState | None:
        """``None`` if there is no auth_state, or none that can be decrypted."""
        login = read_login(True, user.encrypted_auth_state, CryptKeeper.instance())
        return None if login.auth_state is None else dict(login.auth_state)

    def record(
        self, user: orm.User, refresh_token: str, answer: Mapping[str, Any], asked_at: float
    ) -> AuthState | None:
        """Store the provider's answer for a refresh token, unless a login came in between.

        Returns the auth_state that is now stored. Raises :exc:`sqlalchemy.exc.SQLAlchemyError`,
        with nothing stored.
        """
        stored = self.read(user)
        if stored is None or stored.get("refresh_token") != refresh_token:
            return stored
        return self._write(user, stored, merge(stored, answer, asked_at))

    def replace(
        self, user: orm.User, seen: AuthState | None, auth_state: AuthState
    ) -> AuthState | None:
        """Store an auth_state that was made from ``seen``, unless there are other tokens by now.

        Returns and raises as :meth:`record`.
        """
        stored = self.read(user)
        if auth_state == stored or fingerprint(stored) != fingerprint(seen):
            return stored
        return self._write(user, stored, copy.deepcopy(auth_state))

    def _write(self, user: orm.User, stored: AuthState | None, auth_state: AuthState) -> AuthState:
        stamp(auth_state, stored, self._clock())
        session = inspect(user).session
        self._writing = True
        try:
            user.encrypted_auth_state = CryptKeeper.instance()._encrypt(auth_state)
        finally:
            self._writing = False
        try:
            session.commit()
        except SQLAlchemyError:
            session.rollback()
            raise
        self._supersede(user, stored, auth_state)
        return auth_state

    def _supersede(self, user: orm.User, stored: AuthState | None, new: AuthState) -> None:
        if stored is not None and (old := hash_tokens(stored) - hash_tokens(new)):
            self._superseded.setdefault(user, deque(maxlen=_REMEMBERED)).extend(old)

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

        Also whether it is a login's, whose tokens are the newest.
        """
        incoming = read_login(True, encrypted, CryptKeeper.instance()).auth_state
        if incoming is None:
            return encrypted, False
        stored = self.read(user)
        repaired = copy.deepcopy(dict(incoming))
        tokens, superseded = hash_tokens(repaired), self._superseded.get(user, ())
        if is_login := tokens in self._logins:
            self._logins.remove(tokens)
        elif stored is not None and not tokens.isdisjoint(superseded):
            repaired.update(take_tokens(stored))
        stamp(repaired, stored, self._clock())
        self._supersede(user, stored, repaired)
        if repaired != incoming:
            encrypted = CryptKeeper.instance()._encrypt(repaired)
        return encrypted, is_login


async def save_when_possible(
    write: Callable[[], AuthState | None],
    user: orm.User,
    on_failure: Callable[[SQLAlchemyError], None],
) -> AuthState | None:
    """Write at once; while the database is down or locked, again, ever later.

    ``None`` if the user is gone. Raises :exc:`sqlalchemy.exc.SQLAlchemyError` if the database
    refuses what is written again and again. ``on_failure`` is called with each error.
    """
    seconds, refusals = _FIRST_RETRY, 0
    while True:
        try:
            return write()
        except SQLAlchemyError as error:
            if (session := inspect(user).session) is None:
                return None
            on_failure(error)
            session.rollback()  # another object's change may have been refused, too
            refusals += isinstance(error, (DataError, NotSupportedError, ProgrammingError))
            if refusals >= _REFUSALS:
                raise
            await asyncio.sleep(seconds)
            seconds = min(2 * seconds, _LAST_RETRY)


def _on_set(user: orm.User, encrypted: bytes | None, old: Any, initiator: Any) -> bytes | None:
    """SQLAlchemy's ``set`` event, which is raised by every save in this process."""
    session = inspect(user).session
    store = session.info.get(_STORE) if session is not None else None
    return store.see_save(user, encrypted) if store and encrypted != old else encrypted


def _on_delete(mapper: Any, connection: Any, user: orm.User) -> None:
    """SQLAlchemy's ``after_delete`` event."""
    if store := inspect(user).session.info.get(_STORE):
        store.on_delete(user)


def merge(auth_state: AuthState, answer: Mapping[str, Any], asked_at: float) -> AuthState:
    """auth_state with the answer to a refresh grant (RFC 6749, section 6), like OAuthenticator's.

    What the answer leaves out stays: refresh_token and scope by the RFC, token_type and id_token
    since providers do so. ``created_at`` is ``asked_at``, when the Hub asked by its own clock: the
    provider's may differ. A token that the provider gives again keeps its times.
    """
    before = auth_state.get("token_response")
    before = before if isinstance(before, Mapping) else None
    kept = {key: value for key, value in (before or {}).items() if key not in _TIMES}
    kept["refresh_token"] = auth_state["refresh_token"]
    response = kept | {key: value for key, value in answer.items() if value or key not in kept}
    response["created_at"] = asked_at
    if response["access_token"] == auth_state.get("access_token") and before is not None:
        response |= {name: before[name] for name in _TIMES if name in before}
    renewed = auth_state | {
        "access_token": response["access_token"],
        "refresh_token": response["refresh_token"],
    }
    if response["access_token"] != auth_state.get("access_token"):  # what stood beside the old one
        renewed = {key: value for key, value in renewed.items() if key not in _TIMES}
    if response.get("id_token") != kept.get("id_token"):
        response["id_token_created_at"] = asked_at
    if response.get("id_token"):
        renewed["id_token"] = response["id_token"]
    if answer.get("scope"):
        scope = response["scope"]
        renewed["scope"] = scope.split(" ") if isinstance(scope, str) else scope
    return renewed | {"token_response": response}


def stamp(auth_state: AuthState, stored: AuthState | None, now: float) -> None:
    """Add ``created_at``, as Doorkeeper has it, to answers of unknown age.

    That is now, if their token was not yet stored. ``now``: seconds since the epoch.
    """
    known: dict[str, Any] = {}
    for node in find_dicts(stored or {}):
        if isinstance(token := node.get("access_token"), str):
            known[token] = known.get(token) or node.get("created_at")
    times = {time for time in known.values() if time is not None}
    for node in find_dicts(auth_state):
        token = node.get("access_token")
        if not isinstance(token, str) or (node is auth_state and "expires_in" not in node):
            continue
        if token not in known and node.get("created_at") in times:
            del node["created_at"]  # of the token that was there before
        created_at = known.get(token, now)
        if created_at is not None and _has_no_age(token, node):
            node["created_at"] = created_at


def _has_no_age(token: str, node: AuthState) -> bool:
    lifetime = find_lifetime(token, node)
    return lifetime.issued_at is None and lifetime.expires_at is None
