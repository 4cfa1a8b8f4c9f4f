"""The doctor asks Kubernetes what the Hub may do: a stand-in for its API, and a real API server."""

import asyncio
import json

import pytest
import yaml
from pytest import param

from spawner_tokens.backends.kubernetes.rbac import make_role

from ..support.cluster import KUBESPAWNER_RULES, Z2JH_RULES
from ..support.examining import KUBERNETES, VERBS, find_one, of, run_command

VARIABLES_ONLY = """
from kubespawner import KubeSpawner
from spawner_tokens import TokenSpawnerMixin
class VariablesOnly(TokenSpawnerMixin, KubeSpawner): pass
c.JupyterHub.spawner_class = VariablesOnly
"""


def test_the_verbs_that_the_hub_may_not_do_are_named(examine, cluster):
    cluster.verbs = ["get", "list"]
    _, findings = examine(KUBERNETES)
    assert of(findings, "error") == ["kubernetes-rights"]
    found = find_one(findings, "kubernetes-rights")
    assert found["what"] == "The Hub may not create, delete Secrets in the namespace hubs."
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert set(cluster.asked) == {(path, "hubs", "secrets", verb) for verb in VERBS}
    cluster.verbs = yaml.safe_load(found["fix"].splitlines()[-1])["verbs"]
    status, findings = examine(KUBERNETES)
    assert status == 0 and "rights" in of(findings, "ok")


def test_without_a_cluster_all_the_rest_is_checked(examine, cluster):
    cluster.kubeconfig.unlink()
    _, findings = examine(KUBERNETES.replace('"preset"', '"prest"'))
    assert of(findings, "error", "warning") == ["spec-wrong"]
    assert "not looked at: what Kubernetes allows the Hub" in find_one(findings, "rights")["what"]


def test_variables_alone_need_no_secrets(examine, cluster):
    cluster.verbs = []
    status, findings = examine(KUBERNETES + VARIABLES_ONLY)
    assert status == 0 and cluster.asked == [] and "rights" not in of(findings, "ok")


PRINTED_RULES = [
    *KUBESPAWNER_RULES,
    *next(yaml.safe_load_all(make_role("hub", patch=False)))["rules"],
]


@pytest.fixture
def examine_in(tmp_path):
    """Exit status and findings for a Hub in this namespace of a real API server."""

    async def examine_in(namespace):
        config = tmp_path / "hub_config.py"
        config.write_text(KUBERNETES.replace('"hubs"', repr(namespace.name)))
        env = {"KUBECONFIG": str(namespace.kubeconfig)}
        done = await asyncio.to_thread(run_command, "doctor", "-f", config, "--json", env=env)
        return done.returncode, json.loads(done.stdout)["findings"]

    return examine_in


@pytest.mark.parametrize("rules", [param(Z2JH_RULES, id="z2jh"), param(PRINTED_RULES, id="rbac")])
async def test_a_hub_with_the_rights_of_the_chart_or_of_our_command_is_in_order(
    kube, examine_in, rules
):
    status, findings = await examine_in(kube(rules))
    assert status == 0 and "rights" in of(findings, "ok") and of(findings, "error") == []
