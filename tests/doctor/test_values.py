"""Zero-to-jupyterhub's values: what is plain configuration is examined, and the rest is named."""

import json
from copy import deepcopy

import pytest
import yaml
from pytest import param

from spawner_tokens.__main__ import main

from ..support.examining import KEY, find_one, of

VALUES = {
    "hub": {
        "config": {
            "JupyterHub": {
                "authenticator_class": "gitlab",
                "spawner_class": "tokens-kubespawner",
            },
            "Authenticator": {"enable_auth_state": True},
            "GitLabOAuthenticator": {"scope": ["read_user"], "client_secret": "the-client-secret"},
            "TokenSpawnerMixin": {"tokens": {"gitlab": {"preset": "gitlab"}}},
        }
    }
}


@pytest.fixture(autouse=True)
def without_a_key(monkeypatch, cluster):
    """The chart generates one."""
    monkeypatch.delenv(KEY)


@pytest.fixture
def examine_values(examine):
    def examine_values(change=lambda hub, config, singleuser: None):
        values = {"hub": deepcopy(VALUES["hub"]), "singleuser": {}}
        change(values["hub"], values["hub"]["config"], values["singleuser"])
        return examine(values, "--values")

    return examine_values


def test_of_sound_values_all_that_is_elsewhere_is_one_note(examine_values):
    status, findings = examine_values()
    assert status == 0 and of(findings, "error", "warning") == []
    assert of(findings, "note") == ["values"]
    what = find_one(findings, "values")["what"]
    assert what.startswith("not looked at: hooks, roles, what Kubernetes allows the Hub.")
    assert "run in the Hub's pod" in what
    assert not {"hooks", "servers-scopes", "rights"} & {*of(findings, "ok")}


@pytest.mark.parametrize(
    "nest",
    [
        param(lambda values: {"jupyterhub": values, "other": {}}, id="chart-that-includes-it"),
        param(lambda values: {"basehub": {"jupyterhub": values, "x": 1}}, id="chart-of-charts"),
        param(lambda values: {"kind": "HelmRelease", "spec": {"values": values}}, id="flux"),
    ],
)
def test_the_hub_is_found_wherever_it_is(examine, nest):
    broken = deepcopy(VALUES)
    del broken["hub"]["config"]["TokenSpawnerMixin"]["tokens"]["gitlab"]["preset"]
    broken["hub"]["config"]["TokenSpawnerMixin"]["tokens"]["gitlab"]["prest"] = "x"
    assert of(examine(nest(broken), "--values")[1], "error") == ["spec-wrong"]


def test_values_without_a_hub_are_not_in_order(examine):
    status, (found,) = examine({"proxy": {"service": {"type": "ClusterIP"}}}, "--values")
    assert status == 1 and found["id"] == "config-fails"
    assert "no hub is in" in found["what"]


SECOND = """
hub:
  extraConfig: null
  config:
    Authenticator: {enable_auth_state: true}
    GitLabOAuthenticator: {scope: [read_user]}
    TokenSpawnerMixin: {tokens: {old: null, gitlab: {env: MINE}}}
"""


