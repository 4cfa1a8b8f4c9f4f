"""Token files in containers of a real Docker Engine."""

import asyncio
import json
import logging
import os
import secrets
from pathlib import Path

import pytest
from jupyterhub.utils import AnyTimeoutError
from pytest import param

from spawner_tokens import TokenDockerSpawner, TokenSystemUserSpawner
from spawner_tokens.docker import _engines

from .engine import on_hosts_network
from .waiting import until

DOCKER = "spawner_tokens.TokenDockerSpawner"
SYSTEM_USER = "spawner_tokens.TokenSystemUserSpawner"
AUTH_STATE = {"access_token": "the-token"}
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {}}}
DIRECTORY = "/var/run/secrets/spawner-tokens"
ROOT = Path("/run/spawner-tokens")

both_modes = pytest.mark.parametrize("mode", ["bind", "volume"])

# As docker-stacks' images: they start as root, and become NB_UID.
SWITCHES = [
    "ENV NB_UID=1000 NB_GID=100 NB_USER=jovyan",
    'ENTRYPOINT ["sh", "-c", "exec setpriv --reuid=$NB_UID --regid=100 --clear-groups \\"$@\\"", "switch"]',
]


def left_on_host(hub):
    """What is left of a Hub in the directory that it shares with the engine."""
    names = {spawner.token_hub_name for user in hub.app.users.values() for spawner in user.spawners.values()}
    return [path.name for name in names for path in (ROOT / name).glob("*")]


@both_modes
@pytest.mark.parametrize("remove", [False, True])
async def test_a_container_holds_its_users_token_in_memory_and_nothing_stays(engine, start_hub, mode, remove):
    hub = await start_hub(DOCKER, {**TOKENS, **engine.settings(token_volume_mode=mode, remove=remove)})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    env = await server.env()
    assert (env["SPAWNER_TOKENS_DIR"], env["T_TOKEN_FILE"]) == (DIRECTORY.encode(), f"{DIRECTORY}/t".encode())
    assert (await server.files())["t"] == b"the-token"
    assert (await server.run("stat", "-f", "-c", "%T", f"{DIRECTORY}/t")).out == "tmpfs\n"
    assert len(left_on_host(hub)) == (mode == "bind") and len(engine.volumes()) == (mode == "volume")
    await user.stop("")
    assert left_on_host(hub) == []
    if remove:
        await until(lambda: not engine.containers() and not engine.volumes())
    else:
        assert len(engine.volumes()) == (mode == "volume")  # the container's, and empty
        engine.client.remove_container(*engine.containers())
        await hub.spawner(user).withdraw_files()
        assert engine.volumes() == []
