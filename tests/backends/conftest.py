"""A Docker Swarm, which one process of the tests has for all of them."""

import os
import shutil

import pytest
from traitlets import default

from spawner_tokens import TokenSwarmSpawner

from ..support.engine import Swarm
from ..support.ports import random_port


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
    """For servers on one network, so each at a port of its own."""

    class OwnPort(swarm.spawner_class(TokenSwarmSpawner)):
        @default("port")
        def _default_port(self):
            return random_port()

    return OwnPort
