"""A token of a Swarm's service is nowhere else: what the engine shows and writes is searched."""

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from docker.errors import NotFound

from ..support.leaks import ACCESS, AUTH_STATE, places, search
from .test_swarm import settings

pytestmark = pytest.mark.xdist_group("swarm")


def on_disk(folder):
    """File → contents, of all that is not in memory."""
    for path, directories, files in os.walk(folder):
        directories[:] = [
            name for name in directories if not os.path.ismount(os.path.join(path, name))
        ]
        for file in (Path(path, name) for name in files):
            try:
                if file.is_file() and not file.is_symlink():
                    yield str(file.relative_to(folder)), file.read_bytes()
            except FileNotFoundError:  # since then
                pass


def inspect_containers(client):
    for container in client.containers(all=True):
        with suppress(NotFound):  # removed since then
            yield client.inspect_container(container["Id"])


def engines_places(swarm):
    said = {
        "services": swarm.client.services(),
        "tasks": swarm.client.tasks(),
        "containers": [*inspect_containers(swarm.client)],
        "secrets": swarm.client.secrets(),
    }
    return {
        **{name: json.dumps(what).encode() for name, what in said.items()},
        "engine's log": swarm.log.read_bytes(),
        **dict(on_disk(swarm.data)),
    }


async def test_a_token_is_found_nowhere_else(swarm, swarm_spawner_class, start_hub, debug_log):
    hub = await start_hub(
        swarm_spawner_class, {**settings(swarm), "JupyterHub.log_level": 10, "Spawner.debug": True}
    )
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    assert await server.token() == ACCESS.encode()
    assert "DEBUG" in debug_log.text and b"level=debug" in swarm.log.read_bytes()
    assert search({**engines_places(swarm), **await places(hub, user, debug_log)}) == []
    await user.stop("")
    assert search({**engines_places(swarm), **await places(hub, user, debug_log)}) == []

    # The search can find a token planted in each of these places. A Swarm's own data are encrypted.
    swarm.client.create_secret("planted", b"x", labels={"planted": ACCESS})
    hub.spawner(user).environment = {"PLANTED": ACCESS}
    await hub.spawn(user)
    found = search(engines_places(swarm))
    assert {"services", "tasks", "containers", "secrets", "engine's log"} < set(found)
    assert any(name.startswith("containers/") for name in found)
    assert not any(name.startswith("swarm/raft/") for name in found)
