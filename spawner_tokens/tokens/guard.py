"""The guard: what a server does not get while others may use it, too. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from .record import Started
from .selection import Reason, Token
from .spec import TokenSpec, parse_token

# Every file that a token can have: of one whose spec is not known any more.
_UNKNOWN = parse_token("x", {"env": "X", "config": {}, "file_env": None}, files=True)


def is_withheld(spec: TokenSpec, tokens_shared: str) -> bool:
    """Whether a shared server does not get this token. ``tokens_shared``: the trait's value."""
    return (spec.shared or tokens_shared) != "deliver"


def guard(tokens: Iterable[Token], tokens_shared: str, is_shared: bool) -> list[Token]:
    """The tokens that a server gets, by whether others may use it now."""
    return [
        Token(token.spec, reason=Reason.SHARED)
        if is_shared and is_withheld(token.spec, tokens_shared)
        else token
        for token in tokens
    ]


def find_policy(token: Token, tokens_shared: str, tokens_missing: str) -> str:
    """What to do if the token is not as asked: ``refuse``, ``warn`` or ``skip``."""
    if token.reason is Reason.SHARED:
        return "refuse" if (token.spec.shared or tokens_shared) == "refuse" else "warn"
    return token.spec.missing or tokens_missing


def list_withheld(started: Started) -> list[Token]:
    """What a running server does not have while it is shared, and all of which that is not known.

    No login is needed to know it.
    """
    withheld = [spec for spec in started.specs if is_withheld(spec, started.shared)]
    withheld += [replace(_UNKNOWN, name=name) for name in started.unknown]
    return [Token(spec, reason=Reason.SHARED) for spec in withheld]
