"""Outside a Hub, as in the tests of a spawner's author, our classes do what the stock ones do.

The Spawners here have no authenticator and no database, and their users are mock objects.
"""

import json
import logging
import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import pytest
from dockerspawner import DockerSpawner, SwarmSpawner, SystemUserSpawner
from jupyterhub.objects import Hub
from jupyterhub.spawner import LocalProcessSpawner, SimpleLocalProcessSpawner
from jupyterhub.utils import maybe_future
from kubespawner import KubeSpawner
from pytest import param
from traitlets.config import Config

import spawner_tokens as ours

from ..support.cluster import stop_clients, use
from ..support.spawners import VariablesOnly

NAME = pwd.getpwuid(os.geteuid()).pw_name
TOKENS = {"gitlab": {"preset": "gitlab", "env": "GITLAB_TOKEN"}}
HUB = Hub()


class MockUser(Mock):
    """As in KubeSpawner's own tests: it has any attribute that it is asked for."""

    name = escaped_name = NAME
    url = f"/user/{NAME}/"


class MockRow(Mock):
    """In place of the Spawner's row in the database, as in KubeSpawner's own tests."""

    name = ""
    server = None


class PlainUser:
    """Has the attributes that a stock Spawner reads, and no other."""

    id = 1
    name = escaped_name = NAME
    url = f"/user/{NAME}/"


def of_mock_user():
    return {"user": MockUser(), "hub": HUB}


def of_mock_user_and_mock_row():
    return {**of_mock_user(), "orm_spawner": MockRow()}


def of_plain_user():
    return {"user": PlainUser(), "hub": HUB}


local_classes = [
    param(ours.TokenLocalProcessSpawner, LocalProcessSpawner, id="local"),
    param(ours.TokenSimpleLocalProcessSpawner, SimpleLocalProcessSpawner, id="simple"),
    param(VariablesOnly, SimpleLocalProcessSpawner, id="variables-only"),
]
docker_classes = [
    param(ours.TokenDockerSpawner, DockerSpawner, id="docker"),
    param(ours.TokenSystemUserSpawner, SystemUserSpawner, id="docker-system-user"),
    param(ours.TokenSwarmSpawner, SwarmSpawner, id="docker-swarm"),
]


def make(spawner_class, arguments, **settings):
    """A Spawner of this class. ``settings``: class → trait → value."""
    config = Config({"TokenSpawnerMixin": {"tokens": TOKENS}, **settings})
    secrets = {"api_token": "an-api-token", "oauth_client_id": "a-client"}
    return spawner_class(config=config, **secrets, **arguments)


def state_of(spawner):
    """What the Hub stores, but for the key that is ours."""
    return {name: value for name, value in spawner.get_state().items() if name != "tokens_started"}


def observe(spawner):
    """What a Spawner without a server returns: its state, its environment, its cleared state."""
    spawner.load_state({})
    before, env = state_of(spawner), spawner.get_env()
    spawner.clear_state()
    return before, env, state_of(spawner)


def make_and_observe(spawner_class, arguments):
    return observe(make(spawner_class, arguments))


def assert_quiet(records):
    """At most one line says that there are no tokens, and nothing has gone wrong."""
    found = [record for record in records if record.levelno >= logging.WARNING or record.exc_info]
    assert [record.levelname for record in found] in ([], ["WARNING"]), found
    assert not any(record.exc_info for record in found)


