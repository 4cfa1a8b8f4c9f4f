"""Lookup: what a key finds in auth_state, and what else is there."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import iscoroutine
from itertools import chain, islice
from typing import Any

from .lifetime import jwt_claims

Key = str | Callable[[dict[str, Any]], Any]

# What the granted scopes are called: RFC 6749; Bitbucket; Azure's JWTs.
_SCOPES = ("scope", "scopes", "scp")

# The field of ``token_response`` with the scopes that its login asked for, as text.
ASKED_SCOPE = "asked_scope"

# The field of auth_state with the times at which the Hub first saw its JWTs: digest → seconds since
# the epoch.
FIRST_SEEN = "jwts_first_seen"

# The start of a JWT's claims, `{"` in base64. It is looked for first: many names have two dots.
_CLAIMS = ".eyJ"

# Keys of auth_state that hold tokens: they are delivered as tokens, never as companion values.
_TOKEN_KEYS = {"access_token", "id_token", "access_token_secret"}


class KeyFailed(Exception):
    """A key that is a function did not return a value. The text names no value."""


@dataclass(frozen=True)
class Contents:
    """An auth_state, which nothing changes any more, and what one walk through it finds.

    ``answers``: access token → all that stands beside it; id_token → when the Hub asked for it.
    ``refresh_tokens``: all texts under keys that are named after the refresh token. ``scoped``:
    text → the dicts with scopes that it is in, without the auth_state itself.
    """

    auth_state: Mapping[str, Any] = field(repr=False)
    answers: Mapping[str, Mapping[str, Any]] = field(repr=False)
    refresh_tokens: frozenset[str] = field(repr=False)
    scoped: Mapping[str, Sequence[Mapping[str, Any]]] = field(repr=False)
    # A companion's key, and the token that it goes with → what companions.py makes of these.
    companions: dict[Any, tuple[str, str, bool]] = field(default_factory=dict, repr=False)
    # id of a function → the function, so that the id stays its own, and its result
    _called: dict[int, tuple[Any, Any]] = field(default_factory=dict, repr=False)

    def find(self, key: Key) -> Any:
        """What the key finds; ``None`` if nothing. Raises :exc:`KeyFailed`.

        A function is called once.
        """
        if not callable(key):
            return _walk(self.auth_state, key.split("."))
        if id(key) not in self._called:
            try:
                self._called[id(key)] = key, _call(key, self.auth_state)
            except KeyFailed as failed:
                self._called[id(key)] = key, failed
        found = self._called[id(key)][1]
        if isinstance(found, KeyFailed):
            raise KeyFailed(str(found))
        return found


def copy_auth_state(auth_state: Mapping[str, Any]) -> dict[str, Any]:
    """A copy for foreign code, which may change it. It is ten times as fast as ``deepcopy()``."""
    copied: dict[str, Any] = pickle.loads(pickle.dumps(dict(auth_state)))
    return copied


def examine(auth_state: Mapping[str, Any]) -> Contents:
    """Walk through an auth_state, once for all specs and servers."""
    answers: dict[str, dict[str, Any]] = {}
    scoped: dict[str, list[Mapping[str, Any]]] = {}
    refresh_tokens: set[str] = set()
    scopes = frozenset(_SCOPES)
    is_named: dict[Any, bool] = {}  # the same keys come again and again
    for node in find_dicts(auth_state):
        if isinstance(token := node.get("access_token"), str):
            answers.setdefault(token, {}).update(node)
        if isinstance(token := node.get("id_token"), str) and "id_token_created_at" in node:
            answers.setdefault(token, {})["created_at"] = node["id_token_created_at"]
        for key, value in node.items():
            if key not in is_named:
                is_named[key] = names_refresh_token(str(key))
            if is_named[key]:
                refresh_tokens.update(text for text in _nodes(value) if isinstance(text, str))
        if node is not auth_state and not scopes.isdisjoint(node):
            for text in {value for value in node.values() if isinstance(value, str)}:
                scoped.setdefault(text, []).append(node)
    for text, at in find_first_seen(auth_state).items():
        answers.setdefault(text, {}).setdefault("created_at", at)
    return Contents(auth_state, answers, frozenset(refresh_tokens - {""}), scoped)


def _call(key: Callable[[dict[str, Any]], Any], auth_state: Mapping[str, Any]) -> Any:
    try:
        value = key(copy_auth_state(auth_state))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a cancellation of its own, too; its text may hold a value
        raise KeyFailed(f"raised {type(error).__name__}") from None
    if iscoroutine(value):
        value.close()
        raise KeyFailed("is async; do that in tokens_hook")
    return value


def _walk(node: Any, path: list[str]) -> Any:
    """Follow a dotted path. A key may have dots itself: Globus' resource servers do."""
    if isinstance(node, Mapping):
        for end in range(len(path), 0, -1):
            key = ".".join(path[:end])
            if key in node:
                value = node[key] if end == len(path) else _walk(node[key], path[end:])
                if value is not None:
                    return value
    return None


def _nodes(root: Any) -> Iterator[Any]:
    """Everything in auth_state, itself included."""
    nodes = [root]
    while nodes:
        node = nodes.pop()
        yield node
        if isinstance(node, dict):
            nodes.extend(node.values())
        elif isinstance(node, (list, tuple)):
            nodes.extend(node)


def is_longer(value: Any, length: int) -> bool:
    """Whether the JSON of a value has more characters than that, for certain. It is soon known."""
    for node in _nodes(value):
        length -= len(node) if isinstance(node, (str, dict)) else 1
        if length < 0:
            return True
    return False


