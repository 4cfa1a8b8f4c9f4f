"""The README: its config blocks do what they say, its tables are true, its text is valid."""

import re
import sys
from textwrap import dedent
from types import ModuleType, SimpleNamespace

import pytest
import yaml
from docutils.core import publish_doctree
from jupyterhub.app import JupyterHub
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import load_kube_config
from traitlets.config import Config
from traitlets.config.loader import PyFileConfigLoader

from spawner_tokens import TokenSimpleLocalProcessSpawner, TokenSpawnerMixin
from spawner_tokens.tokens.selection import Reason
from spawner_tokens.tokens.spec import _DEFAULTS

from ..support.reference import README, generated

TEXT = README.read_text()


def blocks(language):
    found = re.finditer(
        rf"^( *)\.\. code-block:: {language}\n\n((?:\1    .*\n|\n)+)", TEXT, re.MULTILINE
    )
    for match in found:
        heading = re.findall(r"^(.+)\n[=-]{4,}$", TEXT[: match.start()], re.MULTILINE)[-1]
        yield pytest.param(
            dedent(match[2]), id=f"{heading}, line {TEXT[: match.start()].count(chr(10)) + 1}"
        )


def load(code, tmp_path):
    path = tmp_path / "block.py"  # not a name that a Hub of this folder would read
    path.write_text(code)
    return PyFileConfigLoader(str(path)).load_config()


TLJH = {
    "tljh": "",
    "tljh.normalize": "def generate_system_username(name): return name",
    "tljh.user": "def ensure_user(name): pass",
    "tljh.user_creating_spawner": "from systemdspawner import SystemdSpawner\n"
    "class UserCreatingSpawner(SystemdSpawner): pass",
}


@pytest.fixture(autouse=True)
def tljh(monkeypatch):
    """The Littlest JupyterHub is not on PyPI: the names that its spawner is made of."""
    for name, code in TLJH.items():
        module = ModuleType(name)
        exec(code, module.__dict__)
        monkeypatch.setitem(sys.modules, name, module)


def spawner_of(config):
    """A Spawner as the Hub would make it of this config."""
    spawner_class = JupyterHub(config=config).spawner_class
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


def test_there_are_blocks_to_load():
    assert len(list(blocks("python"))) >= 12 and len(values_files()) >= 1


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
    before, after = (block.values[0] for block in blocks("python") if section in block.id)
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
    *_, code = (
        block.values[0]
        for block in blocks("python")
        if "Tools with a format of their own" in block.id
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


def test_the_generated_parts_are_up_to_date():
    assert generated(TEXT) == TEXT, "run: python -m tests.support.reference"


def test_the_table_of_fields_has_all_of_them():
    table = TEXT.split("A token's spec\n====")[1].split(".. code-block")[0]
    assert set(re.findall(r"^``([a-z_]+)``", table, re.MULTILINE)) == set(_DEFAULTS)


def test_the_table_of_reasons_has_all_of_them():
    table = TEXT.split("When a token is not as asked\n----")[1].split("The last word\n----")[0]
    reasons = set(re.findall(r"^``([a-z_]+)`` ", table, re.MULTILINE)) - {"status"}
    assert reasons == {reason.value for reason in Reason}


@pytest.mark.parametrize("name", ["README.rst", "CHANGES.rst", "CONTRIBUTING.rst"])
def test_the_text_is_valid(name):
    text = README.with_name(name).read_text()
    publish_doctree(text, settings_overrides={"report_level": 2, "halt_level": 2})