def run_without_loop(function, *arguments):
    """Call it in a thread of its own, which has no event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *arguments).result()


# -- without a server ----------------------------------------------------------------------------


@pytest.mark.parametrize("token_class, stock_class", local_classes)
def test_a_spawner_of_nothing_loads_and_clears_its_state(token_class, stock_class, caplog):
    def load_and_clear(spawner_class):
        spawner = spawner_class()
        spawner.load_state({})
        spawner.clear_state()

    for spawner_class in (token_class, stock_class):
        run_without_loop(load_and_clear, spawner_class)
    assert_quiet(caplog.records)


@pytest.mark.parametrize("token_class, stock_class", [*local_classes, *docker_classes])
@pytest.mark.parametrize("arguments", [of_mock_user, of_mock_user_and_mock_row, of_plain_user])
def test_state_and_environment_in_a_plain_function_are_those_of_the_stock_class(
    token_class, stock_class, arguments, caplog
):
    found, expected = (
        run_without_loop(make_and_observe, spawner_class, arguments())
        for spawner_class in (token_class, stock_class)
    )
    assert found == expected
    assert_quiet(caplog.records)


@pytest.fixture
async def no_cluster(tmp_path, monkeypatch):
    """A kubeconfig, with which KubeSpawner can be made, of a cluster that is not there."""
    location = "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(location, None)  # back at the end, when use() has set it
    kubeconfig = {
        "current-context": "none",
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "none", "user": {"token": "none"}}],
    }
    tmp_path.joinpath("kubeconfig").write_text(json.dumps(kubeconfig))
    use(tmp_path / "kubeconfig")
    yield
    await stop_clients()


async def make_pod(spawner):
    pod = await spawner.get_pod_manifest()
    return spawner.api.api_client.sanitize_for_serialization(pod)


async def observe_pod(spawner):
    """What KubeSpawner's own tests look at, before and after the user's options are loaded."""
    observed = observe(spawner)
    before = await make_pod(spawner)
    await spawner.load_user_options()
    return observed, before, await make_pod(spawner), spawner.get_env()


def of_nothing():
    return {}


@pytest.mark.parametrize(
    "arguments", [of_mock_user, of_mock_user_and_mock_row, of_plain_user, of_nothing]
)
async def test_a_pod_is_that_of_the_stock_class(no_cluster, arguments, caplog):
    found, expected = [
        await observe_pod(make(spawner_class, {**arguments(), "_mock": True}))
        for spawner_class in (ours.TokenKubeSpawner, KubeSpawner)
    ]
    assert found == expected
    assert_quiet(caplog.records)


# -- with one ------------------------------------------------------------------------------------


async def run_process(spawner):
    """The environment of the server's process, and the Spawner's state after the stop."""
    spawner.load_state({})
    await maybe_future(spawner.start())
    try:
        assert spawner.get_state()["pid"] == spawner.pid
        lines = Path("/proc", str(spawner.pid), "environ").read_bytes().split(b"\0")
        spawner.start_polling()
        assert await spawner.poll() is None
    finally:
        spawner.stop_polling()
        await spawner.stop(now=True)
        spawner.clear_state()
    await maybe_future(spawner.run_post_stop_hook())
    return sorted(lines), spawner.get_state()


@pytest.mark.parametrize(
    "token_class, stock_class, arguments",
    [
        (ours.TokenLocalProcessSpawner, LocalProcessSpawner, of_mock_user),
        (ours.TokenSimpleLocalProcessSpawner, SimpleLocalProcessSpawner, of_mock_user_and_mock_row),
        (VariablesOnly, SimpleLocalProcessSpawner, of_plain_user),
    ],
)
async def test_a_process_is_started_as_by_the_stock_class(
    token_class, stock_class, arguments, tmp_path, memory, caplog
):
    settings = {
        "Spawner": {"cmd": ["sleep", "100"], "port": 1, "poll_interval": 1},
        "SimpleLocalProcessSpawner": {"home_dir_template": str(tmp_path)},
        "LocalTokenMixin": {"tokens_mount_path": str(memory)},
    }
    found, expected = [
        await run_process(make(spawner_class, arguments(), **settings))
        for spawner_class in (token_class, stock_class)
    ]
    assert found == expected
    assert not memory.exists()
    assert_quiet(caplog.records)


async def run_container(spawner, engine):
    """The container's environment and mounts."""
    spawner.load_state({})
    await spawner.start()
    try:
        container = engine.client.inspect_container(spawner.container_name)
        assert await spawner.poll() is None
    finally:
        await spawner.stop()
        spawner.clear_state()
    await maybe_future(spawner.run_post_stop_hook())
    engine.remove_containers()
    return sorted(container["Config"]["Env"]), sorted(container["HostConfig"]["Binds"])


@pytest.mark.parametrize(
    "token_class, stock_class, arguments",
    [
        (ours.TokenDockerSpawner, DockerSpawner, of_mock_user),
        (ours.TokenSystemUserSpawner, SystemUserSpawner, of_plain_user),
    ],
)
async def test_a_container_is_started_as_by_the_stock_class(
    token_class, stock_class, arguments, engine, caplog
):
    settings = engine.settings(cmd=["sh", "-c", "trap exit TERM; sleep 100 & wait"])
    traits = {name.removeprefix("DockerSpawner."): value for name, value in settings.items()}
    found, expected = [
        await run_container(make(spawner_class, arguments(), DockerSpawner=traits), engine)
        for spawner_class in (token_class, stock_class)
    ]
    assert found == expected
    assert engine.volumes() == []
    assert_quiet(caplog.records)


async def test_a_pod_is_started_without_a_secret(kube, caplog):
    namespace = kube()
    settings = namespace.settings()
    traits = {
        name.removeprefix("KubeSpawner."): value
        for name, value in settings.items()
        if name.startswith("KubeSpawner.")
    }
    spawner = make(ours.TokenKubeSpawner, of_mock_user(), KubeSpawner=traits)
    spawner.load_state({})
    await spawner.start()
    assert await spawner.poll() is None
    (pod,) = namespace.all("pods")
    volumes = [volume["name"] for volume in pod["spec"].get("volumes", ())]
    assert not any(name.startswith("spawner-tokens") for name in volumes)
    await spawner.stop(now=True)
    await maybe_future(spawner.run_post_stop_hook())
    assert namespace.audit("secrets") in (None, [])
    assert_quiet(caplog.records)
