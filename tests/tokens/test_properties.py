"""Whatever a provider stores and an admin writes: values, a typed reason, or a TraitError."""

import json
import math
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from spawner_tokens.tokens.fields import SpecError
from spawner_tokens.tokens.files import make_env, make_files
from spawner_tokens.tokens.presets import PRESETS
from spawner_tokens.tokens.selection import Login, Reason, apply_hook_value, check, select
from spawner_tokens.tokens.spec import _DEFAULTS, parse_tokens

FIELDS = [*_DEFAULTS, "unknown"]
KEYS = (
    "access_token refresh_token id_token scope token_response expires_in expires_at created_at "
    "tokens github_user oauth_user login email name a b a.b transfer.api.globus.org"
).split()

texts = (
    st.text(max_size=20)
    | st.text(string.printable, max_size=20)
    | st.sampled_from(["{token}", "$(X)", "\0", "e.eyJ9.s"])
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | texts, inner, max_size=5)
    ),
    max_leaves=20,
)
auth_states = st.dictionaries(st.sampled_from(KEYS) | texts, json_values, max_size=8)
paths = st.lists(st.sampled_from(KEYS), min_size=1, max_size=4).map(".".join)
names = st.sampled_from(["T", "GITHUB_TOKEN", "A_1", "PATH", "1", ""])


def raises(auth_state):
    raise RuntimeError(str(auth_state))


keys = (
    paths
    | texts
    | st.sampled_from([raises, lambda state: state, lambda state: next(iter(state.values()), 1)])
)
sensible = {
    "preset": st.sampled_from([*PRESETS, "nothing"]),
    "url": st.sampled_from(
        ["https://a.example.org", "https://b.example.org:1/x", "ftp://c", "http://["]
    ),
    "key": keys,
    "exchange": st.dictionaries(
        st.sampled_from(["type", "audience", "scope", "subject", "of", "client_id", "x"]),
        texts | st.sampled_from(["azure-obo", "id_token", "a", "b.c"]) | st.lists(texts),
        max_size=3,
    ),
    "env": names | st.lists(names, max_size=2),
    "file": st.booleans(),
    "file_env": names,
    "template": texts.map(lambda text: text + "{token}"),
    "variables": st.dictionaries(names, keys, max_size=3),
    "settings": st.dictionaries(names, texts, max_size=3),
    "config": st.dictionaries(texts, json_values, max_size=3)
    | st.just({"path": ["{file}"], "a": "{A_1}"}),
    "config_env": names,
    "git": st.sampled_from(["https://a.example.org", ["http://b.example.org/x"], "{url}", "x"]),
    "git_username": texts,
    "git_identity": st.booleans() | st.dictionaries(st.sampled_from(["name", "email"]), keys),
    "missing": st.sampled_from(["refuse", "warn", "skip", "other"]),
    "min_lifetime": st.floats(allow_nan=True) | st.integers(),
    "required_scopes": st.lists(texts, max_size=2) | texts,
    "forbidden_scopes": st.lists(texts, max_size=2) | texts,
    "shared": st.sampled_from(["withhold", "deliver", "refuse", "other"]),
}
assert sensible.keys() == _DEFAULTS.keys()
specs = st.fixed_dictionaries({}, optional=sensible) | st.dictionaries(
    st.sampled_from(FIELDS), json_values, max_size=4
)
entries = st.dictionaries(
    st.sampled_from(["a", "b.c", "d-e", "A", "x.json", ""]), specs | json_values, max_size=3
)


def refresh_tokens(node):
    if isinstance(node, dict):
        found = node.get("refresh_token")
        yield from [found] if isinstance(found, str) and found else []
        for value in node.values():
            yield from refresh_tokens(value)
    elif isinstance(node, list):
        for value in node:
            yield from refresh_tokens(value)


@settings(max_examples=300, deadline=None)
@given(
    entries,
    auth_states,
    st.booleans(),
    st.none() | st.dictionaries(st.sampled_from(["a", "b.c"]), scalars),
)
def test_any_spec_and_any_auth_state_give_values_a_reason_or_a_spec_error(
    tokens, auth_state, files, hooked
):
    try:
        parsed = parse_tokens(tokens, files=files)
    except SpecError as error:
        assert str(error).startswith("tokens[")
        return
    picked = [select(spec, Login(auth_state), ["read"]) for spec in parsed]
    if hooked is not None:
        picked = [apply_hook_value(token, hooked, Login(auth_state)) for token in picked]
    judged = [check(token, 1_000_000, 300) for token in picked]
    forbidden = set(refresh_tokens(auth_state))
    for token in judged:
        assert (token.value is not None) or isinstance(token.reason, Reason)
        assert token.value not in forbidden
        assert not forbidden.intersection(token.companions.values()) - set(
            token.spec.settings.values()
        )
        assert not math.isnan(token.lifetime.left(0))
    for name, contents in make_files(judged, "/d").items():
        if name.endswith(".config.json"):
            assert contents is None or isinstance(json.loads(contents), dict)
        elif name.endswith(".json"):
            assert set(json.loads(contents)) == {"expires_at", "renewed_at", "scopes", "status"}
    for variable, text in make_env(judged, "/d").items():
        assert variable and "\0" not in text and text.encode()