def test_files_are_merged_as_helm_does_it(tmp_path, capsys):
    first = deepcopy(VALUES)
    first["hub"]["extraConfig"] = {"a": "raise SystemExit"}
    first["hub"]["config"]["Authenticator"]["enable_auth_state"] = False
    first["hub"]["config"]["GitLabOAuthenticator"]["scope"] = ["api", "read_user"]
    first["hub"]["config"]["TokenSpawnerMixin"]["tokens"]["old"] = {"prest": "x"}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(first))
    (tmp_path / "b.yaml").write_text(SECOND)
    (tmp_path / "c.yaml").write_text("singleuser: {extraEnv: {MINE: x}}")
    command = ["doctor", "--values", "a.yaml", "--values", "b.yaml", "--values", "c.yaml"]
    assert main([*command, "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert of(findings, "error", "warning") == ["environment-wins"]
    assert "extraConfig" not in find_one(findings, "values")["what"]


def test_a_fix_is_a_path_in_the_values(examine_values):
    def change(hub, config, singleuser):
        config["Authenticator"]["enable_auth_state"] = False
        singleuser["extraEnv"] = {"GITLAB_TOKEN": "x"}
        singleuser["profileList"] = [
            {"display_name": "GPU", "kubespawner_override": {"environment": {"GITLAB_USER": "x"}}}
        ]

    status, findings = examine_values(change)
    fix = find_one(findings, "auth-state-off")["fix"]
    assert status == 1 and fix == "hub.config.Authenticator.enable_auth_state: true"
    of_values, of_profile = (each["what"] for each in findings if each["id"] == "environment-wins")
    assert "singleuser.extraEnv sets GITLAB_TOKEN" in of_values
    assert "the profile 'GPU' sets GITLAB_USER" in of_profile


@pytest.mark.parametrize("part", [None, "extraConfig", "existingSecret"])
def test_what_may_be_set_elsewhere_is_not_called_absent(examine_values, part):
    def change(hub, config, singleuser):
        config.pop("JupyterHub"), config.pop("Authenticator"), config.pop("TokenSpawnerMixin")
        if part:
            hub[part] = {"a": "raise SystemExit"}

    status, findings = examine_values(change)
    absent = ["login-without-tokens", "auth-state-off", "mixin-missing"]
    assert status == 0 and of(findings, "warning") == absent
    for id in absent:
        assert find_one(findings, id)["what"].startswith("Unless it is set elsewhere: ")
    assert part is None or f"hub.{part}" in find_one(findings, "values")["what"]


def test_what_an_exchange_needs_may_be_set_elsewhere(examine_values):
    def change(hub, config, singleuser):
        config.pop("GitLabOAuthenticator")
        config["JupyterHub"]["authenticator_class"] = "azuread"
        exchange = {"type": "azure-obo", "scope": "api://other/.default"}
        config["TokenSpawnerMixin"]["tokens"] = {"other": {"exchange": exchange}}

    status, findings = examine_values(change)
    assert status == 0
    for id in ("exchange-without-v2", "exchange-without-secret"):
        assert find_one(findings, id)["what"].startswith("Unless it is set elsewhere: ")


@pytest.mark.parametrize("part", ["authenticator", "spawner"])
def test_a_class_that_is_not_here_is_not_looked_at(examine_values, part):
    def change(hub, config, singleuser):
        config["JupyterHub"][f"{part}_class"] = "of_the_image.Mine"
        config["TokenSpawnerMixin"]["tokens"]["gitlab"]["prest"] = "x"

    status, findings = examine_values(change)
    found = find_one(findings, part)
    assert found["level"] == "note" and "of_the_image" in found["what"]
    assert found["what"].startswith(f"not looked at: the {part}: ")
    assert of(findings, "error") == (["spec-wrong"] if part == "authenticator" else [])
    assert not {part, "keys", "scopes", "refresh-token"} & {*of(findings, "ok")}


def test_a_spec_is_wrong_whatever_code_there_is(examine_values):
    def change(hub, config, singleuser):
        config["TokenSpawnerMixin"]["tokens"]["gitlab"]["prest"] = "x"
        hub["extraConfig"] = {"a": "pass"}

    assert of(examine_values(change)[1], "error") == ["spec-wrong"]


def test_a_bad_crypt_key_of_the_values_is_found(examine_values):
    def change(hub, config, singleuser):
        config["CryptKeeper"] = {"keys": ["not-a-key-at-all"]}

    status, findings = examine_values(change)
    assert of(findings, "error") == ["crypt-key-bad"]
    assert "not-a-key-at-all" not in str(findings)


@pytest.mark.parametrize(
    "text, words",
    [
        param("hub: [", "cannot be read: ParserError, line 1", id="no-yaml"),
        param("text", "no hub is in", id="no-values"),
        param("hub: {config: {JupyterHub: 5}}", "'JupyterHub' is not a mapping", id="no-section"),
        param("hub: {config: {5: {a: b}, A: 5}}", "'A' is not a mapping", id="no-name"),
        param("hub: {config: {_x: {a: 1}}}", "'_x' is not the name of a class", id="no-class"),
        param("x: &x {y: *x}", "it contains itself, or is nested too deep", id="in-itself"),
        param("hub: {config: {A: {b: &x [*x]}}}", "it contains itself", id="list-in-itself"),
        param("x: " + "[" * 900 + "]" * 900, "or is nested too deep", id="deep"),
        param("x: 2026-13-01", "cannot be read: ValueError", id="date"),
    ],
)
def test_values_that_cannot_be_loaded_are_named(examine, text, words):
    status, (found,) = examine(text, "--values")
    assert status == 1 and found["id"] == "config-fails" and words in found["what"]


def test_a_file_that_cannot_be_read_is_named(tmp_path, capsys):
    (tmp_path / "values.yaml").write_bytes("hub: {config: {A: {b: é}}}".encode("latin-1"))
    for name, words in (("values.yaml", "UnicodeDecodeError"), ("none.yaml", "FileNotFoundError")):
        assert main(["doctor", "--values", name]) == 1
        assert words in capsys.readouterr().out
