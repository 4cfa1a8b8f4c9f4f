"""Spawners by others for ``benchmarks.walk``, and the systems that their servers run on."""

import os
import pwd
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import patch

from batchspawner import BatchSpawnerRegexStates
from sudospawner import SudoSpawner
from systemdspawner import SystemdSpawner
from wrapspawner import WrapSpawner

from spawner_tokens import (
    LocalTokenMixin,
    TokenSimpleLocalProcessSpawner,
    TokenSpawnerMixin,
    TokenSwarmSpawner,
)
from tests.support.engine import OnHostsNetwork, Swarm
from tests.support.hub import SERVER
from tests.support.pages import blocks, load
from tests.support.spawners import VariablesOnly
from tests.support.systems import (
    install_commands,
    make_batch_settings,
    make_users,
    mount_python,
    write_command,
    write_server,
)


class BatchFiles(LocalTokenMixin, BatchSpawnerRegexStates):
    pass


class BatchPull(TokenSpawnerMixin, BatchSpawnerRegexStates):
    pass


class SudoFiles(LocalTokenMixin, SudoSpawner):
    pass


class SudoPull(TokenSpawnerMixin, SudoSpawner):
    pass


class SystemdFiles(LocalTokenMixin, SystemdSpawner):
    pass


class SystemdPull(TokenSpawnerMixin, SystemdSpawner):
    pass


class SwarmBoth(OnHostsNetwork, TokenSwarmSpawner):
    pass


def need(found, what):
    assert found, f"{what} is missing"
    return found


@contextmanager
def be_user(folder):
    """Any user, whose server is a process of this one's. Yields name, home and settings."""
    yield "alice", folder, {"Spawner.cmd": [sys.executable, write_server(folder, SERVER)]}


@contextmanager
def be_system_user(folder):
    """A user of the system, with all that the Spawners for them need."""
    with make_users(need) as (name, _, (python, script)), install_commands() as commands:
        Path(script).chmod(0o755)
        units = commands / "units"
        units.mkdir()
        server = write_server(commands, script)
        (commands / "sudospawner-singleuser").write_text(f"#!/bin/sh\nexec {python} {server}\n")
        (commands / "sudospawner-singleuser").chmod(0o755)
        with mount_python(need) as own, patch.dict(os.environ, SYSTEMD_UNITS=str(units)):
            write = partial(write_command, commands, name, own)
            singleuser = write("batchspawner-singleuser", "batchspawner.singleuser")
            mediator = write("sudospawner", "sudospawner.mediator")
            settings, _ = make_batch_settings(commands, singleuser)
            settings |= {"SudoSpawner.sudospawner_path": mediator, "Spawner.cmd": [server]}
            settings["SystemdSpawner.cmd"] = [python, server]
            yield name, pwd.getpwnam(name).pw_dir, settings


@contextmanager
def be_in_swarm(folder):
    """A user whose server is a task of a Swarm of this benchmark's own."""
    swarm = Swarm()
    try:
        settings = swarm.settings(pull_policy="skip")
        del settings["DockerSpawner.extra_create_kwargs"]
        volumes = settings["DockerSpawner.volumes"]
        volumes[str(folder)] = {"bind": str(folder), "mode": "ro"}
        settings["Spawner.cmd"] = [sys.executable, write_server(folder, SERVER)]
        settings["JupyterHub.hub_ip"] = swarm.machine
        with patch.dict(os.environ, DOCKER_HOST=swarm.url):
            yield "alice", "/home/jovyan", settings
    finally:
        swarm.clean()


@dataclass(frozen=True)
class Way:
    spawner_class: type
    be: object
    pull: bool = True
    settings: dict = field(default_factory=dict)


def load_manuals():
    """The class that the manual's page has for wrapspawner."""
    [code] = (each.values[0] for each in blocks("python") if "class TokenWrap" in each.values[0])
    with tempfile.TemporaryDirectory() as folder:
        found = load(code, Path(folder)).JupyterHub.spawner_class
    found.__module__ = __name__
    return found


TokenWrapSpawner = load_manuals()

WAYS = {
    "batchspawner, files": Way(BatchFiles, be_system_user, pull=False),
    "batchspawner, pull": Way(BatchPull, be_system_user),
    "sudospawner, files": Way(SudoFiles, be_system_user, pull=False),
    "sudospawner, pull": Way(SudoPull, be_system_user),
    "systemdspawner, files": Way(SystemdFiles, be_system_user, pull=False),
    "systemdspawner, pull": Way(SystemdPull, be_system_user),
    "wrapspawner, files": Way(
        TokenWrapSpawner,
        be_user,
        pull=False,
        settings={"WrapSpawner.child_class": TokenSimpleLocalProcessSpawner},
    ),
    "wrapspawner, pull": Way(
        WrapSpawner, be_user, settings={"WrapSpawner.child_class": VariablesOnly}
    ),
    "wrapspawner, both": Way(
        WrapSpawner,
        be_user,
        settings={"WrapSpawner.child_class": TokenSimpleLocalProcessSpawner},
    ),
    "Swarm, both": Way(SwarmBoth, be_in_swarm),
}
