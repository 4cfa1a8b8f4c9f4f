"""What goes with a token: companions, templates, configs, its status, and the hook's word."""

import json

import pytest
from pytest import param

from spawner_tokens.tokens.files import make_env, make_files, make_status
from spawner_tokens.tokens.selection import Reason, apply_hook_value, check, select
from spawner_tokens.tokens.spec import parse_tokens

from .test_selection import NOW, failing_key, find, jwt, response


def test_companions_are_texts_and_numbers_and_never_null():
    fields = {
        "variables": {
            "A": "u.text",
            "B": "u.number",
            "C": "u.true",
            "D": "u.null",
            "E": "u",
            "F": "u.nul",
        }
    }
    user = {"text": "{x}$(Y)", "number": 7, "true": True, "null": None, "nul": "\0"}
    token = find(fields, {"access_token": "v", "u": user})
    assert token.companions == {"A": "{x}$(Y)", "B": "7", "C": "true"}


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
    token = check(apply_hook_value(select(spec, auth_state), values, auth_state), NOW, 300)
    assert token.value == value
    assert token.reason == (Reason(reason) if reason else None)


def test_the_hook_can_give_what_auth_state_does_not_have():
    (spec,) = parse_tokens({"vault": {"key": "vault", "env": "V"}}, files=True)
    token = apply_hook_value(select(spec, {}), {"vault": jwt(exp=NOW + 900)}, {})
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
