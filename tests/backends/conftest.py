"""Servers of one backend, each started in one way; a Docker Swarm for all tests of a process."""

import os
import shutil

import pytest

from spawner_tokens import TokenSimpleLocalProcessSpawner, TokenSwarmSpawner

from ..support.cluster import Z2JH_RULES
from ..support.engine import Swarm

LOGIN = {"access_token": "the-token"}


@pytest.fixture(scope="session")
def swarm_of_session(need):
    need(os.environ.get("DOCKER_HOST"), "a Docker Engine, by DOCKER_HOST,")
    need(os.geteuid() == 0 and shutil.which("dockerd"), "root, with dockerd,")
    swarm = Swarm()
    yield swarm
    swarm.clean()


@pytest.fixture
def swarm(swarm_of_session):
    yield swarm_of_session
    swarm_of_session.empty()


@pytest.fixture
def swarm_spawner_class(swarm):
    return swarm.spawner_class(TokenSwarmSpawner)


@pytest.fixture
def start_container(engine, start_hub):
    """Start alice's server: ``hub, user, server = await start_container("bind", remove=True)``."""

    async def start(mode="auto", image=None, auth_state=LOGIN, specs=None, **traits):
        settings = engine.settings(image, tokens_volume_mode=mode, **traits)
        hub = await start_hub(
            "spawner_tokens.TokenDockerSpawner",
            {"TokenSpawnerMixin.tokens": specs or {"t": {}}, **settings},
        )
        user = await hub.user("alice", auth_state)
        return hub, user, await hub.spawn(user)

    return start


@pytest.fixture
def start_local(start_hub):
    """Start a Hub and alice's server: ``hub, user, server = await start_local()``."""

    async def start(specs=None, auth_state=LOGIN):
        hub = await start_hub(
            TokenSimpleLocalProcessSpawner, {"TokenSpawnerMixin.tokens": specs or {"t": {}}}
        )
        user = await hub.user("alice", auth_state)
        return hub, user, await hub.spawn(user)

    return start


@pytest.fixture
def start_pod(kube, start_hub):
    """Start a Hub and alice's pod: ``namespace, hub, user, server = await start_pod(rules)``."""

    async def start(rules=Z2JH_RULES, **traits):
        namespace = kube(rules)
        hub = await start_hub(
            "spawner_tokens.TokenKubeSpawner",
            {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}, **namespace.settings(**traits)},
        )
        user = await hub.user("alice", {**LOGIN, "name": "$(T) of $x"})
        return namespace, hub, user, await hub.spawn(user)

    return start
