"""The tokens of a running server: the specs that it was started with, by its state."""

import pytest
from pytest import param

from spawner_tokens.mixin import restore_tokens

NOW = {"t": {"env": "NEW"}, "added": {}}


@pytest.mark.parametrize(
    "started_with, restored",
    [
        param(None, NOW, id="a-server-of-before-we-were-installed"),
        param({}, {}, id="none"),
        param({"t": {"env": "OLD"}}, {"t": {"env": "OLD"}}, id="as-it-was-started"),
        param({"gone": {"env": "G"}}, {"gone": {"env": "G"}}, id="no-more-in-the-config"),
        param({"t": None}, {"t": {"env": "NEW"}}, id="a-function-that-the-config-still-has"),
        param({"gone": None}, {}, id="a-function-that-the-config-has-no-more"),
    ],
)
def test_a_running_server_keeps_the_specs_that_it_was_started_with(started_with, restored):
    assert restore_tokens(NOW, started_with) == restored
