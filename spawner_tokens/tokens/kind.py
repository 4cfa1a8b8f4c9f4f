"""A token's kind, which renewals should not change: whether it is a JWT, for whom, its scopes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .lifetime import jwt_claims
from .lookup import list_names
from .selection import Reason, Token


@dataclass(frozen=True)
class Kind:
    """``value_hash`` is the token's own, ``change`` says what is not as with the one before it."""

    value_hash: int
    is_jwt: bool
    audiences: frozenset[str]
    scopes: frozenset[str] | None
    change: str = ""


def note_changes(
    tokens: Iterable[Token], before: Mapping[str, Kind]
) -> tuple[list[Token], dict[str, Kind]]:
    """The tokens, with a reason where they are of another kind than before, and their kinds.

    Kinds are by the token's name. ``before`` are those of the tokens that were delivered last.
    """
    noted, kinds = [], dict(before)
    for token in tokens:
        name = token.spec.name
        if token.value is not None:
            kind = kinds[name] = _make_kind(token, token.value, before.get(name))
            if kind.change and token.reason is None:
                token = replace(token, reason=Reason.KIND_CHANGED, detail=kind.change)
        noted.append(token)
    return noted, kinds


def _make_kind(token: Token, value: str, before: Kind | None) -> Kind:
    claims = jwt_claims(value)
    audience = claims.get("aud")
    audiences = map(str, audience if isinstance(audience, list) else [audience])
    scopes = None if token.scopes is None else frozenset(token.scopes)
    kind = Kind(hash(value), bool(claims), frozenset(audiences), scopes)
    if before is None:
        return kind
    is_new = kind.value_hash != before.value_hash
    return replace(kind, change=_find_change(before, kind) if is_new else before.change)


def _find_change(before: Kind, after: Kind) -> str:
    if before.is_jwt and not after.is_jwt:
        return "it was a JWT, and is none now"
    if before.is_jwt and after.audiences != before.audiences:
        return "it is for another audience (aud)"
    lost = before.scopes - after.scopes if before.scopes and after.scopes is not None else ()
    return f"it has not the scopes {list_names(lost)} any more" if lost else ""
