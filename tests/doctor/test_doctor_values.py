"""The doctor and zero-to-jupyterhub's values."""

import json
import os
import re
import sys

import pytest
import yaml
from pytest import param

from spawner_tokens.__main__ import main

from ..project.test_readme import values_files
from ..support.examining import KEY, VERBS, cluster, examine, hubs_environment, of, serve  # noqa: F401


def test_a_fix_for_values_is_a_path_in_them(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    broken = text.replace("enable_auth_state: true", "enable_auth_state: false").replace(
        ", read_repository", ", api"
    )
    status, findings = examine(broken, "values.yaml", "--values")
    assert status == 1
    assert of(findings, "error") == ["auth-state-off"] and of(findings, "warning") == [
        "scopes-too-powerful"
    ]
    values = apply_paths(yaml.safe_load(broken), findings)
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == []


def apply_paths(values, findings):
    """The values with all paths set that are printed, as they would be in the file."""
    for finding in findings:
        for part in finding["fix"]:
            assert part["kind"] == "config"
            path, value = re.fullmatch(r'((?:"[^"]*"|[\w.-])+): (.*)', part["text"]).groups()
            *parents, last = [yaml.safe_load(key) for key in re.findall(r'"[^"]*"|[\w-]+', path)]
            node = values
            for parent in parents:
                node = node[parent]
            node[last] = yaml.safe_load(value)
    return values


def test_a_path_in_values_has_the_key_of_the_chart_and_quoted_names(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["config"]["TokenSpawnerMixin"]["tokens"] = {
        name: {"key": "acess_token"} for name in ("a.b", "c-d", "no", "on")
    }
    values = {"jupyterhub": values, "other": {}}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    paths = [
        part["text"].rpartition(".key: ")[0] for finding in findings for part in finding["fix"]
    ]
    tokens = "jupyterhub.hub.config.TokenSpawnerMixin.tokens"
    assert status == 1 and paths == [
        f"{tokens}.{name}" for name in ('"a.b"', "c-d", '"no"', '"on"')
    ]
    status, findings = examine(
        yaml.safe_dump(apply_paths(values, findings)), "values.yaml", "--values"
    )
    assert status == 0 and {finding["level"] for finding in findings} == {"ok"}


def test_words_for_values_have_the_key_of_the_chart(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text.replace("TokenSpawnerMixin", "TokensSpawnerMixin"))
    _, findings = examine(yaml.safe_dump({"jupyterhub": values}), "values.yaml", "--values")
    (found,) = (finding for finding in findings if finding["level"] == "warning")
    assert found["id"] == "section-unknown"
    assert found["fix"] == [
        {"kind": "words", "text": "call it jupyterhub.hub.config.TokenSpawnerMixin"}
    ]


def test_variables_of_the_pod_are_no_error(examine, cluster, monkeypatch):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["extraEnv"] = {
        "PORT_OF_HUB": "8001",
        "SECRET_OF_HUB": {"valueFrom": {"secretKeyRef": {"name": "s"}}},
    }
    secret = "import os\nc.GitLabOAuthenticator.client_secret = os.environ['SECRET_OF_HUB'] + os.environ['SALT_OF_HUB']\n"
    values["hub"]["extraConfig"] = {
        "a": secret,
        "b": "c.JupyterHub.hub_port = int(os.environ['PORT_OF_HUB'])",
    }

    def warned():
        status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
        assert status == 0 and of(findings, "warning") == ["environment-not-seen"], findings
        assert not {"SECRET_OF_HUB", "PORT_OF_HUB"} & {*os.environ}
        return findings

    findings = warned()
    assert "reads SECRET_OF_HUB, SALT_OF_HUB: variables" in findings[-1][
        "what"
    ] and "auth-state" in of(findings, "ok")
    values["hub"]["extraEnv"] = [
        {"name": "PORT_OF_HUB", "value": "8001"},
        {"name": "SALT_OF_HUB", "value": "salt"},
    ]
    assert "reads SECRET_OF_HUB: variables" in warned()[-1]["what"]
    values["hub"]["extraEnv"] = {}
    (found,) = warned()
    assert "does not load without SECRET_OF_HUB, SALT_OF_HUB, PORT_OF_HUB" in found["what"]
    for name in ("SECRET_OF_HUB", "SALT_OF_HUB"):
        monkeypatch.setenv(name, "set-here")
    monkeypatch.setenv("PORT_OF_HUB", "8001")
    assert examine(yaml.safe_dump(values), "values.yaml", "--values")[0] == 0
    monkeypatch.setenv("PORT_OF_HUB", "no number")
    assert of(examine(yaml.safe_dump(values), "values.yaml", "--values")[1], "error") == [
        "config-fails"
    ]


@pytest.mark.parametrize(
    "read", ["os.getenv({})", "os.environ.get({})", "os.environ.get({}, None)", "os.environ[{}]"]
)
def test_a_variable_of_the_pod_is_no_error_however_it_is_read(examine, cluster, read):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["config"]["JupyterHub"]["authenticator_class"] = "github"
    values["hub"]["config"]["TokenSpawnerMixin"]["tokens"] = {"github": {"preset": "github"}}
    values["hub"]["config"]["GitHubOAuthenticator"] = {"scope": ["read:user", "user:email"]}
    lines = [
        f"c.GitHubOAuthenticator.{name} = {read.format(repr(name.upper()))}"
        for name in ("client_id", "client_secret")
    ]
    values["hub"]["extraConfig"] = {
        "a": "\n".join(["import os", *lines, "assert os.environ.get('HUB_X', '') == ''"])
    }
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == ["environment-not-seen"], findings
    assert (
        "reads CLIENT_ID, CLIENT_SECRET: variables" in findings[-1]["what"]
        and os.environ.get("CLIENT_ID") is None
    )


@pytest.mark.parametrize(
    "line, words",
    [
        param(
            "import module_of_the_image",
            "No module named 'module_of_the_image', line 1",
            id="module",
        ),
        param("open('/etc/jupyterhub/nowhere.json')", "FileNotFoundError, line 1", id="file"),
    ],
)
def test_what_only_the_hubs_image_has_is_no_error(examine, line, words):
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["extraConfig"] = {"a": line}
    status, (found,) = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert (
        status == 0
        and found["level"] == "warning"
        and found["id"] == "part-not-seen"
        and words in found["what"]
    )


def test_a_config_among_the_extra_files_is_named_and_what_it_may_set_is_no_error(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    config = values["hub"]["config"]
    del config["JupyterHub"]["spawner_class"], config["TokenSpawnerMixin"]
    assert of(examine(yaml.safe_dump(values), "values.yaml", "--values")[1], "error") == [
        "mixin-missing"
    ]
    path = "/usr/local/etc/jupyterhub/jupyterhub_config.d/tokens.py"
    values["hub"]["extraFiles"] = {
        "a.py": {"mountPath": path, "stringData": ""},
        "b": {"mountPath": "/etc/motd"},
    }
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == ["mixin-missing", "part-not-seen"]
    assert findings[-1]["what"].endswith(': hub.extraFiles."a.py".')


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
        "c": "assert camelCaseify('a_bc') == 'aBc' and url_path_join('/a', 'b') == '/a/b' and glob and client and AsyncHTTPClient",
        "d": "c.KubeSpawner.environment['A'] = 'b'\nc.KubeSpawner.common_labels['a'] = release + chart\nconfiguration_directory",
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
    (variable,) = {"GITLAB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"} & {
        *re.findall("G[A-Z]+_TOKEN", text),
        "GITLAB_TOKEN",
    }
    values.setdefault("singleuser", {})["extraEnv"] = {variable: "x"}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 1 and of(findings, "error") == ["servers-read-auth-state"]
    assert of(findings, "warning") == ["environment-wins"]
    assert "singleuser.extraEnv" in json.dumps(findings)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert found["fix"] == [{"kind": "config", "text": "hub.loadRoles.server.scopes: []"}]
    values = apply_paths(values, [found])
    assert examine(yaml.safe_dump(values), "values.yaml", "--values")[0] == 0


def test_a_bad_crypt_key_of_the_values_is_found_and_a_missing_one_is_the_charts(
    examine, cluster, monkeypatch
):
    cluster(VERBS)
    monkeypatch.delenv(KEY)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    assert examine(yaml.safe_dump(values), "values.yaml", "--values")[0] == 0
    values["hub"]["config"]["CryptKeeper"] = {"keys": ["not-a-key-at-all"]}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    (found,) = (finding for finding in findings if finding["level"] != "ok")
    assert (
        status == 1
        and found["id"] == "crypt-key-bad"
        and "not-a-key-at-all" not in json.dumps(findings)
    )
    text = "the chart makes a key itself: remove hub.config.CryptKeeper.keys"
    assert found["fix"] == [{"kind": "words", "text": text}]


@pytest.mark.parametrize(
    "text, words",
    [
        param("hub: [", "is no YAML, line 1", id="no-yaml"),
        param("text", "'hub' is no mapping", id="no-values"),
        param(
            "hub: {config: {JupyterHub: 5}}",
            "hub.config: 'JupyterHub' is no mapping",
            id="no-section",
        ),
        param("hub: {config: {5: {a: b}}}", "a section's name is no text", id="no-name"),
        param("hub: {extraConfig: [1]}", "hub: 'extraConfig' is no mapping", id="no-blocks"),
        param("hub: {extraConfig: {a: 'c.x = undefined'}}", "NameError, line 1", id="code"),
    ],
)
def test_values_that_cannot_be_loaded_are_named(examine, text, words):
    status, (found,) = examine(text, "values.yaml", "--values")
    assert status == 1 and found["id"] == "config-fails" and words in found["what"]
