"""The selection: a user's auth_state and the specs → tokens with their lifetimes, or the reason why not."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from inspect import iscoroutine
from typing import Any

from .fields import Key, is_deliverable, names_refresh_token, split_scopes
from .lifetime import Lifetime, find_lifetime, jwt_claims
from .spec import TokenSpec

# MAX_ARG_STRLEN of Linux: the most that one `NAME=value` may have, with its NUL byte.
_LONGEST_VARIABLE = 131072

# What git drops from both ends of a name (ident.c): it ends each commit of one that has nothing else.
_NO_NAME = "".join(map(chr, range(33))) + ".,:;<>\"\\'"


class Reason(str, Enum):
    """Why a token is not as its spec asks. The value is its ``status`` in ``<name>.json``."""

    AUTH_STATE_OFF = "auth_state_off"
    NO_CRYPT_KEY = "no_crypt_key"
    UNDECRYPTABLE = "undecryptable"
    NEVER_STORED = "never_stored"
    ABSENT = "absent"
    EXPIRED = "expired"
    SHORT_LIVED = "short_lived"
    LOGIN_ENDED = "login_ended"
    SCOPE_MISSING = "scope_missing"
    SCOPE_FORBIDDEN = "scope_forbidden"
    UNUSABLE = "unusable"
    KEY_FAILED = "key_failed"
    REFRESH_TOKEN = "refresh_token"
    HOOK_FAILED = "hook_failed"
    HOOK_WITHHELD = "hook_withheld"
    DELIVERY_FAILED = "delivery_failed"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True)
class Token:
    """One token of one user: what can be delivered, and the reason where it is not as asked.

    ``value`` is ``None`` where there is nothing to deliver, ``scopes`` where the granted ones are not known.
    ``detail`` is for the admin and has names only, never values.
    """

    spec: TokenSpec
    value: str | None = field(default=None, repr=False)
    companions: Mapping[str, str] = field(default_factory=dict, repr=False)
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the user, for git
    lifetime: Lifetime = Lifetime()
    scopes: tuple[str, ...] | None = None
    reason: Reason | None = None
    detail: str = ""

    @property
    def text(self) -> str | None:
        """The token as it is delivered: in the form of the spec's template."""
        return None if self.value is None else self.spec.render(self.value)

    def withheld(self, reason: Reason, detail: str = "") -> Token:
        """The same token without its value."""
        return replace(self, value=None, companions={}, identity={}, reason=reason, detail=detail)


def select(
    spec: TokenSpec, auth_state: Mapping[str, Any], requested_scopes: Iterable[str] | None = None
) -> Token:
    """Find the token that a spec asks for.

    ``requested_scopes`` are what the authenticator asks the provider for: the granted ones where the
    provider names none (RFC 6749, section 5.1).
    """
    token = Token(spec)
    try:
        value = _find(spec.key, auth_state)
    except _KeyFailed as failed:
        return token.withheld(Reason.KEY_FAILED, f"its key, a function, {failed}")
    if value is None or value == "":
        where = "a function" if callable(spec.key) else repr(spec.key)
        return token.withheld(
            Reason.ABSENT, f"looked up {where}; {_keys_present(spec.key, auth_state)}"
        )
    if not isinstance(value, str):
        return token.withheld(
            Reason.UNUSABLE, f"what its key finds is no text but {type(value).__name__}"
        )
    if _holds_refresh_token(value, auth_state):
        return token.withheld(Reason.REFRESH_TOKEN, "what its key finds is the refresh token")
    return replace(
        token,
        value=value,
        **_companions(spec, auth_state, value),
        lifetime=find_lifetime(value, find_token_response(value, auth_state)),
        scopes=_granted(value, auth_state, requested_scopes),
    )


