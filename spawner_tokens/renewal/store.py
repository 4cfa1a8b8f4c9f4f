"""The journal: each user's auth_state in the Hub's database. Nothing awaits here, so nothing comes in between."""

from __future__ import annotations

import copy
import json
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from cryptography.fernet import InvalidToken
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper, EncryptionUnavailable
from sqlalchemy import event, inspect
from sqlalchemy.exc import SQLAlchemyError

from ..redaction import describe_error
from ..tokens.lifetime import find_lifetime
from ..tokens.selection import find_dicts

TOKEN_FIELDS = ("access_token", "refresh_token", "id_token", "scope", "token_response")
_TIMES = ("created_at", "expires_at", "expires_in")
# Replaced tokens to remember, per user: what somebody read before a renewal, they may save some time after it.
_SPENT = 128
_WATCHER = "spawner_tokens.journal"

AuthState = dict[str, Any]


class AuthStateStore:
    """Reads and writes auth_state in one piece, and sees who else writes it.

    ``on_save`` is called with the :class:`jupyterhub.orm.User` before the value that somebody else saves, or that we
    do, is visible.
    """

    def __init__(
        self,
        session: Any,
        clock: Callable[[], float],
        log: Any,
        on_save: Callable[[orm.User], None],
    ) -> None:
        self._clock = clock
        self._log = log
        self._on_save = on_save
        self._spent: WeakKeyDictionary[orm.User, deque[int]] = WeakKeyDictionary()
        self._writing = False
        session.info[_WATCHER] = self._see
        if not event.contains(orm.User.encrypted_auth_state, "set", _dispatch):
            event.listen(orm.User.encrypted_auth_state, "set", _dispatch, retval=True)

    def read(self, user: orm.User) -> AuthState | None:
        """``None`` if there is no auth_state, or none that can be decrypted."""
        encrypted = user.encrypted_auth_state
        return None if encrypted is None else _decrypt(encrypted)

    def record(
        self, user: orm.User, refresh_token: str, answer: Mapping[str, Any], asked_at: float
    ) -> AuthState | None:
        """Store what the provider answered for a refresh token, unless a login has come in between.

        Returns the auth_state that is now stored. Raises :exc:`sqlalchemy.exc.SQLAlchemyError`, with nothing stored.
        """
        stored = self.read(user)
        if stored is None or stored.get("refresh_token") != refresh_token:
            return stored
        return self._write(user, stored, merge(stored, answer, asked_at))

    def replace(
        self, user: orm.User, seen: AuthState | None, auth_state: AuthState
    ) -> AuthState | None:
        """Store an auth_state that was made from the one seen; nothing, if there are other tokens by now.

        Returns and raises as :meth:`record`.
        """
        stored = self.read(user)
        if auth_state == stored or not (
            _marks(stored) == _marks(seen) if _marks(seen) else stored == seen
        ):
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
        self._spend(user, stored, auth_state)
        return auth_state

    def _spend(self, user: orm.User, stored: AuthState | None, auth_state: AuthState) -> None:
        if old := _marks(stored) - _marks(auth_state):
            self._spent.setdefault(user, deque(maxlen=_SPENT)).extend(old)

    def _see(self, user: orm.User, encrypted: bytes | None) -> bytes | None:
        try:
            if encrypted is not None and not self._writing:
                encrypted = self._mend(user, encrypted)
            self._on_save(user)
        except Exception as error:  # whatever it is, it must not stop somebody else's save
            self._log.error(
                "Could not look at the auth_state of %s: %s", user.name, describe_error(error)
            )
        return encrypted

    def _mend(self, user: orm.User, encrypted: bytes) -> bytes:
        """What somebody else saves, with its age, and without tokens that have been replaced."""
        incoming = _decrypt(encrypted)
        if incoming is None:
            return encrypted
        stored = self.read(user)
        mended = copy.deepcopy(incoming)
        if stored is not None and not _marks(incoming).isdisjoint(self._spent.get(user, ())):
            mended.update({field: stored[field] for field in TOKEN_FIELDS if field in stored})
        stamp(mended, stored, self._clock())
        self._spend(user, stored, mended)
        return encrypted if mended == incoming else CryptKeeper.instance()._encrypt(mended)


def _dispatch(user: orm.User, encrypted: bytes | None, old: Any, initiator: Any) -> bytes | None:
    """SQLAlchemy's ``set`` event, which sees every save by anyone in this process."""
    session = inspect(user).session
    see = session.info.get(_WATCHER) if session is not None else None
    return see(user, encrypted) if see and encrypted != old else encrypted


def mark(auth_state: AuthState | None) -> int:
    """Which login, and which renewal of it, an auth_state comes from."""
    tokens = [(auth_state or {}).get(field) for field in ("access_token", "refresh_token")]
    return hash(json.dumps(tokens if any(tokens) else auth_state, sort_keys=True))


def _marks(auth_state: AuthState | None) -> set[int]:
    values = ((auth_state or {}).get(field) for field in ("access_token", "refresh_token"))
    return {hash(value) for value in values if isinstance(value, str)}


def _decrypt(encrypted: bytes) -> AuthState | None:
    keeper = CryptKeeper.instance()
    try:
        keeper.check_available()
        auth_state = keeper._decrypt(encrypted)
    except (EncryptionUnavailable, InvalidToken, ValueError):
        return None
    return auth_state if isinstance(auth_state, dict) else None


def merge(auth_state: AuthState, answer: Mapping[str, Any], asked_at: float) -> AuthState:
    """auth_state with the answer to a refresh grant (RFC 6749, section 6), in the places where OAuthenticator has it.

    What the answer leaves out stays as it was: the refresh_token, by the RFC, as the scope; the token_type and
    the id_token, since providers do so. ``created_at`` is the time when we asked: the provider's clock may be another.
    A token that the provider gives again keeps its times.
    """
    before = auth_state.get("token_response")
    kept = (
        {key: value for key, value in before.items() if key not in _TIMES}
        if isinstance(before, Mapping)
        else {}
    )
    kept["refresh_token"] = auth_state["refresh_token"]
    response = kept | {key: value for key, value in answer.items() if value or key not in kept}
    response["created_at"] = asked_at
    if response["access_token"] == auth_state.get("access_token") and isinstance(before, Mapping):
        response |= {
            name: before[name] for name in _TIMES if name in before
        }  # it has not become younger
    renewed = auth_state | {
        "access_token": response["access_token"],
        "refresh_token": response["refresh_token"],
    }
    if response.get("id_token"):
        renewed["id_token"] = response["id_token"]
    if answer.get("scope"):
        scope = response["scope"]
        renewed["scope"] = scope.split(" ") if isinstance(scope, str) else scope
    return renewed | {"token_response": response}


def stamp(auth_state: AuthState, stored: AuthState | None, now: float) -> None:
    """Add ``created_at``, as Doorkeeper has it, to answers of unknown age: now, if their token was not yet stored."""
    known: dict[str, Any] = {}
    for node in find_dicts(stored or {}):
        if isinstance(token := node.get("access_token"), str):
            known[token] = known.get(token) or node.get("created_at")
    for node in find_dicts(auth_state):
        token = node.get("access_token")
        if not isinstance(token, str) or (node is auth_state and "expires_in" not in node):
            continue
        created_at = known.get(token, now)
        if created_at is not None and not find_lifetime(token, node).is_known:
            node["created_at"] = created_at
