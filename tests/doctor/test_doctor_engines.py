"""The doctor asks Docker and Kubernetes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

from ..support.examining import (  # noqa: F401
    DOCKER,
    KUBERNETES,
    VERBS,
    cluster,
    examine,
    find_one,
    hubs_environment,
    of,
    serve,
)


def test_an_engine_that_does_not_answer_is_found(examine, monkeypatch, serve):
    status, findings = examine(DOCKER)
    assert status == 1 and of(findings, "error") == ["docker-unreachable"]
    engine = serve(lambda path, body: "OK" if path.endswith("_ping") else {"ApiVersion": "1.41"})
    monkeypatch.setenv("DOCKER_HOST", engine.replace("http", "tcp"))
    status, findings = examine(DOCKER)
    assert status == 0 and "docker" in of(findings, "ok")


VARIABLES_ONLY = """
from kubespawner import KubeSpawner
from spawner_tokens import TokenSpawnerMixin


class VariablesOnly(TokenSpawnerMixin, KubeSpawner):
    pass

c.JupyterHub.spawner_class = VariablesOnly
"""


def test_the_verbs_that_the_hub_may_not_do_are_named(examine, cluster):
    asked = cluster(["get", "list"])
    status, findings = examine(KUBERNETES)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert status == 1 and found["id"] == "kubernetes-rights"
    assert found["what"] == "The Hub may not create, delete Secrets in the namespace hubs."
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert set(asked) == {(path, "hubs", "secrets", verb) for verb in VERBS}
    (rule,) = re.findall(r"{.*}", found["fix"][0]["text"])
    cluster(yaml.safe_load(rule)["verbs"])
    status, findings = examine(KUBERNETES)
    assert status == 0 and "kubernetes" in of(findings, "ok")


def test_without_a_cluster_all_the_rest_is_checked(examine, cluster):
    status, findings = examine(KUBERNETES.replace('"preset"', '"prest"'))
    assert status == 1 and of(findings, "error") == ["spec-wrong"]
    assert of(findings, "warning") == ["kubernetes-not-asked"]


EXEC = {
    "apiVersion": "client.authentication.k8s.io/v1",
    "command": "sh",
    "args": ["-c", "echo run > ran; exec sleep 60"],
}


def test_a_command_of_the_kubeconfig_that_does_not_end_is_not_waited_for(tmp_path, cluster):
    cluster([])
    kubeconfig = yaml.safe_load((tmp_path / "kubeconfig").read_text())
    kubeconfig["users"] = [{"name": "u", "user": {"exec": EXEC}}]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    (tmp_path / "hub_config.py").write_text(KUBERNETES.replace('"preset"', '"prest"'))
    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py"]
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KUBECONFIG": str(tmp_path / "kubeconfig"),
    }
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=50
    )
    assert (tmp_path / "ran").exists() and done.returncode == 1
    told = " ".join(done.stdout.split())
    assert "error spec-wrong" in told and "most likely for a command in the kubeconfig" in told


def test_an_api_that_does_not_answer_is_found(examine, cluster, tmp_path):
    cluster([])
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(re.sub(r"127.0.0.1:\d+", "127.0.0.1:1", kubeconfig.read_text()))
    assert of(examine(KUBERNETES)[1], "error") == ["kubernetes-unreachable"]


def test_variables_alone_need_no_secrets(examine, cluster):
    asked = cluster([])
    status, findings = examine(KUBERNETES + VARIABLES_ONLY)
    assert status == 0 and asked == [] and "kubernetes" not in of(findings, "ok")


def test_a_life_that_the_kubelets_pace_cannot_serve_is_found(examine, cluster):
    cluster(VERBS)
    keycloak = KUBERNETES.replace('"gitlab"\n', '"generic-oauth"\n', 1).replace(
        '"preset": "gitlab"', '"preset": "oidc"'
    )
    url = "https://sso.example.org/realms/r/protocol/openid-connect/token"
    keycloak += f'c.GenericOAuthenticator.token_url = "{url}"\n'
    assert "lifetime-too-short" not in of(examine(keycloak)[1], "warning")
    slow = keycloak.replace("tokens_sync_period = 90", "tokens_sync_period = 150")
    found = find_one(examine(slow)[1], "lifetime-too-short")
    assert found["level"] == "warning"
    (most,) = re.findall(r"tokens_sync_period = (\d+)", found["fix"][0]["text"])
    mended = keycloak.replace("tokens_sync_period = 90", f"tokens_sync_period = {most}")
    assert "lifetime-too-short" not in of(examine(mended)[1], "warning")