def apply_hook_value(
    token: Token, values: Mapping[str, Any], auth_state: Mapping[str, Any]
) -> Token:
    """Apply what the admin's ``tokens_hook`` returned: names → values.

    An unchanged value keeps what is known of it. A new one is the hook's own, so its scopes are not checked.
    """
    value = values.get(token.spec.name)
    if value is None or value == "":
        missing = token.value is None
        return token if missing else token.withheld(Reason.HOOK_WITHHELD, "tokens_hook left it out")
    if value == token.value:
        return token
    if not isinstance(value, str):
        return token.withheld(
            Reason.UNUSABLE, f"tokens_hook returned no text for it but {type(value).__name__}"
        )
    if _holds_refresh_token(value, auth_state):
        return token.withheld(Reason.REFRESH_TOKEN, "tokens_hook returned the refresh token for it")
    return Token(
        replace(token.spec, required_scopes=(), forbidden_scopes=()),
        value=value,
        **_companions(token.spec, auth_state, value),
        lifetime=find_lifetime(value, {}),
    )


def check(token: Token, now: float, min_lifetime: float) -> Token:
    """Hold a token against its spec: what cannot or must not be delivered loses its value.

    ``min_lifetime`` (seconds) is for specs that name none. Never more is asked than half of the life
    that the provider gives.
    """
    if token.value is None or token.text is None:
        return token
    spec = token.spec
    if not is_deliverable(token.value):
        return token.withheld(
            Reason.UNUSABLE, "it has a NUL byte or a lone surrogate, which no variable can carry"
        )
    if not all(_fits(variable, token.text) for variable in spec.env):
        return token.withheld(
            Reason.UNUSABLE,
            "it is longer than the 128 KiB that a variable can carry; deliver it as a file only",
        )
    scopes = token.scopes
    if spec.forbidden_scopes and scopes is None:
        return token.withheld(
            Reason.SCOPE_FORBIDDEN, "the provider named no scopes, so it may have any"
        )
    forbidden = [scope for scope in spec.forbidden_scopes if scope in (scopes or ())]
    if forbidden:
        return token.withheld(
            Reason.SCOPE_FORBIDDEN, f"granted, but forbidden: {', '.join(forbidden)}"
        )
    left = token.lifetime.left(now)
    if left <= 0:
        return replace(token, reason=Reason.EXPIRED, detail=f"expired {-left:.0f} seconds ago")
    required = [scope for scope in spec.required_scopes if scope not in (scopes or ())]
    if required:
        granted = "the provider named none" if scopes is None else f"granted: {_listed(scopes)}"
        detail = f"required: {', '.join(required)}; {granted}"
        return replace(token, reason=Reason.SCOPE_MISSING, detail=detail)
    asked = token.lifetime.asked(min_lifetime if spec.min_lifetime is None else spec.min_lifetime)
    if left < asked:
        detail = f"{left:.0f} seconds left, {asked:.0f} asked for"
        return replace(token, reason=Reason.SHORT_LIVED, detail=detail)
    return token


class _KeyFailed(Exception):
    """A key that is a function did not return a value; the text names no value."""


def _find(key: Key, auth_state: Mapping[str, Any]) -> Any:
    return _call(key, auth_state) if callable(key) else _walk(auth_state, key.split("."))


def _call(key: Callable[[dict[str, Any]], Any], auth_state: Mapping[str, Any]) -> Any:
    try:
        value = key(copy.deepcopy(dict(auth_state)))
    except Exception as error:  # its text may hold a value
        raise _KeyFailed(f"raised {type(error).__name__}") from None
    if iscoroutine(value):
        value.close()
        raise _KeyFailed("is async; do that in tokens_hook")
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
        if isinstance(node, Mapping):
            nodes.extend(node.values())
        elif isinstance(node, (list, tuple)):
            nodes.extend(node)


