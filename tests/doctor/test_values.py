"""Zero-to-jupyterhub's values: what is plain configuration is examined, and the rest is named."""

from copy import deepcopy

import pytest
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
        found = examine(values, "--values")
        assert examine({"jupyterhub": values, "other": {}}, "--values") == found
        return found

    return examine_values


def test_sound_values_have_no_finding(examine_values):
    status, findings = examine_values()
    assert status == 0 and {finding["level"] for finding in findings} == {"ok"}


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


@pytest.mark.parametrize("part", ["extraConfig", "extraFiles"])
def test_what_code_may_set_is_not_called_absent(examine_values, part):
    def remove(hub, config, singleuser):
        del config["JupyterHub"], config["Authenticator"], config["TokenSpawnerMixin"]

    def add(hub, config, singleuser):
        remove(hub, config, singleuser)
        hub[part] = {"a": "raise SystemExit"}

    assert of(examine_values(remove)[1], "error") == [
        "login-without-tokens",
        "auth-state-off",
        "mixin-missing",
    ]
    status, findings = examine_values(add)
    assert status == 0 and of(findings, "warning") == [
        "login-without-tokens",
        "auth-state-off",
        "mixin-missing",
    ]
    note = find_one(findings, "values")
    assert note["level"] == "note" and "run in the Hub's pod" in note["what"]
    assert f"Not read: hub.{part}." in note["what"]


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
        param("text", "'hub' is not a mapping", id="no-values"),
        param("hub: {config: {JupyterHub: 5}}", "'JupyterHub' is not a mapping", id="no-section"),
        param("hub: {config: {5: {a: b}, A: 5}}", "'A' is not a mapping", id="no-name"),
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
