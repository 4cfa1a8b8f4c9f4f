"""The history: which tokens each user had, and which are in an encrypted auth_state, by hashes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper

from .auth_state import Fingerprint, hash_tokens, read_login

# Tokens to remember, per user: a save may bring what was read before a renewal. Also logins.
_REMEMBERED = 128
# Encrypted auth_states of which to remember the tokens.
_ENCRYPTED = 4096


class TokenHistory:
    """What ``keeper`` encrypts for the Hub need not be decrypted to know its tokens."""

    def __init__(self, keeper: CryptKeeper) -> None:
        self._seen: WeakKeyDictionary[orm.User, tuple[int, ...]] = WeakKeyDictionary()
        self._logins: deque[Fingerprint] = deque(maxlen=_REMEMBERED)
        self._encrypted: dict[int, Fingerprint] = {}  # by the hash of the whole
        self._encrypt = keeper.encrypt
        keeper.encrypt = self._encrypt_and_note

    async def _encrypt_and_note(self, data: Any) -> bytes:
        encrypted: bytes = await self._encrypt(data)
        self._note_encrypted(encrypted, data if isinstance(data, Mapping) else None)
        return encrypted

    def _note_encrypted(self, encrypted: bytes, auth_state: Mapping[str, Any] | None) -> None:
        self._encrypted[hash(encrypted)] = hash_tokens(auth_state)
        if len(self._encrypted) > _ENCRYPTED:
            del self._encrypted[next(iter(self._encrypted))]

    def find_tokens(self, encrypted: bytes | None) -> Fingerprint:
        """The tokens in an encrypted auth_state, which is decrypted if they are not known."""
        if encrypted is None:
            return frozenset()
        if hash(encrypted) not in self._encrypted:
            login = read_login(True, encrypted, CryptKeeper.instance())
            self._note_encrypted(encrypted, login.auth_state)
        return self._encrypted[hash(encrypted)]

    def note_login(self, auth_state: Mapping[str, Any]) -> None:
        """A login brought these tokens, which the Hub is going to save."""
        if tokens := hash_tokens(auth_state):
            self._logins.append(tokens)

    def has_seen(self, user: orm.User) -> bool:
        """Whether any tokens of the user are known."""
        return user in self._seen

    def note(
        self, user: orm.User, encrypted: bytes | None, auth_state: Mapping[str, Any] | None
    ) -> None:
        """Take note of what is in a user's encrypted auth_state."""
        if encrypted is not None:
            self._note_encrypted(encrypted, auth_state)
        self._add(user, hash_tokens(auth_state))

    def _add(self, user: orm.User, tokens: Fingerprint) -> None:
        known = self._seen.get(user, ())
        self._seen[user] = (*known, *(tokens - {*known}))[-_REMEMBERED:]

    def judge(self, user: orm.User, tokens: Fingerprint, stored: Fingerprint) -> tuple[bool, bool]:
        """Whether tokens that are saved are a login's, and whether the stored ones are newer.

        Takes note of both.
        """
        if is_login := tokens in self._logins:
            self._logins.remove(tokens)
        seen = self._seen.get(user, ())
        is_old = not is_login and not (tokens - stored).isdisjoint(seen)
        self._add(user, stored)
        self._add(user, tokens)
        return is_login, is_old
