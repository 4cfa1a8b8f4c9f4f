"""The doctor and zero-to-jupyterhub's values."""

import json
import re
import sys

import pytest
import yaml
from pytest import param

from spawner_tokens.__main__ import main

from .examining import VERBS, cluster, examine, hubs_environment, of, serve  # noqa: F401
from .test_readme import values_files


def test_a_fix_for_values_is_a_path_in_them(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    broken = text.replace("enable_auth_state: true", "enable_auth_state: false").replace(", read_repository", ", api")
    status, findings = examine(broken, "values.yaml", "--values")
    assert status == 1
    assert of(findings, "error") == ["auth-state-off"] and of(findings, "warning") == ["scopes-too-powerful"]
    values = yaml.safe_load(broken)
    for finding in findings:
        for part in finding["fix"]:
            path, _, value = part["text"].partition(": ")
            *parents, last = path.split(".")
            node = values
            for parent in parents:
                node = node[parent]
            node[last] = yaml.safe_load(value)
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == []


def test_values_in_another_encoding_are_named(tmp_path, capsys):
    (tmp_path / "values.yaml").write_bytes("hub: {config: {A: {b: é}}}".encode("latin-1"))
    assert main(["doctor", "--values", "values.yaml"]) == 1
    assert "is not in UTF-8" in capsys.readouterr().out


def test_blocks_have_what_the_chart_gives_them(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["extraConfig"] = {
        "a": "from z2jh import get_config\nif get_config('custom.on'):\n    c.JupyterHub.port = len(sys.argv[:0]) + 8001",
        "b": "assert re.match('.', os.sep) and get_name('hub') == 'hub'",
    }
    values["custom"] = {"on": True}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == [] and "z2jh" not in sys.modules
    status, findings = examine(yaml.safe_dump({"jupyterhub": values}), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == []


def test_the_values_beside_hub_config_are_read(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["loadRoles"] = {"server": {"scopes": ["admin:auth_state!user"]}}
    (variable,) = {"GITLAB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"} & {*re.findall("G[A-Z]+_TOKEN", text), "GITLAB_TOKEN"}
    values.setdefault("singleuser", {})["extraEnv"] = {variable: "x"}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 1 and of(findings, "error") == ["servers-read-auth-state"]
    assert of(findings, "warning") == ["environment-wins"]
    assert "singleuser.extraEnv" in json.dumps(findings)


@pytest.mark.parametrize(
    "text, words",
    [
        param("hub: [", "is no YAML, line 1", id="no-yaml"),
        param("text", "'hub' is no mapping", id="no-values"),
        param("hub: {config: {JupyterHub: 5}}", "hub.config: 'JupyterHub' is no mapping", id="no-section"),
        param("hub: {config: {5: {a: b}}}", "a section's name is no text", id="no-name"),
        param("hub: {extraConfig: [1]}", "hub: 'extraConfig' is no mapping", id="no-blocks"),
        param("hub: {extraConfig: {a: 'c.x = undefined'}}", "undefined", id="code"),
    ],
)
def test_values_that_cannot_be_loaded_are_named(examine, text, words):
    status, (found,) = examine(text, "values.yaml", "--values")
    assert status == 1 and found["id"] == "config-fails" and words in found["what"]
