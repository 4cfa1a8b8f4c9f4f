"""Which token a spec gets from an auth_state, and the reason why not."""

import asyncio
import base64
import json
from functools import reduce

import pytest
from pytest import param

from spawner_tokens.tokens.selection import Login, Reason, check, select
from spawner_tokens.tokens.spec import parse_tokens

NOW = 1_000_000.0


def jwt(**claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJub25lIn0.{payload}.sig"


def deep(levels):
    return reduce(lambda inner, _: [inner], range(levels), [])


def find(fields, auth_state, requested=None, min_lifetime=300):
    (spec,) = parse_tokens({"t": fields}, files=True)
    return check(select(spec, Login(auth_state), requested), NOW, min_lifetime)


def response(token="v", **fields):
    return {"access_token": token, "token_response": {"access_token": token, **fields}}


@pytest.mark.parametrize(
    "fields, auth_state, value",
    [
        param({}, {"access_token": "v"}, "v", id="default-key"),
        param({"key": "a.b.c"}, {"a": {"b": {"c": "v"}}}, "v", id="dotted"),
        param(
            {"key": "tokens.a.b.org.access_token"},
            {"tokens": {"a.b.org": {"access_token": "v"}}},
            "v",
            id="dots",
        ),
        param({"key": "a.b"}, {"a": {"b": "inner"}, "a.b": "v"}, "v", id="longest-key-first"),
        param({"key": "a.b.c"}, {"a.b": {"x": 1}, "a": {"b": {"c": "v"}}}, "v"),
        param({"key": lambda state: state["x"]["y"]}, {"x": {"y": "v"}}, "v", id="callable"),
    ],
)
def test_a_key_finds_its_token(fields, auth_state, value):
    assert find(fields, auth_state).value == value


async def _coroutine(auth_state):
    return "v"


def failing_key(auth_state):
    raise ValueError(auth_state["access_token"])


def stopped_key(auth_state):
    raise asyncio.CancelledError  # which is no Exception, as the errors of some packages


@pytest.mark.parametrize(
    "fields, auth_state, reason, detail",
    [
        param({}, {}, "absent", "looked up 'access_token'; auth_state has nothing", id="no-keys"),
        param({}, {"access_token": None}, "absent", "has 'access_token' (null)", id="null"),
        param(
            {"key": "a.x"},
            {"a": {"x": None, "y": 1}},
            "absent",
            "'x' (null), 'y'",
            id="null-within",
        ),
        param({}, {"access_token": ""}, "absent", "'access_token'", id="empty"),
        param({"key": "a.x"}, {"a": {"b": 1}}, "absent", "auth_state has 'a'; a has 'b'"),
        param({"key": "a.x"}, {"a": "text"}, "absent", "auth_state has 'a'"),
        param({"key": "a"}, {"a": {"b": "v"}}, "unusable", "no text but dict", id="dict"),
        param({"key": "a"}, {"a": 5}, "unusable", "no text but int", id="number"),
        param({}, {"access_token": "a\0b"}, "unusable", "NUL", id="nul"),
        param({}, {"access_token": "\ud800"}, "unusable", "surrogate", id="surrogate"),
        param({"env": "T"}, {"access_token": "x" * 131072}, "unusable", "128 KiB"),
        param({"key": failing_key}, {"access_token": "s3cret"}, "key_failed", "raised ValueError"),
        param({"key": stopped_key}, {}, "key_failed", "raised CancelledError", id="cancelled"),
        param({"key": _coroutine}, {}, "key_failed", "async", id="callable-is-async"),
        param({"key": list}, {"x": deep(100_000)}, "key_failed", "RecursionError", id="deep"),
        param(
            {"key": lambda state: state["refresh_token"]},
            {"refresh_token": "r"},
            "refresh_token",
            "is the refresh token",
            id="callable-finds-the-refresh-token",
        ),
        param(
            {"key": lambda state: "x" + state["t"]["refresh_token"]},
            {"t": {"refresh_token": "0123456789abcdef"}},
            "refresh_token",
            "is the refresh token",
            id="callable-wraps-the-refresh-token",
        ),
        param({}, response(expires_at=NOW - 5), "expired", "expired 5 seconds ago", id="expired"),
        param({}, response(expires_at=NOW + 5), "short_lived", "5 seconds left, 300 asked"),
        param(
            {"required_scopes": "w"},
            response() | {"scope": ["r"]},
            "scope_missing",
            "required: w; granted: 'r'",
            id="scope",
        ),
        param(
            {"required_scopes": "w"}, response() | {"scope": [""]}, "scope_missing", "named none"
        ),
        param(
            {"forbidden_scopes": ["api"]}, response() | {"scope": ["api"]}, "scope_forbidden", "api"
        ),
        param({"forbidden_scopes": ["api"]}, response(), "scope_forbidden", "named no scopes"),
        param(
            {"forbidden_scopes": ["api"], "key": lambda state: state["access_token"]},
            response() | {"scope": ["api"]},
            "scope_forbidden",
            "api",
            id="forbidden-by-a-callable",
        ),
        param(
            {"forbidden_scopes": ["api"], "key": "id_token"},
            response(scope="api") | {"id_token": "i"},
            "scope_forbidden",
            "api",
            id="forbidden-for-the-id-token",
        ),
        param(
            {"forbidden_scopes": "repo, api"},
            response(scopes="account api") | {"scope": [""]},
            "scope_forbidden",
            "but forbidden: api",
            id="forbidden-in-bitbuckets-words",
        ),
        param(
            {"forbidden_scopes": ["a b"]}, response(scope={"x": 1}), "scope_forbidden", "named no"
        ),
        param(
            {"forbidden_scopes": "api", "key": "exchanged.storage"},
            response(scope="read") | {"exchanged": {"storage": "s", "scope": "api"}},
            "scope_forbidden",
            "but forbidden: api",
            id="forbidden-beside-an-exchanged-token",
        ),
        param(
            {"forbidden_scopes": "api", "key": "exchanged.storage"},
            response(scope="read") | {"exchanged": {"storage": "s"}},
            "scope_forbidden",
            "named no scopes",
            id="an-exchanged-token-has-not-the-logins-scopes",
        ),
        param(
            {"forbidden_scopes": "api", "key": "teams_token"},
            response(scope="read") | {"teams_token": "t"},
            "scope_forbidden",
            "named no scopes",
            id="nor-has-another-token-beside-it",
        ),
        param(
            {"forbidden_scopes": "api", "key": "exchanged.storage"},
            response(scope="read") | {"exchanged": {"storage": jwt(scp="read api")}},
            "scope_forbidden",
            "but forbidden: api",
            id="forbidden-within-a-jwt",
        ),
        param(
            {"key": "a.b"},
            {"a": {"b": "r"}, "refreshToken": "r"},
            "refresh_token",
            "is the refresh",
            id="camel-case",
        ),
        param(
            {"required_scopes": ["repo"]},
            response(scope="") | {"scope": [""]},
            "scope_missing",
            "the provider named none",
            id="blank-scope-of-the-required",
        ),
        param(
            {"key": lambda state: (state.pop("refresh_token"), state["token_response"].clear())[0]},
            response(refresh_token="r") | {"refresh_token": "r"},
            "refresh_token",
            "is the refresh token",
            id="callable-takes-the-refresh-token-out",
        ),
        param(
            {"forbidden_scopes": "api"},
            response(scope=" ") | {"scope": ["", ""]},
            "scope_forbidden",
            "named no scopes",
            id="blank-scope",
        ),
        param(
            {"forbidden_scopes": "repo:status"},
            response(scope="gist,repo"),
            "scope_forbidden",
            "but forbidden: repo:status, by 'gist', 'repo'",
            id="forbidden-and-implied",
        ),
        param(
            {"forbidden_scopes": ["read_user", "api"]},
            response(scope="openid read_api"),
            "scope_forbidden",
            "but forbidden: read_user, by 'openid', 'read_api'",
            id="forbidden-and-implied-at-gitlab",
        ),
        param(
            {"forbidden_scopes": "read:org"},
            response(scope="admin:org"),
            "scope_forbidden",
            "but forbidden: read:org",
            id="forbidden-and-implied-by-two-steps",
        ),
        param(
            {"key": "a.b"},
            {"a": {"b": "r"}, "google_Refresh_Tokens": [{"x": "r"}]},
            "refresh_token",
            "is the refresh token",
            id="refresh-token-under-another-name",
        ),
    ],
)
def test_a_token_that_is_not_as_asked_has_its_reason(fields, auth_state, reason, detail):
    token = find(fields, auth_state)
    assert token.reason == Reason(reason)
    assert detail in token.detail
    assert "s3cret" not in repr(token)


def test_only_what_can_still_be_of_use_is_delivered():
    auth_state = response(expires_at=NOW + 5) | {"scope": ["r", "api"]}
    assert find({}, auth_state).value == "v"
    assert find({"required_scopes": "w"}, auth_state).value == "v"
    assert find({"forbidden_scopes": "api"}, auth_state).value is None


def test_scopes_that_the_provider_does_not_name_are_the_requested_ones():
    assert find({"required_scopes": "read"}, response(), requested=["read"]).reason is None
    assert (
        find({"required_scopes": "read"}, response(scope=""), requested=["read"]).reason is not None
    )
    assert find({"forbidden_scopes": "api"}, response(), requested=["read"]).reason is None
    assert (
        find({"required_scopes": "read"}, response(scope="other"), requested=["read"]).reason
        is not None
    )


def test_the_requested_scopes_are_those_of_the_login_and_not_of_now():
    granted = response(asked_scope="api read")
    assert find({"forbidden_scopes": "api"}, granted, requested=["read"]).value is None
    assert find({"required_scopes": "api"}, granted, requested=["read"]).reason is None
    named = response(asked_scope="api", scope="read")
    assert find({"forbidden_scopes": "api"}, named, requested=["read"]).reason is None


@pytest.mark.parametrize(
    "scopes",
    [
        param("repo", id="what-is-not-implied"),
        param("read_api", id="what-implies-others-alone"),
        param("sudo", id="what-gitlabs-api-does-not-have"),
    ],
)
def test_a_scope_that_the_granted_ones_do_not_have_is_not_forbidden(scopes):
    granted = response(scope="public_repo read_user write_repository openid")
    assert find({"forbidden_scopes": scopes}, granted).reason is None


def test_a_scope_that_the_login_does_not_ask_for_has_a_reason_of_its_own():
    asked, granted = ["read"], response(scope="read")
    for required, reason in [
        ("write", "scope_not_requested"),
        ("read other", "scope_not_requested"),
    ]:
        token = find({"required_scopes": required}, granted, requested=asked)
        assert token.reason == Reason(reason) and token.value == "v"
        assert "asked for: 'read'" in token.detail
    for required, requested in [("write", ["write"]), ("read_api", ["api"]), ("write", None)]:
        token = find({"required_scopes": required}, granted, requested=requested)
        assert token.reason == Reason.SCOPE_MISSING
    other = {"exchanged": {"storage": "s", "scope": "read"}}
    token = find({"required_scopes": "w", "key": "exchanged.storage"}, other, requested=asked)
    assert token.reason == Reason.SCOPE_MISSING  # the login does not ask for another's scopes


def test_a_token_among_others_has_its_own_scopes_and_end():
    other = {"access_token": "o", "scope": "transfer", "expires_at": NOW + 9}
    auth_state = {
        "tokens": {"a.org": other},
        "token_response": {"access_token": "v", "scope": "openid"},
    }
    token = find({"key": "tokens.a.org.access_token"}, auth_state, min_lifetime=0)
    assert (token.scopes, token.lifetime.expires_at) == (("transfer",), NOW + 9)
