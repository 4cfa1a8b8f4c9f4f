"""The README and the documentation: examples do what they say, and all has its entry."""

import re
import shlex
import subprocess
import sys
from itertools import accumulate
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from docutils.core import publish_doctree
from jupyterhub.app import JupyterHub
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import load_kube_config
from traitlets.config import Config

from spawner_tokens import TokenSimpleLocalProcessSpawner, TokenSpawnerMixin
from spawner_tokens.__main__ import make_parser, split_arguments
from spawner_tokens.backend import TokenBackend
from spawner_tokens.doctor.finding import DOCUMENTATION, WHY, make_address
from spawner_tokens.tokens.selection import Reason
from spawner_tokens.tokens.spec import _DEFAULTS

from ..support.examining import read_once
from ..support.pages import PAGES, ROOT, blocks, load

# Of packages that are not on PyPI, or not for this JupyterHub: the names that the examples use.
ELSEWHERE = {
    "cdsdashboards.hubextension.spawners.variabledocker": (
        "from dockerspawner import DockerSpawner\nclass VariableDockerSpawner(DockerSpawner): pass"
    ),
    "jhub_apps.configuration": (
        "def install_jhub_apps(c, spawner_to_subclass):\n"
        "    c.JupyterHub.spawner_class = type('JHubSpawner', (spawner_to_subclass,), {})\n"
        "    return c"
    ),
    "keycloakauthenticator": (
        "from oauthenticator.generic import GenericOAuthenticator\n"
        "from traitlets import Any, List, Unicode\n"
        "class KeyCloakAuthenticator(GenericOAuthenticator):\n"
        "    exchange_tokens, pre_spawn_hook = List(config=True), Any(config=True)\n"
        "    oidc_issuer = Unicode(config=True)"
    ),
    "tokenexchangeauthenticator": (
        "from oauthenticator.generic import GenericOAuthenticator\n"
        "from traitlets import List, Unicode\n"
        "class TokenExchangeAuthenticator(GenericOAuthenticator):\n"
        "    exchange_tokens, oidc_issuer = List(config=True), Unicode(config=True)\n"
        "    local_user_exposed_path = Unicode(config=True)"
    ),
    "tljh.normalize": "def generate_system_username(name): return name",
    "tljh.user": "def ensure_user(name): pass",
    "tljh.user_creating_spawner": "from systemdspawner import SystemdSpawner\n"
    "class UserCreatingSpawner(SystemdSpawner): pass",
}


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch):
    monkeypatch.setattr("jupyterhub.traitlets.entry_points", read_once)
    for name, code in ELSEWHERE.items():
        module = ModuleType(name)
        exec(code, module.__dict__)
        for parent in accumulate(name.split("."), "{}.{}".format):
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        monkeypatch.setitem(sys.modules, name, module)


def spawner_of(config):
    """A Spawner as the Hub would make it of this config, which has no trait that nobody has."""
    hub = JupyterHub(config=config)
    spawner_class = hub.spawner_class
    classes = (*hub.classes, spawner_class, hub.authenticator_class)
    known = {base.__name__: base for cls in classes for base in cls.mro()}
    for name, traits in config.items():
        assert {*traits} <= {*known[name].class_trait_names(config=True)}, name
    if not issubclass(spawner_class, TokenSpawnerMixin):
        spawner_class = TokenSimpleLocalProcessSpawner
    user = SimpleNamespace(name="alice", escaped_name="alice", id=1)
    return spawner_class(config=config, user=user)


KUBECONFIG = """
{current-context: c, contexts: [{name: c, context: {cluster: c, user: u}}],
clusters: [{name: c, cluster: {server: "http://127.0.0.1:1"}}], users: [{name: u, user: {}}]}
"""


def values_files():
    return [block for block in blocks("yaml") if "hub" in yaml.safe_load(block.values[0])]


@pytest.fixture
def kubeconfig(tmp_path, monkeypatch):
    """Of a cluster that nobody asks: KubeSpawner wants one as soon as there is a Spawner."""
    (tmp_path / "kubeconfig").write_text(KUBECONFIG)
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION",
        str(tmp_path / "kubeconfig"),
    )


@pytest.mark.parametrize("code", list(blocks("python")))
async def test_each_config_block_is_loaded_as_the_hub_loads_it(code, tmp_path, kubeconfig):
    config = load(code, tmp_path)
    assert config
    assert spawner_of(config).tokens == config.TokenSpawnerMixin.get("tokens", {})


