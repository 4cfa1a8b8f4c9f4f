"""The guard: what a server does not get while others may use it, too."""

import json

import pytest
from pytest import param

from spawner_tokens.tokens.files import make_files
from spawner_tokens.tokens.guard import find_policy, guard, list_withheld
from spawner_tokens.tokens.record import Started
from spawner_tokens.tokens.selection import Reason, Token
from spawner_tokens.tokens.spec import parse_tokens


@pytest.mark.parametrize(
    "tokens_shared, fields, policy",
    [
        param("withhold", {}, "warn", id="withheld"),
        param("withhold", {"missing": "refuse"}, "warn", id="missing-does-not-say-more"),
        param("withhold", {"missing": "skip"}, "warn", id="missing-does-not-hide-it"),
        param("refuse", {}, "refuse", id="refused"),
        param("refuse", {"missing": "skip"}, "refuse", id="refused-though-it-may-be-missing"),
        param("deliver", {}, None, id="delivered"),
        param("withhold", {"shared": "deliver"}, None, id="spec-delivers"),
        param("deliver", {"shared": "withhold"}, "warn", id="spec-withholds"),
        param("deliver", {"shared": "refuse"}, "refuse", id="spec-refuses"),
        param("refuse", {"shared": "withhold"}, "warn", id="spec-does-not-refuse"),
    ],
)
def test_a_shared_server_gets_what_its_policy_says(tokens_shared, fields, policy):
    (spec,) = parse_tokens({"t": fields}, files=True)
    token = Token(spec, value="s3cret", companions={"T_USER": "alice"}, identity={"name": "Alice"})
    assert guard([token], tokens_shared, False) == [token]
    expected = token if policy is None else Token(spec, reason=Reason.SHARED)
    assert guard([token], tokens_shared, True) == [expected]
    assert policy is None or find_policy(expected, tokens_shared, "skip") == policy
    withheld = list_withheld(Started((spec,), shared=tokens_shared))
    assert withheld == ([] if policy is None else [expected])


@pytest.mark.parametrize("tokens_shared", ["withhold", "deliver", "refuse"])
def test_of_a_spec_that_is_not_known_any_more_every_file_is_withheld(tokens_shared):
    started = Started(unknown={"A name of a later version": "why"}, shared=tokens_shared)
    files = make_files(list_withheld(started), "/directory", variables=True)
    status = files.pop("A name of a later version.json")
    assert json.loads(status)["status"] == "shared"
    assert files == {
        "A name of a later version": None,
        "A name of a later version.config.json": None,
        ".env.A name of a later version": b"",
    }
