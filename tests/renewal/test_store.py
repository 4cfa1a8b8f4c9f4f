"""What is stored of a renewal: the pure parts. For the database see test_renewal, test_faults."""

import base64
import copy
import json

import pytest
from jupyterhub.crypto import CryptKeeper
from pytest import param

from spawner_tokens.renewal.auth_state import hash_tokens, merge, stamp, write_login
from spawner_tokens.renewal.history import TokenHistory
from spawner_tokens.tokens import lookup
from spawner_tokens.tokens.lifetime import jwt_claims
from spawner_tokens.tokens.selection import Login, select
from spawner_tokens.tokens.spec import parse_tokens

NOW = 1_000_000.0
STORED = {
    "access_token": "a1",
    "refresh_token": "r1",
    "id_token": "i1",
    "scope": ["read", "write"],
    "token_response": {
        "access_token": "a1",
        "refresh_token": "r1",
        "id_token": "i1",
        "token_type": "Bearer",
        "scope": "read write",
        "expires_in": 7200,
        "created_at": 990_000,
        "team": "t",
    },
    "user": {"name": "alice"},
}


def jwt(**claims):
    return f"e30.{base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip('=')}.s"


@pytest.mark.parametrize(
    "answer, fields, response",
    [
        param(
            {
                "access_token": "a2",
                "refresh_token": "r2",
                "id_token": "i2",
                "scope": "read",
                "expires_in": 60,
            },
            {"refresh_token": "r2", "id_token": "i2", "scope": ["read"]},
            {
                "refresh_token": "r2",
                "id_token": "i2",
                "id_token_created_at": NOW,
                "scope": "read",
                "expires_in": 60,
            },
            id="all of it",
        ),
        param({"access_token": "a2"}, {}, {}, id="the token alone"),
        param(
            {
                "access_token": "a2",
                "refresh_token": None,
                "id_token": "",
                "token_type": None,
                "scope": "",
            },
            {},
            {},
            id="what is empty stays",
        ),
        param({"access_token": "a2", "scope": ["x"]}, {"scope": ["x"]}, {"scope": ["x"]}),
    ],
)
def test_an_answer_replaces_what_it_has(answer, fields, response):
    stored = copy.deepcopy(STORED)
    renewed = merge(stored, answer, NOW)
    kept = {
        "refresh_token": "r1",
        "id_token": "i1",
        "token_type": "Bearer",
        "scope": "read write",
        "team": "t",
    }
    assert renewed["token_response"] == kept | response | {"access_token": "a2", "created_at": NOW}
    assert {**renewed, "token_response": 0} == {
        **STORED,
        "access_token": "a2",
        **fields,
        "token_response": 0,
    }
    assert stored == STORED


def test_a_providers_clock_that_is_wrong_does_no_harm():
    answer = {"access_token": "a2", "created_at": 5, "expires_in": 60}
    assert merge(STORED, answer, NOW)["token_response"]["created_at"] == NOW


def test_a_token_that_the_provider_gives_again_keeps_its_age():
    times = {"created_at": 990_000, "expires_in": 7200}
    again = merge(STORED, {"access_token": "a1", "expires_in": 100}, NOW)["token_response"]
    assert {name: again[name] for name in times} == times


@pytest.mark.parametrize(
    "node, stored, created_at",
    [
        param({"access_token": "a2", "expires_in": 60}, STORED, NOW, id="a new token"),
        param({"access_token": "a2"}, STORED, NOW, id="a new one without a life"),
        param({"access_token": "a1", "expires_in": 60}, STORED, 990_000),
        param({"access_token": "a0"}, {"token_response": {"access_token": "a0"}}, None),
        param({"access_token": "a2", "created_at": 7}, STORED, 7, id="the provider says it"),
        param({"access_token": "a2", "expires_at": 7}, STORED, None),
        param({"access_token": jwt(exp=7)}, STORED, None, id="the token says it"),
        param({"access_token": ["a2"]}, STORED, None, id="no text"),
        param({"access_token": "a2", "created_at": {}}, STORED, NOW, id="no time"),
        param({"access_token": "a2"}, {"access_token": "a1", "created_at": [7]}, NOW),
    ],
)
@pytest.mark.parametrize(
    "place", [lambda node: {"token_response": node}, lambda node: {"tokens": {"x": [node]}}]
)
def test_a_token_that_is_first_seen_is_new(node, stored, created_at, place):
    node = dict(node)
    auth_state = place(node)
    stamp(auth_state, stored, NOW)
    assert node.get("created_at") == created_at