@pytest.mark.parametrize("text", values_files())
async def test_each_values_file_is_loaded_as_zero_to_jupyterhub_loads_it(
    text, tmp_path, kubeconfig
):
    hub = yaml.safe_load(text)["hub"]
    config = Config(hub["config"])
    for code in hub.get("extraConfig", {}).values():
        config.merge(load(code, tmp_path))
    spawner = spawner_of(config)
    assert isinstance(spawner, TokenSpawnerMixin) and "gitlab" in spawner.tokens


def test_there_are_blocks_to_load_and_none_has_a_language_of_its_own():
    assert len(list(blocks("python"))) >= 25 and len(values_files()) >= 1
    languages = set(re.findall(r"code-block:: (\w+)", "\n".join(PAGES.values())))
    assert languages == {"docker", "python", "python3", "shell", "yaml"}
    kinds = [yaml.safe_load(block.values[0]).keys() for block in blocks("yaml")]
    assert all(kind & {"hub", "services", "groups"} for kind in kinds)


@pytest.mark.parametrize(
    "section, user_info, variables",
    [
        ("GITLAB_ACCESS_TOKEN", {}, ["GITLAB_ACCESS_TOKEN"]),
        (
            "pre_spawn_start",
            {"github_user": {"login": "octo", "email": "octo@example.org"}},
            ["GITHUB_TOKEN", "GITHUB_USER", "GITHUB_EMAIL"],
        ),
        (
            "auth_state_hook",
            {"oauth_user": {"email": "me@example.org"}},
            ["ACCESS_TOKEN", "USER_EMAIL"],
        ),
    ],
)
async def test_what_replaces_a_snippet_gives_the_server_the_same(
    start_hub, tmp_path, section, user_info, variables
):
    before, after = (
        block.values[0] for block in blocks("python", "howto/snippet") if section in block.id
    )
    given = []
    for code in (before, after):
        config = load(code, tmp_path)
        settings = {
            f"{part}.{name}": value for part in config for name, value in config[part].items()
        }
        settings.pop("JupyterHub.spawner_class", None)  # alice is no user of this system
        hub = await start_hub("spawner_tokens.TokenSimpleLocalProcessSpawner", settings)
        user = await hub.user("alice", {"access_token": "the-token", **user_info})
        env = await (await hub.spawn(user)).env()
        given.append({variable: env[variable] for variable in variables})
        await user.stop("")
    assert given[0] == given[1] and b"the-token" in given[0].values()


async def test_the_kubeconfig_leads_a_client_to_the_token(start_hub, tmp_path):
    [code, _] = (
        block.values[0]
        for block in blocks("python", "howto/tools")
        if "KUBE_API_SERVER" in block.values[0]
    )
    settings = {"TokenSpawnerMixin.tokens": load(code, tmp_path).TokenSpawnerMixin.tokens}
    hub = await start_hub("spawner_tokens.TokenSimpleLocalProcessSpawner", settings)
    server = await hub.spawn(await hub.user("alice", {"id_token": "the-id-token"}))
    configuration = Configuration()
    await load_kube_config(
        (await server.env())["KUBECONFIG"].decode(), client_configuration=configuration
    )
    assert configuration.host == "https://kubernetes.example.org"
    assert configuration.api_key == {"BearerToken": "Bearer the-id-token"}


# What is not on this machine says its arguments and what it finds in the environment.
TOOLS = (
    "docker",
    "helm",
    "kubectl",
    "spawner-tokens",
    "gh",
    "glab",
    "dvc",
    "rclone",
    "sudo",
    "curl",
)
TOOL = 'echo "$0 $*"; env; [ -t 0 ] || cat'
TOKENS = ("github", "gitlab", "oidc")


