"""What goes with a token: companions, templates, configs, its status, and the hook's word."""

import json

import pytest
from pytest import param

from spawner_tokens.tokens.files import make_env, make_files, make_status
from spawner_tokens.tokens.selection import Login, Reason, apply_hook_value, check, select
from spawner_tokens.tokens.spec import parse_tokens

from .test_selection import NOW, failing_key, find, jwt, response

COMPANIONS = [
    param("{x}$(Y)", "{x}$(Y)", "", id="text"),
    param(7, "7", "", id="number"),
    param(0, "0", "", id="zero"),
    param(0.5, "0.5", "", id="fraction"),
    param(False, "false", "", id="boolean"),
    param(["a", 1, None], '["a", 1, null]', "", id="list"),
    param([], "[]", "", id="empty-list"),
    param({"é": {"b": True}}, '{"\\u00e9": {"b": true}}', "", id="object"),
    param(None, None, "finds nothing", id="null"),
    param("", None, "finds nothing", id="empty"),
    param(len, None, "no form for the builtin_function", id="function"),
    param({"a": {1}}, None, "no form for the dict", id="set-within"),
    param(float("nan"), None, "no form for the float", id="nan"),
    param("\0", None, "a NUL byte", id="nul"),
    param(["x" * 131072], None, "128 KiB", id="too-long"),
    param({"a": ["Bearer the-token"]}, None, "a token in it", id="the-token-within"),
    param({"the-token": 1}, None, "a token in it", id="the-token-as-a-key"),
    param(["r"], None, "a token in it", id="the-refresh-token-within"),
    param({"a": {"id_token": "i"}}, None, "a token in it", id="another-token-within"),
    param({"refreshToken": "x"}, None, "a token in it", id="another-refresh-token-within"),
]


@pytest.mark.parametrize("value, text, why", COMPANIONS)
def test_a_companion_is_a_text_or_json_and_why_there_is_none_is_known(value, text, why):
    auth_state = {"access_token": "the-token", "refresh_token": "r"}
    token = find({"variables": {"A": lambda _: value, "B": "absent"}}, auth_state)
    assert token.companions == ({} if text is None else {"A": text})
    assert [*token.omitted] == (["A"] if text is None else []) + ["B"]
    assert why in token.omitted.get("A", "")


def test_a_companion_that_fails_or_holds_the_refresh_token_is_left_out():
    fields = {
        "variables": {
            "A": failing_key,
            "B": lambda state: json.dumps(state),
            "C": lambda state: 10**5000,
        }
    }
    auth_state = {"access_token": "v", "refresh_token": "0123456789abcdef"}
    assert find(fields, auth_state).companions == {}


def test_a_companion_is_made_once_for_all_specs_and_servers_and_one_that_is_too_long_never(
    monkeypatch,
):
    made, dumps = [], json.dumps
    monkeypatch.setattr(json, "dumps", lambda *args, **more: made.append(args) or dumps(*args))
    fields = {f"t{n}": {"variables": {f"A{n}": "groups", f"B{n}": "teams"}} for n in range(5)}
    teams = [{"name": "x" * 100}] * 2000
    login = Login({"access_token": "v", "groups": ["g", "h"], "teams": teams})
    for _ in range(10):
        tokens = [select(spec, login) for spec in parse_tokens(fields, files=True)]
    assert made == [(["g", "h"],)]
    assert tokens[4].companions == {"A4": '["g", "h"]'} and "128 KiB" in tokens[4].omitted["B4"]


def test_the_template_is_filled_by_the_token_alone():
    token = find(
        {"env": "T", "template": "oauth2:{token}:{user}"}, {"access_token": "{token}{user}"}
    )
    assert make_env([token], "/d")["T"] == "oauth2:{token}{user}:{user}"
    assert make_files([token], "/d")["t"] == b"oauth2:{token}{user}:{user}"


def test_a_withheld_token_leaves_nothing_but_its_status():
    token = find({"env": "T", "settings": {"S": "x"}}, {})
    assert make_env([token], "/d") == {"SPAWNER_TOKENS_DIR": "/d"}
    assert make_files([token], "/d") == {"t": None, "t.json": make_status(token)}
    assert json.loads(make_status(token))["status"] == "absent"


VALUE = {"access_token": "v"}


def make_config(config, auth_state=VALUE, **fields):
    token = find({"config": config, "config_env": "CONFIG", **fields}, auth_state)
    assert ("CONFIG" in make_env([token], "/d")) is (token.value is not None)
    return make_files([token], "/d")["t.config.json"]


@pytest.mark.parametrize(
    "config, filled",
    [
        param({"a": {"b": ["{file}", 1, None]}}, {"a": {"b": ["/d/t", 1, None]}}),
        param({"a": "x{S}y{N}"}, {"a": 'x"{file}"\\y7'}, id="companions-as-they-are"),
        param({"a": "{S}{X}", "b": ["{X}", "b"]}, {"b": ["b"]}),
        param({"a": "{token} {}"}, {}, id="never-the-token"),
        param({"{file}": "x"}, {"{file}": "x"}, id="names-stay"),
    ],
)
def test_a_config_has_the_tokens_path_and_companions_in_it(config, filled):
    auth_state = {"access_token": "v", "n": 7}
    contents = make_config(config, auth_state, settings={"S": '"{file}"\\'}, variables={"N": "n"})
    assert json.loads(contents) == filled


def test_a_withheld_token_has_no_config():
    assert make_config({"a": "{file}"}, {}) is None


def test_the_status_is_in_utc_and_in_words():
    token = find({}, response(expires_at=NOW + 600, created_at=NOW, scope="a b"))
    assert json.loads(make_status(token)) == {
        "expires_at": "1970-01-12T13:56:40Z",
        "renewed_at": "1970-01-12T13:46:40Z",
        "scopes": ["a", "b"],
        "status": "ok",
    }


@pytest.mark.parametrize(
    "values, value, reason",
    [
        param({"t": "v"}, "v", "scope_missing", id="unchanged-is-still-checked"),
        param({"t": "new"}, "new", None, id="changed-is-the-hooks-own"),
        param({}, None, "hook_withheld", id="left-out"),
        param({"t": None}, None, "hook_withheld", id="null"),
        param({"t": 5}, None, "unusable", id="number"),
        param({"t": "a\0"}, None, "unusable", id="nul"),
        param({"t": "r"}, None, "refresh_token", id="refresh-token"),
    ],
)
def test_the_hook_has_the_last_word(values, value, reason):
    (spec,) = parse_tokens({"t": {"required_scopes": "w"}}, files=True)
    auth_state = response() | {"scope": ["r"], "refresh_token": "r"}
    token = check(
        apply_hook_value(select(spec, Login(auth_state)), values, Login(auth_state)), NOW, 300
    )
    assert token.value == value
    assert token.reason == (Reason(reason) if reason else None)


def test_the_hook_can_give_what_auth_state_does_not_have():
    (spec,) = parse_tokens({"vault": {"key": "vault", "env": "V"}}, files=True)
    token = apply_hook_value(select(spec, Login({})), {"vault": jwt(exp=NOW + 900)}, Login({}))
    assert check(token, NOW, 300).reason is None and token.lifetime.expires_at == NOW + 900


def test_what_goes_with_a_token_never_has_it_in_it():
    variables = {
        "A": lambda auth_state: f"Bearer {auth_state['access_token']}",
        "B": "copy",
        "C": "name",
    }
    token = find(
        {"env": "T", "variables": variables},
        {"access_token": "the-token", "copy": "the-token", "name": "n"},
    )
    assert token.companions == {"C": "n"}
