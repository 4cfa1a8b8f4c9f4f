"""The doctor and a real Kubernetes API server, asked by the Hub's own service account."""

import asyncio
import json
import os
import re
import secrets
import subprocess
import sys

import pytest
import yaml
from pytest import param

from spawner_tokens.backends.kubernetes.rbac import RIGHTS, make_role

from ..backends.test_kubernetes import KUBESPAWNER_RULES
from ..support.cluster import Z2JH_RULES
from ..support.examining import KEY, KUBERNETES, of
from ..support.waiting import until

PRINTED_RULES = [
    *KUBESPAWNER_RULES,
    *next(yaml.safe_load_all(make_role("hub", patch=False)))["rules"],
]


@pytest.fixture
def examine(tmp_path):
    """Exit status and findings of the command for a Hub in this namespace."""
    config = tmp_path / "jupyterhub_config.py"
    key = secrets.token_hex(32)

    async def examine(namespace):
        config.write_text(KUBERNETES.replace('"hubs"', repr(namespace.name)))
        command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", str(config), "--json"]
        env = {**os.environ, "KUBECONFIG": str(namespace.kubeconfig), KEY: key}
        run = await asyncio.to_thread(
            subprocess.run, command, env=env, capture_output=True, text=True, timeout=60
        )
        return run.returncode, json.loads(run.stdout)["findings"]

    return examine


@pytest.mark.parametrize("rules", [param(Z2JH_RULES, id="z2jh"), param(PRINTED_RULES, id="rbac")])
async def test_a_hub_with_the_rights_of_the_chart_or_of_our_command_is_in_order(
    kube, examine, rules
):
    status, findings = await examine(kube(rules))
    assert status == 0 and "kubernetes" in of(findings, "ok") and of(findings, "error") == []


@pytest.mark.parametrize("verb", ["list", "delete"])
async def test_a_verb_that_the_role_lacks_is_named_and_the_printed_rule_gives_it(
    kube, examine, verb
):
    verbs = [allowed for allowed in RIGHTS["secrets"] if allowed != verb]
    rules = [*KUBESPAWNER_RULES, {"apiGroups": [""], "resources": ["secrets"], "verbs": verbs}]
    namespace = kube(rules)
    status, findings = await examine(namespace)
    [found] = [finding for finding in findings if finding["level"] == "error"]
    assert (status, found["id"]) == (1, "kubernetes-rights")
    assert found["what"] == f"The Hub may not {verb} Secrets in the namespace {namespace.name}."
    [rule] = re.findall("{.*}", found["fix"][0]["text"])
    namespace.grant(*rules, yaml.safe_load(rule))

    async def is_in_order():
        status, findings = await examine(namespace)
        return status == 0 and "kubernetes" in of(findings, "ok")

    await until(is_in_order)