@pytest.fixture
def shell(tmp_path):
    """Run a command as in a server with files: ``shell(command)`` → its output."""
    env = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "GITHUB_HOST": "ghe"}
    (tmp_path / "bin").mkdir()
    for name in TOOLS:
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{TOOL}\n")
        (tmp_path / "bin" / name).chmod(0o700)
    for name in TOKENS:
        (tmp_path / name).write_text(f"the-token-of-{name}")
        (tmp_path / f"{name}.json").write_text("{}")
        env[f"{name.upper()}_TOKEN_FILE"] = str(tmp_path / name)
    env["SPAWNER_TOKENS_DIR"] = str(tmp_path)
    env |= {"SPAWNER_TOKENS_URL": "http://hub/x", "JUPYTERHUB_API_TOKEN": "the-servers-own"}

    def shell(command):
        command = ["bash", "-euo", "pipefail", "-c", command]
        done = subprocess.run(
            command, cwd=tmp_path, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return shell


@pytest.mark.parametrize(
    "code", [block for block in blocks("shell") if "pip install" not in block.values[0]]
)
def test_each_shell_example_runs(shell, code):
    shell(code)


def test_what_asks_the_hub_shows_the_servers_own_token_in_no_process_list(shell):
    [code] = (block.values[0] for block in blocks("shell", "howto/ask-the-hub"))
    lines = shell(code).splitlines()
    calls = [line for line in lines if "/bin/curl " in line]
    assert [line.split()[-1] for line in calls] == ["http://hub/x", *["http://hub/x/gitlab"] * 2]
    assert "the-servers-own" not in f"{calls}"
    assert lines.count("Authorization: token the-servers-own") == 3


def test_a_tool_that_reads_a_variable_has_the_files_token_in_it(shell):
    *_, calls, function = (block.values[0].strip() for block in blocks("shell", "howto/tools"))
    github, enterprise, gitlab = calls.splitlines()
    assert "GH_TOKEN=the-token-of-github" in shell(github).splitlines()
    found = shell(enterprise).splitlines()
    assert {"GH_HOST=ghe", "GH_ENTERPRISE_TOKEN=the-token-of-github"} <= {*found}
    assert "GITLAB_TOKEN=the-token-of-gitlab" in shell(gitlab).splitlines()
    assert "GH_TOKEN=the-token-of-github" in shell(function).splitlines()


def test_each_command_is_one_that_there_is():
    text = "\n".join(PAGES[name] for name in PAGES if name != "reference/changes")
    commands = re.findall(
        r"spawner-tokens (demo|doctor|explain|rbac|get|status)([^`|#\n)]*)(?=[`|#\n)])", text
    )
    assert len(commands) > 15
    for name, arguments in commands:
        named = [name, *shlex.split(arguments)]
        if named in (["explain"], ["get"]):
            continue  # a name in a sentence
        make_parser().parse_args(split_arguments(named)[0])


def test_the_table_of_fields_has_all_of_them():
    table = PAGES["reference/spec"].split(".. code-block")[0]
    assert set(re.findall(r"^``([a-z_]+)``", table, re.MULTILINE)) == set(_DEFAULTS)


@pytest.mark.parametrize(
    "page, kind, names",
    [("findings", "finding", [*WHY]), ("statuses", "status", [each.value for each in Reason])],
)
def test_each_finding_and_each_status_has_an_entry(page, kind, names):
    entries = re.findall(rf"^\.\. {kind}:: (\S+)$", PAGES[f"reference/{page}"], re.MULTILINE)
    assert sorted(entries) == sorted(names)


def test_the_backends_contract_has_an_entry_for_all_that_it_names():
    entries = re.findall(
        r"^\.\. auto.*TokenBackend\.(\w+)$", PAGES["reference/backend"], re.MULTILINE
    )
    assert set(entries) == set(re.findall(r":(?:meth|attr):`(\w+)`", TokenBackend.__doc__))


PROSE = [name for name in PAGES if name not in ("README", "index", "reference/changes")]


@pytest.mark.parametrize("name", PROSE)
def test_a_page_is_short_and_begins_with_what_its_reader_has_and_wants(name):
    title, rule, nothing, first, *_ = PAGES[name].splitlines()
    assert len(title) <= len(rule) and not nothing and first.startswith("You ")
    assert PAGES[name].count("\n") <= 200


def test_the_readme_is_a_door():
    assert PAGES["README"].count("\n") <= 130


def test_each_address_in_the_documentation_is_one_of_a_page():
    addresses = [make_address(id) for id in WHY]
    addresses += re.findall(rf"{re.escape(DOCUMENTATION)}[^>\s]*", PAGES["README"])
    assert len(addresses) > len(WHY) + 5
    for address in addresses:
        name, _, anchor = address.removeprefix(DOCUMENTATION).partition("#")
        if name.startswith("_static/"):
            assert (ROOT / "docs" / name).exists()
            continue
        page = PAGES[name.removesuffix(".html") or "index"]
        assert not anchor or f".. {anchor.replace('-', ':: ', 1)}\n" in page, address


@pytest.mark.parametrize("path", [*ROOT.glob("*.rst")], ids=lambda path: path.stem)
def test_the_text_is_valid(path):
    publish_doctree(path.read_text(), settings_overrides={"report_level": 2, "halt_level": 2})