def find_dicts(auth_state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All dicts in auth_state, itself included."""
    return (node for node in _nodes(auth_state) if isinstance(node, dict))


def find_jwts(auth_state: Mapping[str, Any]) -> dict[str, str]:
    """All JWTs in auth_state, by digests of their texts."""
    texts = {text for text in _nodes(auth_state) if isinstance(text, str) and _CLAIMS in text}
    return {_digest(text): text for text in texts if jwt_claims(text)}


def find_first_seen(auth_state: Mapping[str, Any]) -> dict[str, Any]:
    """A JWT → when the Hub first saw it, if that was noted."""
    seen = auth_state.get(FIRST_SEEN)
    if not isinstance(seen, Mapping):
        return {}
    jwts = find_jwts(auth_state).items()
    return {text: seen[digest] for digest, text in jwts if digest in seen}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]


def describe_keys(key: Key, auth_state: Mapping[str, Any]) -> str:
    """The names of the keys that are there, for the log of a key that found nothing."""
    present = f"auth_state has {_list_keys(auth_state)}"
    first = "" if callable(key) else key.partition(".")[0]
    node = auth_state.get(first)
    if first != key and isinstance(node, Mapping):
        present += f"; {first} has {_list_keys(node)}"
    return present


def _list_keys(node: Mapping[str, Any]) -> str:
    return list_names(node, {key for key, value in node.items() if value is None})


def list_names(names: Iterable[Any], null: Collection[Any] = ()) -> str:
    """Names for the log: quoted, since they are the provider's, and of a bounded length.

    ``null``: those of which to say that they are null.
    """
    quoted = (
        repr(str(name))[:60] + (" (null)" if name in null else "") for name in islice(names, 200)
    )
    listed = ", ".join(sorted(quoted))
    return (listed if len(listed) <= 800 else listed[:800] + " …") or "nothing"


def holds_refresh_token(value: str, contents: Contents) -> bool:
    """Whether a text is a refresh token, or has one in it."""
    return any(holds(value, refresh_token) for refresh_token in contents.refresh_tokens)


def holds_tokens(value: Any, token: str, contents: Contents) -> bool:
    """Whether this token or the refresh token is in a value, or any under the key of a token."""
    secrets = [token, *contents.refresh_tokens]
    for node in _nodes(value):
        keys = [str(key) for key in node] if isinstance(node, Mapping) else []
        texts = [node] if isinstance(node, str) else keys
        if any(holds(text, secret) for text in texts for secret in secrets):
            return True
        if any(is_token_key(key) or names_refresh_token(key) for key in keys):
            return True
    return False


def holds(text: str, token: str) -> bool:
    """Whether a text is a token, or has it in it. A short one could be there by chance."""
    return text == token or (len(token) >= 8 and token in text)


def find_scopes(
    value: str, contents: Contents, requested: Iterable[str] | None
) -> tuple[str, ...] | None:
    """The scopes that the provider granted to a token; ``None`` if they are not known.

    They stand beside the token, or in it, if it is a JWT. For the login's own tokens the provider
    may leave them out if they are those that were asked for (RFC 6749, section 5.1): where that is
    not recorded, the ``requested`` ones of now.
    """
    login = _find_login(value, contents.auth_state)
    others = contents.scoped.get(value, ())
    is_named, scopes = _find_named(value, login or others)
    asked = next(filter(None, (_split(node.get(ASKED_SCOPE)) for node in login)), requested)
    return scopes if is_named or not (login and asked) else tuple(asked)


def find_answer_scopes(value: str, answer: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The scopes of a token that this answer brought; ``None`` if they are not known."""
    return _find_named(value, [answer])[1]


def _find_named(
    value: str, nodes: Iterable[Mapping[str, Any]]
) -> tuple[bool, tuple[str, ...] | None]:
    """Whether scopes are named in one of these, or in the token, and which; ``None``: unusable."""
    for node in chain(nodes, map(jwt_claims, [value])):  # not decoded if it need not be
        for name in _SCOPES:
            if node.get(name) not in (None, [""]):  # OAuthenticator's [""]: not named
                return True, _split(node[name])
    return False, None


def is_the_logins(value: str, auth_state: Mapping[str, Any]) -> bool:
    """Whether a token is one of those that the provider gave at the login."""
    return bool(_find_login(value, auth_state))


def _find_login(value: str, auth_state: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The dicts with the login's tokens, if this is one of them."""
    response = auth_state.get("token_response")
    login = [response, auth_state] if isinstance(response, Mapping) else [auth_state]
    found = any(value in (node.get("access_token"), node.get("id_token")) for node in login)
    return login if found else []


def _split(scope: Any) -> tuple[str, ...] | None:
    """The provider's text, of which OAuthenticator makes a list; ``None`` for anything else.

    A blank one says nothing of what was granted.
    """
    if isinstance(scope, (list, tuple)) and all(isinstance(each, str) for each in scope):
        scope = " ".join(scope)
    return (split_scopes(scope) or None) if isinstance(scope, str) else None


def split_scopes(text: str) -> tuple[str, ...]:
    """The scopes of a text, between spaces (RFC 6749, section 3.3) or, as GitHub's, commas."""
    return tuple(text.replace(",", " ").split())


def is_token_key(key: Key) -> bool:
    """Whether a path ends in a key that holds tokens."""
    return isinstance(key, str) and key.lower().rpartition(".")[2] in _TOKEN_KEYS


def names_refresh_token(key: str) -> bool:
    """Whether a key of auth_state, or a path to one, is a refresh token's, in any spelling."""
    return "refreshtoken" in re.sub(r"[^a-z]", "", key.lower())


def is_deliverable(text: str) -> bool:
    """Whether a variable or a UTF-8 file can carry this text: no NUL byte, no lone surrogate."""
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False