def test_a_flat_auth_state_is_stamped_only_if_it_is_an_answer():
    flat, copied = {"access_token": "a2", "expires_in": 60}, {"access_token": "a2"}
    stamp(flat, {}, NOW)
    stamp(copied, {}, NOW)
    assert flat["created_at"] == NOW and "created_at" not in copied


def test_what_is_made_does_not_change_and_is_stored_however_deep_it_is():
    deep = []
    for _ in range(500):  # JSON can hold more, and deepcopy() less
        deep = [deep]
    made = {"token_response": {"access_token": "a2", "expires_in": 60}, "deep": deep}
    written = write_login(lambda stored: made, None, NOW, CryptKeeper(keys=[b"k" * 32]))
    assert written.login.auth_state["token_response"]["created_at"] == NOW
    assert written.login.auth_state["deep"] == deep
    assert made["token_response"] == {"access_token": "a2", "expires_in": 60}


AHEAD, BEHIND = jwt(iat=NOW + 200, exp=NOW + 500), jwt(iat=NOW - 200, exp=NOW + 100)


@pytest.mark.parametrize(
    "token, stored, ends_at",
    [
        param(BEHIND, {}, NOW + 300, id="the-issuers-clock-is-behind"),
        param(AHEAD, {}, NOW + 300, id="the-issuers-clock-is-ahead"),
        param(jwt(iat=NOW - 1800, exp=NOW + 1800), {}, NOW + 1800, id="the-hook-had-it-before"),
        param(jwt(iat=NOW - 290, exp=NOW - 10), {}, NOW - 10, id="it-has-ended"),
        param(BEHIND, {"nested": BEHIND}, NOW + 100, id="nobody-knows-since-when-it-is-there"),
        param(jwt(exp=NOW + 100), {}, NOW + 100, id="a-life-that-is-not-known"),
        param(jwt(iat=0, exp=NOW), {}, NOW, id="no-time"),
    ],
)
@pytest.mark.parametrize("place", [lambda token: token, lambda token: {"access_token": token}])
def test_the_life_of_a_hooks_jwt_is_counted_from_when_it_is_first_seen(
    token, stored, ends_at, place
):
    fields = {"key": "nested" if isinstance(place(token), str) else "nested.access_token"}
    (spec,) = parse_tokens({"t": fields}, files=True)
    stored = stored and STORED | {"nested": place(token)}
    auth_state = copy.deepcopy(STORED) | {"nested": place(token)}
    for now in (NOW, NOW + 50):  # what is saved again is not new
        stamp(auth_state, stored, now)
        lifetime = select(spec, Login(auth_state), now=NOW + 60).lifetime
        assert lifetime.ends_at == ends_at
        stored, auth_state = auth_state, copy.deepcopy(STORED) | {"nested": place(token)}
    gone = STORED | {"nested": "gone"}
    stamp(again := stored | gone, stored, NOW)
    assert again == gone


def test_of_names_with_dots_none_is_decoded_to_see_whether_it_is_a_jwt(monkeypatch):
    def decode(text):
        decoded.append(text)
        return jwt_claims(text)

    decoded, token = [], jwt(iat=NOW, exp=NOW + 60)
    monkeypatch.setattr(lookup, "jwt_claims", decode)
    auth_state = {"groups": [f"{number}.example.org" for number in range(9)], "token": token}
    stamp(auth_state, {}, NOW)
    assert set(decoded) == {token}


def test_which_tokens_are_stored_is_known_of_another_crypt_keeper_too():
    history = TokenHistory(CryptKeeper(keys=[b"a" * 32]))
    CryptKeeper.clear_instance()
    try:
        encrypted = CryptKeeper.instance(keys=[b"b" * 32])._encrypt(STORED)
        assert history.find_tokens(encrypted) == hash_tokens(STORED)
    finally:
        CryptKeeper.clear_instance()