def find_dicts(auth_state: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All dicts in auth_state, itself included."""
    return (node for node in _nodes(auth_state) if isinstance(node, dict))


def find_token_response(value: str, auth_state: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the provider said with this access token: all that stands beside it."""
    said: dict[str, Any] = {}
    for node in find_dicts(auth_state):
        if node.get("access_token") == value:
            said.update(node)
    return said


def _keys_present(key: Key, auth_state: Mapping[str, Any]) -> str:
    present = f"auth_state has {_listed(auth_state)}"
    first = "" if callable(key) else key.partition(".")[0]
    node = auth_state.get(first)
    if first != key and isinstance(node, Mapping):
        present += f"; {first} has {_listed(node)}"
    return present


def _listed(names: Iterable[Any]) -> str:
    """Names for the log: quoted, since they are the provider's; not more than a line's worth."""
    listed = ", ".join(sorted(repr(str(name))[:60] for name in names))
    return (listed if len(listed) <= 800 else listed[:800] + " …") or "nothing"


def _refresh_tokens(auth_state: Mapping[str, Any]) -> Iterator[str]:
    """All texts under keys that are named after the refresh token, wherever they are."""
    for node in find_dicts(auth_state):
        for key, value in node.items():
            if names_refresh_token(str(key)):
                yield from (text for text in _nodes(value) if isinstance(text, str) and text)


def _holds_refresh_token(value: str, auth_state: Mapping[str, Any]) -> bool:
    """Whether a text is a refresh token, or has one in it."""
    return any(_holds(value, refresh_token) for refresh_token in _refresh_tokens(auth_state))


def _holds(text: str, token: str) -> bool:
    return text == token or (
        len(token) >= 8 and token in text
    )  # a short one could be there by chance


def _companions(spec: TokenSpec, auth_state: Mapping[str, Any], value: str) -> dict[str, Any]:
    """What goes with a token, and does not have it in it: fields of :class:`Token`."""
    identity = _texts(spec.git_identity, auth_state, value)
    return {
        "companions": {**dict(_texts(spec.variables, auth_state, value)), **spec.settings},
        "identity": {name: text for name, text in identity if text.strip(_NO_NAME)},
    }


def _texts(
    keys: Mapping[str, Key], auth_state: Mapping[str, Any], token: str
) -> Iterator[tuple[str, str]]:
    """Variable → text, where auth_state has one that can be delivered and does not hold the token."""
    for variable, key in keys.items():
        try:
            value = _find(key, auth_state)
            text = value if isinstance(value, str) else _number(value)
        except (_KeyFailed, ValueError):
            continue
        if not text or _holds(text, token) or _holds_refresh_token(text, auth_state):
            continue
        if is_deliverable(text) and _fits(variable, text):
            yield variable, text


def _fits(variable: str, text: str) -> bool:
    return len(f"{variable}={text}".encode()) < _LONGEST_VARIABLE


def _number(value: Any) -> str | None:
    return json.dumps(value) if isinstance(value, (bool, int, float)) else None


def _granted(
    value: str, auth_state: Mapping[str, Any], requested: Iterable[str] | None
) -> tuple[str, ...] | None:
    """The scopes that the provider granted to a token; ``None`` if they are not known.

    They stand beside the token, or in it, if it is a JWT. Of the login's own tokens the provider need not name them
    where they are the requested ones (RFC 6749, section 5.1).
    """
    login = [
        node for node in (auth_state.get("token_response"), auth_state) if isinstance(node, Mapping)
    ]
    is_the_logins = any(value in (node.get("access_token"), node.get("id_token")) for node in login)
    others = (
        node for node in find_dicts(auth_state) if node is not auth_state and value in node.values()
    )
    for node in [*(login if is_the_logins else others), jwt_claims(value)]:
        for name in ("scope", "scopes", "scp"):  # RFC 6749; Bitbucket; Azure's JWTs
            if node.get(name) not in (None, [""]):  # OAuthenticator's [""]: not named
                return _split(node[name])
    return tuple(requested) if is_the_logins and requested else None


def _split(scope: Any) -> tuple[str, ...] | None:
    """The provider's text, of which OAuthenticator makes a list; ``None`` for anything else."""
    if isinstance(scope, (list, tuple)) and all(isinstance(each, str) for each in scope):
        scope = " ".join(scope)
    return split_scopes(scope) if isinstance(scope, str) else None
