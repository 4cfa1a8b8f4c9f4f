"""The selection: the tokens of a login by the specs, or the reasons why there are none."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from typing import Any

from .companions import find_companions, fits
from .lifetime import Lifetime, find_lifetime
from .lookup import (
    Contents,
    KeyFailed,
    describe_keys,
    examine,
    find_scopes,
    holds_refresh_token,
    is_deliverable,
    is_the_logins,
    list_names,
)
from .scopes import imply_scopes
from .spec import TokenSpec


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
    KIND_CHANGED = "kind_changed"
    SCOPE_MISSING = "scope_missing"
    SCOPE_NOT_REQUESTED = "scope_not_requested"
    SCOPE_FORBIDDEN = "scope_forbidden"
    UNUSABLE = "unusable"
    KEY_FAILED = "key_failed"
    REFRESH_TOKEN = "refresh_token"
    EXCHANGE_FAILED = "exchange_failed"
    EXCHANGE_DENIED = "exchange_denied"
    HOOK_FAILED = "hook_failed"
    HOOK_WITHHELD = "hook_withheld"
    SHARED = "shared"
    DELIVERY_FAILED = "delivery_failed"
    MISCONFIGURED = "misconfigured"


@dataclass(frozen=True)
class Exchanged:
    """What the provider gave for a subject token, or the reason why there is nothing.

    ``scopes`` is ``None`` where they are not known. ``due_at`` is when to ask again, in seconds
    since the epoch. ``detail`` has no values.
    """

    value: str | None = field(default=None, repr=False)
    lifetime: Lifetime = Lifetime()
    scopes: tuple[str, ...] | None = None
    reason: Reason | None = None
    detail: str = ""
    due_at: float = math.inf


@dataclass(frozen=True)
class Login:
    """What is stored of a user's login: its auth_state, or the reason why there is none.

    ``exchanged``: the name of a spec with an exchange → what there is for its subject token.
    """

    auth_state: Mapping[str, Any] | None = field(default=None, repr=False)
    reason: Reason | None = None
    digest: bytes = field(default=b"", repr=False)  # of the auth_state's text
    exchanged: Mapping[str, Exchanged] = field(default_factory=dict, repr=False)

    @cached_property
    def contents(self) -> Contents:
        """What is in the auth_state."""
        return examine(self.auth_state or {})

    @cached_property
    def exchanged_digest(self) -> bytes:
        """The digest of all that was exchanged; not of when to ask again."""
        found = (
            (name, each.value, each.lifetime.expires_at, each.scopes, each.reason, each.detail)
            for name, each in sorted(self.exchanged.items())
        )
        return hashlib.sha256(repr([*found]).encode(errors="surrogatepass")).digest()

    def with_exchanged(self, exchanged: Mapping[str, Exchanged]) -> Login:
        """The same login with what was exchanged. What is stored is not walked through again."""
        login = replace(self, exchanged=exchanged)
        vars(login)["contents"] = self.contents
        return login


@dataclass(frozen=True)
class Token:
    """One token of one user: what can be delivered, and the reason where it is not as asked.

    ``value`` is ``None`` where there is nothing to deliver, ``scopes`` where the granted ones are
    not known, ``requested_scopes`` where it is not known what the login asks for. ``from_hook``:
    ``tokens_hook`` gave the value, so its scopes are not checked. ``omitted``: a variable of the
    spec's that is left out → why. That and ``detail`` are for the admin and have names only, never
    values.
    """

    spec: TokenSpec
    value: str | None = field(default=None, repr=False)
    companions: Mapping[str, str] = field(default_factory=dict, repr=False)
    identity: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the user, for git
    omitted: Mapping[str, str] = field(default_factory=dict)
    lifetime: Lifetime = Lifetime()
    scopes: tuple[str, ...] | None = None
    requested_scopes: tuple[str, ...] | None = None
    from_hook: bool = False
    reason: Reason | None = None
    detail: str = ""

    @property
    def text(self) -> str | None:
        """The token as it is delivered: in the form of the spec's template."""
        return None if self.value is None else self.spec.render(self.value)

    def withheld(self, reason: Reason, detail: str = "") -> Token:
        """The same token without its value."""
        nothing: dict[str, Any] = dict.fromkeys(("companions", "identity", "omitted"), {})
        return replace(self, value=None, **nothing, reason=reason, detail=detail)


def select(
    spec: TokenSpec,
    login: Login,
    requested_scopes: Iterable[str] | None = None,
    now: float = math.inf,
) -> Token:
    """Find the token that a spec asks for.

    ``requested_scopes`` are those that the authenticator asks for: they are granted where the
    provider names none (RFC 6749, section 5.1). ``now``: see :func:`.find_lifetime`.
    """
    token, contents = _select_value(spec, login, now), login.contents
    if (value := token.value) is None:
        return token
    if spec.exchange is not None:
        return replace(token, **find_companions(spec, contents, value))
    if requested_scopes is not None and is_the_logins(value, contents.auth_state):
        token = replace(token, requested_scopes=tuple(requested_scopes))
    return replace(
        token,
        **find_companions(spec, contents, value),
        scopes=find_scopes(value, contents, token.requested_scopes),
    )


