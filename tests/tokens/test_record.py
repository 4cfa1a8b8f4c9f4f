"""What a server was started with: the record of it, and what is known of it after a restart."""

import json
from functools import partial

import pytest
from pytest import param

from spawner_tokens.tokens.record import Started, find_functions, make_record, read_record


def narrow(auth_state):
    return auth_state["narrow"]


def hook(spawner, auth_state, tokens):
    return tokens


LOST = "was a function that the Hub's configuration does not have"
NARROW = partial(narrow)
MORE = {"tokens_renew": True, "tokens_shared": "deliver", "tokens_pull": True}
CONFIG = {"t": {"key": narrow}, "v": {"variables": {"A": lambda state: 1}}, "p": {"key": NARROW}}


def restart(
    tokens,
    tokens_hook=None,
    config=CONFIG,
    config_hook=hook,
    now=None,
    now_hook=hook,
    renew=True,
    shared="deliver",
    pull=False,
):
    """What is known after a restart of a server that was started with these traits."""
    configured = find_functions({"tokens": config, "tokens_hook": config_hook})
    traits = {"tokens": tokens, "tokens_hook": tokens_hook, "tokens_renew": renew}
    traits |= {"tokens_shared": shared, "tokens_pull": pull}
    record = make_record(traits, configured)
    now = config if now is None else now
    functions = find_functions({"tokens": now, "tokens_hook": now_hook})
    return read_record(json.loads(json.dumps(record)), now, functions, files=True)


@pytest.mark.parametrize(
    "tokens, known",
    [
        param({}, {}, id="none"),
        param({"t": {"env": "OLD"}}, {"key": "access_token", "env": ("OLD",)}, id="plain"),
        param({"t": {"key": narrow}}, {"key": narrow}, id="function-of-the-config"),
        param({"p": {"key": NARROW}}, {"key": NARROW}, id="callable-of-the-config"),
        param({"v": CONFIG["v"]}, CONFIG["v"], id="function-within"),
        param({"t": {"forbidden_scopes": {"api"}}}, {"forbidden_scopes": ("api",)}, id="set"),
        param(
            {"t": {"config": {"a": {"<function>": 1, "b": 2}}}},
            {"config": {"a": {"<function>": 1, "b": 2}}},
            id="what-looks-like-a-function",
        ),
    ],
)
def test_what_a_server_was_started_with_is_known_after_a_restart(tokens, known):
    started = restart(tokens)
    assert started.unknown == {} and started.hook is None
    assert [spec.name for spec in started.specs] == [*tokens]
    for spec in started.specs:
        assert {field: getattr(spec, field) for field in known} == known


@pytest.mark.parametrize(
    "now, tokens, why",
    [
        param(CONFIG, {"t": {"key": lambda state: 1}}, f"key {LOST}", id="of-an-override"),
        param(CONFIG, {"new": {"key": narrow}}, f"key {LOST}", id="the-same-in-another-place"),
        param({"t": {}}, {"t": {"key": narrow}}, f"key {LOST}", id="a-path-by-now"),
        param({"t": {"key": hook}}, {"t": {"key": narrow}}, f"key {LOST}", id="another-by-now"),
        param(CONFIG, {"t": {"variables": {"A": hook}}}, f"variables.A {LOST}", id="within"),
        param(CONFIG, {"t": {"later": 1}}, "tokens['t'].later: unknown field", id="later-field"),
        param(CONFIG, {"t": {"preset": "later"}}, ".preset: unknown preset", id="later-preset"),
        param(CONFIG, {"t": 5}, "tokens['t']: a spec is a dict", id="no-spec"),
    ],
)
def test_a_spec_that_is_not_known_any_more_is_named_and_takes_no_other_with_it(now, tokens, why):
    (name,) = tokens
    started = restart({**tokens, "other": {}}, now=now)
    assert [spec.name for spec in started.specs] == ["other"]
    assert [*started.unknown] == [name] and why in started.unknown[name]


def test_a_hook_that_is_not_known_any_more_leaves_no_token_known():
    for now_hook, tokens_hook in [(None, hook), (narrow, hook), (hook, lambda *_: {})]:
        started = restart({"t": {}, "u": {}}, tokens_hook, now_hook=now_hook)
        assert started.specs == () and started.hook is None
        assert started.unknown == dict.fromkeys("tu", f"tokens_hook {LOST}")


def test_the_hook_of_the_config_is_that_of_the_start():
    assert restart({"t": {}}, hook).hook is hook
    assert restart({"t": {}}, None).hook is None


@pytest.mark.parametrize(
    "record",
    [
        [],
        {"t": {}},
        {"tokens": {}, "tokens_hook": 0, "tokens_renew": True},
        {"tokens": {}, "tokens_hook": 0, **MORE, "x": 1},
        *({"tokens": of, "tokens_hook": None, **MORE} for of in (None, 5, "t", [])),
    ],
)
def test_of_a_record_in_another_form_nothing_is_known(record):
    started = read_record(record, ["t"], {}, files=True)
    assert started.specs == () and [*started.unknown] == ["t"] and not started.renews
    assert started.shared == "withhold" and not started.pull


@pytest.mark.parametrize("pull, known", [(True, True), (False, False), ("yes", False)])
def test_whether_a_server_may_ask_is_known_after_a_restart(pull, known):
    assert restart({"t": {}}, pull=pull).pull is known
    assert restart({"t": {}}, lambda *_: {}, pull=pull).pull is known  # without its hook


@pytest.mark.parametrize("renew", [True, False])
def test_whether_a_servers_tokens_are_renewed_is_known_after_a_restart(renew):
    assert restart({"t": {}}, renew=renew).renews is renew
    assert restart({"t": {}}, lambda *_: {}, renew=renew).renews is renew  # without its hook


def test_before_a_server_has_started_there_is_nothing():
    assert Started().specs == () and not Started().unknown


@pytest.mark.parametrize(
    "recorded, known",
    [
        param("deliver", "deliver", id="recorded"),
        param("later", "withhold", id="of-a-later-version"),
        param(["deliver"], "withhold", id="garbage"),
    ],
)
def test_what_a_shared_server_gets_is_known_after_a_restart_or_nothing(recorded, known):
    assert restart({"t": {}}, shared=recorded).shared == known
    assert restart({"t": {}}, lambda *_: {}, shared=recorded).shared == known  # without its hook
