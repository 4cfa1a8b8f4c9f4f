"""A renewed token of another kind than the one that it replaces."""

from dataclasses import replace

import pytest
from pytest import param

from spawner_tokens.tokens.kind import note_changes
from spawner_tokens.tokens.selection import Reason, Token
from spawner_tokens.tokens.spec import parse_tokens

from .test_selection import jwt

[SPEC] = parse_tokens({"t": {}}, files=True)


def token(value, *scopes, **more):
    return Token(SPEC, value, scopes=scopes or None, **more)


@pytest.mark.parametrize(
    "before, after, change",
    [
        param(token("a"), token("b"), "", id="opaque"),
        param(token("a"), token(jwt(aud="x")), "", id="a JWT now"),
        param(token(jwt(aud="x")), token("b"), "it was a JWT, and is none now", id="no JWT"),
        param(
            token(jwt(aud=["x", "y"])),
            token(jwt(aud=["y", "x"], n=1)),
            "",
            id="the same audiences",
        ),
        param(
            token(jwt(aud="x")),
            token(jwt(aud="y")),
            "it is for another audience (aud)",
            id="audience",
        ),
        param(
            token("a", "p", "q"),
            token("b", "q"),
            "it has not the scopes 'p' any more",
            id="fewer scopes",
        ),
        param(token("a", "p"), token("b", "p", "q"), "", id="more scopes"),
        param(token("a", "p"), token("b"), "", id="scopes unknown"),
    ],
)
def test_a_change_of_kind_is_noted_until_the_next_renewal(before, after, change):
    kinds = note_changes([before], {})[1]
    reason = Reason.KIND_CHANGED if change else None
    for _ in range(2):
        [noted], kinds = note_changes([after], kinds)
        assert (noted.reason, noted.detail) == (reason, change)
    [noted], _ = note_changes([replace(after, value="".join([after.value, "0"]))], kinds)
    assert noted.reason is None


def test_what_is_withheld_or_not_as_asked_keeps_its_reason():
    kinds = note_changes([token(jwt(aud="x"))], {})[1]
    [noted], kinds = note_changes([Token(SPEC, reason=Reason.ABSENT)], kinds)
    assert noted.reason is Reason.ABSENT
    [noted], _ = note_changes([token("b", reason=Reason.EXPIRED)], kinds)
    assert noted.reason is Reason.EXPIRED