def _select_value(spec: TokenSpec, login: Login, now: float) -> Token:
    if spec.exchange is None or login.auth_state is None:
        return select_found(spec, login, now)
    found = login.exchanged.get(spec.name)
    if found is None:
        words = "it is exchanged when a server needs it"
        return Token(spec, reason=Reason.EXCHANGE_FAILED, detail=words)
    if found.value is not None and holds_refresh_token(found.value, login.contents):
        words = "the provider gave the refresh token for it"
        return Token(spec, reason=Reason.REFRESH_TOKEN, detail=words)
    return Token(
        spec,
        value=found.value,
        lifetime=found.lifetime,
        scopes=found.scopes,
        reason=found.reason,
        detail=found.detail,
    )


def select_found(spec: TokenSpec, login: Login, now: float) -> Token:
    """What the spec's ``key`` finds, with its value and lifetime alone.

    For a spec with an exchange, that is the subject token.
    """
    if login.auth_state is None:
        return Token(spec, reason=login.reason)
    token, contents = Token(spec), login.contents
    try:
        value = contents.find(spec.key)
    except KeyFailed as failed:
        return token.withheld(Reason.KEY_FAILED, f"its key, a function, {failed}")
    if value is None or value == "":
        where = "a function" if callable(spec.key) else repr(spec.key)
        return token.withheld(
            Reason.ABSENT, f"looked up {where}; {describe_keys(spec.key, login.auth_state)}"
        )
    if not isinstance(value, str):
        return token.withheld(
            Reason.UNUSABLE, f"what its key finds is no text but {type(value).__name__}"
        )
    if holds_refresh_token(value, contents):
        return token.withheld(Reason.REFRESH_TOKEN, "what its key finds is the refresh token")
    lifetime = find_lifetime(value, contents.answers.get(value, {}), now)
    return Token(spec, value=value, lifetime=lifetime)


def apply_hook_value(
    token: Token,
    values: Mapping[str, Any],
    login: Login,
    lives: Mapping[str, Lifetime] = {},
) -> Token:
    """Apply what the admin's ``tokens_hook`` returned: names → values, and the lives that it named.

    An unchanged value keeps its lifetime and scopes. The scopes of a new one are not checked.
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
    if holds_refresh_token(value, login.contents):
        return token.withheld(Reason.REFRESH_TOKEN, "tokens_hook returned the refresh token for it")
    return Token(
        token.spec,
        value=value,
        from_hook=True,
        **find_companions(token.spec, login.contents, value),
        lifetime=lives.get(token.spec.name) or find_lifetime(value, {}),
    )


def check(token: Token, now: float, min_lifetime: float) -> Token:
    """Compare a token with its spec: what cannot or must not be delivered loses its value.

    ``now``: seconds since the epoch. ``min_lifetime`` (seconds) is for specs that name none; it is
    never more than half of the life that the provider gives.
    """
    if token.value is None:
        return token
    if problem := _find_reason_to_withhold(token):
        return token.withheld(*problem)
    if problem := _find_deficiency(token, now, min_lifetime):
        reason, detail = problem
        return replace(token, reason=reason, detail=detail)
    return token


def _find_reason_to_withhold(token: Token) -> tuple[Reason, str] | None:
    text = token.text or ""
    if not is_deliverable(text):
        return Reason.UNUSABLE, "it has a NUL byte or a lone surrogate, which no variable can carry"
    if not all(fits(variable, text) for variable in token.spec.env):
        detail = (
            "it is longer than the 128 KiB that a variable can carry; deliver it as a file only"
        )
        return Reason.UNUSABLE, detail
    forbidden = () if token.from_hook else token.spec.forbidden_scopes
    if forbidden and token.scopes is None:
        return Reason.SCOPE_FORBIDDEN, "the provider named no scopes, so it may have any"
    granted = imply_scopes(token.scopes or ())
    if found := [scope for scope in forbidden if scope in granted]:
        implied = [scope for scope in found if scope not in (token.scopes or ())]
        by = f", by {list_names(token.scopes or ())}" if implied else ""
        return Reason.SCOPE_FORBIDDEN, f"granted, but forbidden: {', '.join(found)}{by}"
    return None


def _find_deficiency(token: Token, now: float, min_lifetime: float) -> tuple[Reason, str] | None:
    spec, scopes, left = token.spec, token.scopes, token.lifetime.left(now)
    if left <= 0:
        what = "what tokens_hook gave " if token.from_hook else ""
        return Reason.EXPIRED, f"{what}expired {-left:.0f} seconds ago"
    required = () if token.from_hook else spec.required_scopes
    if missing := [scope for scope in required if scope not in (scopes or ())]:
        granted = "the provider named none" if scopes is None else f"granted: {list_names(scopes)}"
        detail = f"required: {', '.join(missing)}; {granted}"
        requested = token.requested_scopes
        if requested is None or imply_scopes(requested).issuperset(missing):
            return Reason.SCOPE_MISSING, detail
        return Reason.SCOPE_NOT_REQUESTED, f"{detail}; asked for: {list_names(requested)}"
    asked = token.lifetime.asked(spec.find_min_lifetime(min_lifetime))
    if left < asked:
        return Reason.SHORT_LIVED, f"{left:.0f} seconds left, {asked:.0f} asked for"
    return None
