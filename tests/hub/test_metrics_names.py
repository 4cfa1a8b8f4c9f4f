"""The metrics' names: those that the documentation has, under JupyterHub's prefix."""

import os
import re
import subprocess
import sys

import yaml
from prometheus_client import REGISTRY, generate_latest

from ..support.pages import PAGES, blocks
from .test_metrics import read


def test_the_documentation_names_them_all_and_its_rules_ask_for_samples_that_there_are():
    found = read(generate_latest(REGISTRY).decode())
    named = set(
        re.findall(r"^``(jupyterhub_token_\w+)``", PAGES["reference/metrics"], re.MULTILINE)
    )
    [block] = blocks("yaml", "howto/monitor")
    [rules] = block.values
    assert named == {re.sub("_(bucket|sum|count)$", "", sample.split()[0]) for sample in found}
    asked = re.findall(r"(jupyterhub_token_\w+)\{(\w+)=~?\"(.*?)\"\}", rules)
    assert len(asked) == rules.count("expr:") == len(yaml.safe_load(rules)["groups"][0]["rules"])
    for name, label, values in asked:
        for value in values.split("|"):
            assert [
                sample
                for sample in found
                if sample.startswith(f"{name} ") and f"{label}={value}" in sample.split()
            ]


def test_the_prefix_is_jupyterhubs():
    code = (
        "from spawner_tokens import TokenSpawnerMixin;"
        "from prometheus_client import REGISTRY, generate_latest;"
        "print(generate_latest(REGISTRY).decode())"
    )
    env = {**os.environ, "JUPYTERHUB_METRICS_PREFIX": "ours"}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    ).stdout
    names = {
        line.split()[2]
        for line in shown.splitlines()
        if line.startswith("# TYPE") and "_token_" in line
    }
    assert {name.removesuffix("_total") for name in names if not name.endswith("_created")} == {
        *(
            "ours_token_deliveries",
            "ours_token_exchanges",
            "ours_token_pulls",
            "ours_token_renewals",
            "ours_token_refusals",
            "ours_token_lifetime_seconds",
        )
    }
