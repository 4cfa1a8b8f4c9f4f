"""When a token ends, and how long it has to live to be handed over."""

from dataclasses import dataclass
from math import inf

import pytest
from pytest import param

from spawner_tokens.tokens.due import find_due, find_hook_due, keep_lives
from spawner_tokens.tokens.lifetime import Lifetime, find_life_until
from spawner_tokens.tokens.selection import Login, Reason, Token
from spawner_tokens.tokens.spec import parse_tokens

from .test_selection import NOW, find, jwt, response


@pytest.mark.parametrize(
    "auth_state, expires_at, total",
    [
        param(response(expires_in=100), None, 100, id="relative-alone-says-nothing"),
        param(response(expires_in="100", created_at=str(NOW)), NOW + 100, 100, id="texts"),
        param(response(expires_at=NOW + 9, expires_in=100, created_at=NOW), NOW + 100, 100),
        param({**response(), "expires_at": NOW + 9}, NOW + 9, inf, id="beside-the-token"),
        param(response(jwt(exp=NOW + 9, iat=NOW - 1)), NOW + 9, 10, id="jwt"),
        param(response(jwt(exp=NOW + 9), expires_in=60), NOW + 9, 60, id="jwt-and-relative"),
        param(response(jwt(exp="soon")), None, inf, id="jwt-with-a-bad-exp"),
        param(response("a.b.c"), None, inf, id="three-parts-but-no-jwt"),
        param(response(expires_at=float("inf")), None, inf, id="infinite"),
        param(response(expires_at=True), None, inf, id="boolean"),
        param(response(expires_at=1.7e12), None, inf, id="milliseconds-are-beyond-any-date"),
        param(response(expires_at=0), None, inf, id="zero-is-no-time"),
        param(
            {
                "access_token": "v",
                "token_response": {"access_token": "older", "expires_at": NOW + 9},
            },
            None,
            inf,
            id="another-tokens-answer",
        ),
    ],
)
def test_the_end_of_a_token(auth_state, expires_at, total):
    lifetime = find({}, auth_state, min_lifetime=0).lifetime
    assert (lifetime.expires_at, lifetime.total) == (expires_at, total)


def test_the_end_of_the_access_token_is_not_that_of_the_id_token():
    auth_state = {"id_token": jwt(exp=NOW + 50), **response(expires_at=NOW + 9)}
    assert find({"key": "id_token"}, auth_state, min_lifetime=0).lifetime.expires_at == NOW + 50


def test_the_life_of_an_id_token_is_counted_from_when_the_hub_asked_for_it():
    id_token = jwt(iat=NOW + 200, exp=NOW + 500)  # the provider's clock is ahead
    answer = {"id_token": id_token, "created_at": NOW - 5, "id_token_created_at": NOW - 90}
    lifetime = find({"key": "id_token"}, {"id_token": id_token, **response(**answer)}).lifetime
    assert (lifetime.expires_at, lifetime.total) == (NOW + 210, 300)


def test_never_more_than_half_of_a_tokens_life_is_asked_for():
    def at(left):
        return find({}, response(expires_in=300, created_at=NOW - 300 + left)).reason

    assert at(151) is None
    assert at(149) is Reason.SHORT_LIVED


def test_a_spec_has_its_own_min_lifetime():
    assert find({"min_lifetime": 1}, response(expires_at=NOW + 5)).reason is None


@dataclass
class Key:
    name: str

    def __call__(self, auth_state):
        return auth_state[self.name]


def test_each_tokens_lifetime_is_known_though_a_key_has_no_hash():
    fields = {"a": {"key": Key("x")}, "b": {"key": Key("y")}, "c": {"key": "x"}}
    specs, login = parse_tokens(fields, files=True), Login({"x": "1", "y": "2"})
    due = find_due(specs, login, NOW, 300, Lifetime.short_at)
    assert {*due} == {("a", hash("1")), ("b", hash("2")), ("c", hash("1"))}


@pytest.mark.parametrize(
    "end, expires_at",
    [
        param(NOW + 90, NOW + 90, id="seconds"),
        param(str(NOW + 90), NOW + 90, id="seconds-as-text"),
        param("2033-05-18T03:33:20Z", 2_000_000_000, id="utc"),
        param("2033-05-18T03:33:20.123456789Z", 2_000_000_000, id="nanoseconds-of-go"),
        param("2033-05-18T05:33:20+02:00", 2_000_000_000, id="offset"),
        param("2033-05-18 03:33:20", 2_000_000_000, id="without-an-offset"),
        param(NOW - 1, NOW - 1, id="over"),
        *(param(end, None) for end in ("soon", "", True, -1, [], inf, "nan", "2033-99-99")),
    ],
)
def test_a_hook_names_an_end_in_seconds_or_iso_8601(end, expires_at):
    life = find_life_until(end, NOW)
    assert (life and life.expires_at) == expires_at
    if expires_at is not None and expires_at > NOW:
        assert life.issued_at == NOW and life.total == expires_at - NOW


def test_a_hook_is_due_before_the_first_of_its_values_ends():
    specs = parse_tokens({"a": {"min_lifetime": 10}, "b": {}}, files=True)

    def due(now, *ends, from_hook=True, before=()):
        lives = [find_life_until(end, now) for end in ends]
        tokens = [
            Token(spec, value="v", lifetime=life, from_hook=from_hook)
            for spec, life in zip(specs, lives, strict=False)
        ]
        kept = keep_lives(tokens, before)
        return kept, find_hook_due(kept, 300, Lifetime.short_at)

    tokens, first = due(NOW, NOW + 100, NOW + 1000)
    assert first == NOW + 90
    assert due(NOW, NOW + 2000, NOW + 1000)[1] == NOW + 700
    assert due(NOW, NOW + 100, from_hook=False)[1] == inf
    # The same value again has lived since then: half of what is left does not count anew.
    assert due(NOW + 95, NOW + 100, before=tokens)[1] == NOW + 90
