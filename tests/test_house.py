"""The house: data flows one way, so a module imports only what stands left of it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import spawner_tokens

PACKAGE = Path(spawner_tokens.__file__).parent

MAY_IMPORT = {
    "presets": set(),
    "fields": set(),
    "spec": {"fields", "presets"},
    "lifetime": set(),
    "selection": {"fields", "spec", "lifetime"},
    "git": {"selection", "spec"},
    "delivery": {"git", "selection"},
    "discretion": set(),
    "grant": {"tornado"},
    "metrics": {"grant", "selection", "jupyterhub", "prometheus_client"},
    "journal": {"discretion", "lifetime", "selection", "cryptography", "jupyterhub", "sqlalchemy"},
    "flight": {"discretion", "grant", "journal", "lifetime", "jupyterhub", "sqlalchemy"},
    "account": {"flight", "grant", "journal", "metrics"},
    "turns": set(),
    "running": {"account", "discretion", "journal", "turns"},
    "renewal": {
        "account",
        "discretion",
        "flight",
        "journal",
        "lifetime",
        "running",
        "selection",
        "turns",
        "jupyterhub",
    },
    "traits": {"fields", "jupyterhub", "traitlets"},
    "refusal": {"metrics", "selection", "jupyterhub", "tornado"},
    "server": {"account", "delivery", "discretion", "metrics", "refusal", "selection", "spec", "jupyterhub"},
    "mixin": {
        *("backend", "delivery", "discretion", "fields", "git", "refusal", "renewal", "selection", "server"),
        *("spec", "jupyterhub", "traitlets"),
    },
    "identity": set(),
    "backend": {"identity", "traits", "sqlalchemy"},
    "private": set(),
    "local": {"delivery", "mixin", "private", "jupyterhub", "sqlalchemy", "traitlets"},
    "container": {"docker"},
    "engine": {"private", "docker"},
    "docker": {
        *("container", "delivery", "engine", "mixin", "private"),
        *("docker", "dockerspawner", "jupyterhub", "traitlets"),
    },
    "manifest": {"delivery"},
    "apiserver": {"aiohttp"},
    "secret": {"apiserver", "manifest"},
    "pod": {"manifest", "kubernetes_asyncio", "kubespawner"},
    "kubernetes": {
        *("apiserver", "delivery", "manifest", "mixin", "pod", "secret"),
        *("jupyterhub", "kubespawner", "sqlalchemy", "traitlets"),
    },
    "rbac": set(),
    "testing/contents": set(),
    "testing/hub": {"jupyterhub", "sqlalchemy", "traitlets"},
    "testing/platform": {"backend", "contents", "hub", "jupyterhub", "pytest", "pytest_asyncio", "traitlets"},
    "testing/checks": {"delivery", "contents", "platform", "pytest"},
    "testing/privacy": {"checks", "contents", "platform", "pytest"},
    "testing/removal": {"backend", "checks", "contents", "platform", "pytest"},
    "testing/contract": {"checks", "delivery", "contents", "platform", "privacy", "removal", "pytest"},
    "swarm": {"container", "delivery", "mixin", "docker", "dockerspawner"},
}


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module.partition(".")[0] if not node.level else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)


@pytest.mark.parametrize("module", MAY_IMPORT)
def test_a_module_knows_only_what_is_left_of_it(module):
    found = set(imports(PACKAGE / f"{module}.py")) - sys.stdlib_module_names
    assert found <= MAY_IMPORT[module]


def test_every_module_has_its_place():
    paths = [path for folder in ("", "testing") for path in Path(PACKAGE, folder).glob("*.py")]
    modules = {path.relative_to(PACKAGE).with_suffix("").as_posix() for path in paths if path.stem[0] != "_"}
    assert modules == set(MAY_IMPORT)


def test_every_module_says_what_lives_there():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text())), path


def test_importing_needs_neither_dockerspawner_nor_kubespawner_nor_the_demo():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['dockerspawner', 'kubespawner', 'oauthenticator', 'django']));"
        "import spawner_tokens"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
