"""The doctor and what profiles and groups override."""

from textwrap import dedent

import pytest
import yaml
from jupyterhub.spawner import Spawner
from pytest import param

from ..project.test_readme import values_files
from ..support.examining import (  # noqa: F401
    KUBERNETES,
    SOUND,
    VERBS,
    cluster,
    examine,
    hubs_environment,
    of,
    serve,
)

CASES = [
    param(
        {"environment": {"GITLAB_TOKEN": "x"}},
        "environment-wins",
        "set GITLAB_TOKEN",
        id="environment",
    ),
    param(
        {"tokens": {"gitlab": {"prest": "x"}}},
        "spec-wrong",
        "tokens['gitlab'].prest: unknown field",
        id="spec",
    ),
    param({"tokens": {"gitlab": "x"}}, "spec-wrong", "tokens['gitlab']", id="no-spec"),
    param({"tokens": ["gitlab"]}, "spec-wrong", "tokens is a dict", id="no-tokens"),
    param(
        {"tokens": {"b": {"env": "GITLAB_TOKEN"}}},
        "spec-wrong",
        "GITLAB_TOKEN is claimed by",
        id="clash",
    ),
    param(
        {"tokens": {"b": {"env": "MINE"}}, "environment": {"MINE": "x"}},
        "environment-wins",
        "tokens['b']",
        id="together",
    ),
    param(
        {"tokens": {"gitlab": None}, "environment": {"GITLAB_TOKEN": "x"}},
        None,
        "",
        id="without-the-token",
    ),
    param({"tokens": {"gitlab": {"missing": "refuse"}}}, None, "", id="merged"),
    param(
        {"environment": {"GITLAB_TOKEN": None, "A": "b"}, "mem_limit": "1G"}, None, "", id="other"
    ),
]


def assert_found(findings, place, id, words):
    (found,) = (each for each in findings if each["id"] == (id or "overrides"))
    if id is None:
        assert found["what"] == "No profile and no group spoils a token."
    else:
        assert place in found["what"] and words in found["what"] and found["fix"]


@pytest.mark.parametrize("override, id, words", CASES)
def test_what_a_profile_overrides_is_examined(examine, cluster, override, id, words):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["config"]["TokenSpawnerMixin"] = {"tokens": {"gitlab": {"preset": "gitlab"}}}
    choices = {
        "choices": {
            "small": {"kubespawner_override": {"cpu_limit": 1}},
            "big": {"kubespawner_override": override},
        }
    }
    for profile, place in [
        ({"kubespawner_override": override}, "the profile 'GPU'"),
        ({"profile_options": {"size": choices}}, "the choice size: big of the profile 'GPU'"),
        (
            {"profile_options": {"size": {"unlisted_choice": {"kubespawner_override": override}}}},
            "the choice size: …",
        ),
    ]:
        values["singleuser"] = {
            "profileList": [{"display_name": "CPU"}, {"display_name": "GPU", **profile}]
        }
        status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
        assert status == (id == "spec-wrong")
        assert_found(findings, place, id, words)


@pytest.mark.skipif(
    not hasattr(Spawner, "group_overrides"), reason="a JupyterHub without group_overrides"
)
@pytest.mark.parametrize("override, id, words", CASES)
def test_what_a_group_overrides_is_examined(examine, override, id, words):
    overrides = {"staff": {"groups": ["staff"], "spawner_override": override}}
    _, findings = examine(f"{SOUND}c.Spawner.group_overrides = {overrides!r}\n")
    assert_found(findings, "group_overrides['staff']", id, words)


def test_overrides_that_a_function_makes_are_said(examine, cluster):
    cluster(VERBS)
    config = KUBERNETES + dedent(
        """
        def make(spawner):
            raise RuntimeError
        override = {"environment": make, "tokens": make}
        c.KubeSpawner.profile_list = [{"display_name": "GPU", "kubespawner_override": override}]
        """
    )
    what = "Not looked at, since a function makes it: environment of the profile 'GPU', tokens of the profile 'GPU'."
    for more, said in [
        ("", what),
        ("c.KubeSpawner.profile_list = make\n", f"{what.partition(':')[0]}: profile_list."),
    ]:
        status, findings = examine(config + more)
        assert status == 0 and of(findings, "warning") == []
        assert [each["what"] for each in findings if each["id"] == "overrides"] == [said]
