"""auth_state: read, which login it is of, and made anew. Pure, so that a thread can do it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from cryptography.fernet import InvalidToken
from jupyterhub.crypto import CryptKeeper

from ..tokens.lifetime import find_lifetime
from ..tokens.lookup import FIRST_SEEN, examine, find_dicts, find_jwts
from ..tokens.selection import Login, Reason

AuthState = dict[str, Any]
Fingerprint = frozenset[int]

_TOKEN_FIELDS = ("access_token", "refresh_token", "id_token", "scope", "token_response")
_TIMES = ("created_at", "expires_at", "expires_in")
# Seconds by which another clock may be behind. A JWT that is older was there before it was seen.
_CLOCK_DIFFERENCE = 300.0

# Bytes of an encrypted auth_state. More would keep the event loop for more than some milliseconds.
LARGE = 65536


class Written(NamedTuple):
    """What is to be stored: encrypted, and as it will be read."""

    encrypted: bytes
    login: Login


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
        return _parse(keeper.fernet.decrypt(encrypted))
    except (InvalidToken, ValueError):
        return Login(reason=Reason.UNDECRYPTABLE)


def _parse(text: bytes) -> Login:
    auth_state, digest = json.loads(text), hashlib.sha256(text).digest()
    return Login(auth_state if isinstance(auth_state, dict) else {}, digest=digest)


def write_login(
    make: Callable[[AuthState | None], AuthState | None],
    stored: AuthState | None,
    now: float,
    keeper: CryptKeeper,
) -> Written | None:
    """What ``make`` makes of what is stored, with the age of new tokens; ``None`` if nothing.

    ``now``: seconds since the epoch.
    """
    made = make(stored)
    if made is None:
        return None
    # A copy, as it will be read: what was read does not change, nor what a hook returned.
    auth_state = json.loads(json.dumps(made))
    stamp(auth_state, stored, now)
    written = write(auth_state, keeper)
    _ = written.login.contents  # here, which may be in a thread, and not later
    return written


def write(auth_state: AuthState, keeper: CryptKeeper) -> Written:
    """What is to be stored."""
    text = json.dumps(auth_state).encode()
    return Written(keeper.fernet.encrypt(text), _parse(text))


def fingerprint(auth_state: Mapping[str, Any] | None) -> Fingerprint:
    """Which login an auth_state is of, and which renewal of it: the hashes of its tokens.

    These are the access token and the refresh token. Where there are none, it is the hash of all.
    """
    return hash_tokens(auth_state) or frozenset(
        {hash(json.dumps(auth_state or {}, sort_keys=True))}
    )


def have_same_tokens(login: Login, later: Login) -> bool:
    """Whether the tokens are still the same. A hook may have saved other fields meanwhile."""
    if later.digest == login.digest:
        return True
    return fingerprint(later.auth_state) == fingerprint(login.auth_state)


def hash_tokens(auth_state: Mapping[str, Any] | None) -> Fingerprint:
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


def is_replaced(auth_state: AuthState) -> bool:
    """Whether a hook has put another token in place of the provider's access token."""
    return bool(_find_given(auth_state) != auth_state.get("access_token"))


def _find_given(auth_state: AuthState) -> Any:
    """The access token that the provider gave."""
    response = auth_state.get("token_response")
    token = response.get("access_token") if isinstance(response, Mapping) else None
    return token if isinstance(token, str) else auth_state.get("access_token")


def merge(auth_state: AuthState, answer: Mapping[str, Any], asked_at: float) -> AuthState:
    """auth_state with the answer to a refresh grant (RFC 6749, section 6), like OAuthenticator's.

    What the answer leaves out stays: refresh_token and scope by the RFC, token_type and id_token
    since providers do so. ``created_at`` is ``asked_at``, when the Hub asked by its own clock: the
    provider's may differ. A token that the provider gives again keeps its times. If a hook has
    replaced the access token, its token stays until the hook makes the next one: the provider's
    token may allow more.
    """
    before = auth_state.get("token_response")
    before = before if isinstance(before, Mapping) else None
    kept = {key: value for key, value in (before or {}).items() if key not in _TIMES}
    kept["refresh_token"] = auth_state["refresh_token"]
    response = kept | {key: value for key, value in answer.items() if value or key not in kept}
    response["created_at"] = asked_at
    is_new = response["access_token"] != _find_given(auth_state)
    if not is_new and before is not None:
        response |= {name: before[name] for name in _TIMES if name in before}
    renewed = auth_state | {"refresh_token": response["refresh_token"]}
    if not is_replaced(auth_state):
        renewed["access_token"] = response["access_token"]
    if is_new:  # without what stood beside the old one
        renewed = {key: value for key, value in renewed.items() if key not in _TIMES}
    if response.get("id_token") != kept.get("id_token"):
        response["id_token_created_at"] = asked_at
    if response.get("id_token"):
        renewed["id_token"] = response["id_token"]
    if answer.get("scope"):
        scope = response["scope"]
        renewed["scope"] = scope.split(" ") if isinstance(scope, str) else scope
    return renewed | {"token_response": response}


def stamp(auth_state: AuthState, stored: Mapping[str, Any] | None, now: float) -> bool:
    """Add ``created_at``, as Doorkeeper has it, to answers of unknown age.

    That is now, if their token was not yet stored. ``now``: seconds since the epoch. Returns
    whether it changed anything.
    """
    changed = False
    known: dict[str, Any] = {}
    for node in find_dicts(stored or {}):
        if isinstance(token := node.get("access_token"), str):
            known[token] = known.get(token) or node.get("created_at")
    times = [time for time in known.values() if time is not None]  # of any type
    for node in find_dicts(auth_state):
        token = node.get("access_token")
        if not isinstance(token, str) or (node is auth_state and "expires_in" not in node):
            continue
        if token not in known and node.get("created_at") in times:
            del node["created_at"]  # of the token that was there before
            changed = True
        created_at = known.get(token, now)
        if created_at is not None and _has_no_age(token, node):
            node["created_at"] = created_at
            changed = True
    return _note_jwts(auth_state, stored or {}, now) or changed


def _note_jwts(auth_state: AuthState, stored: Mapping[str, Any], now: float) -> bool:
    """Note when JWTs were first seen that no answer of the provider dates."""
    known, times = find_jwts(stored), stored.get(FIRST_SEEN)
    times = times if isinstance(times, Mapping) else {}
    noted, contents, seen = auth_state.pop(FIRST_SEEN, None), examine(auth_state), {}
    for digest, text in find_jwts(auth_state).items():
        is_dated = "created_at" in contents.answers.get(text, {})
        if is_dated or text in contents.refresh_tokens:
            continue
        if digest in known and digest in times:
            seen[digest] = times[digest]
        elif digest not in known and _is_new(text, now):
            seen[digest] = now
    if seen:
        auth_state[FIRST_SEEN] = seen
    return bool(noted != (seen or None))


def _is_new(token: str, now: float) -> bool:
    """Whether a JWT may have been issued just now, though another clock says otherwise."""
    lifetime = find_lifetime(token, {})
    issued_at = lifetime.issued_at
    is_recent = issued_at is not None and issued_at > now - _CLOCK_DIFFERENCE
    return is_recent and lifetime.left(now) > 0


def _has_no_age(token: str, node: AuthState) -> bool:
    lifetime = find_lifetime(token, node)
    return lifetime.issued_at is None and lifetime.expires_at is None
