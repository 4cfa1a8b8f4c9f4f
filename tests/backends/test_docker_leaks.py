"""A token in a container's files is nowhere else: what the engine shows and writes is searched."""

import json
import os
import time

import pytest

from spawner_tokens import TokenDockerSpawner

from ..support.leaks import ACCESS, AUTH_STATE, REFRESH, places, search

NEWER = {**AUTH_STATE, "access_token": f"{ACCESS}-newer"}


def look_at(engine, name):
    """Everything that the engine has of a container, by place."""
    client = engine.client
    inspected = client.inspect_container(name)
    image = client.commit(name, repository=f"{engine.prefix}-committed")["Id"]
    now = int(time.time()) + 1
    found = {
        "container": json.dumps(
            [inspected, client.containers(all=True), client.diff(name)]
        ).encode(),
        "logs": client.logs(name),
        "volumes": json.dumps(client.volumes()).encode(),
        "image": json.dumps([client.inspect_image(image), client.history(image)]).encode(),
        "image as a file": b"".join(client.get_image(image)),
        "export": b"".join(client.export(name)),
        "events": json.dumps(list(client.events(since=now - 600, until=now, decode=True))).encode(),
        "engine's log": engine.log.read_bytes(),
        **read_disk(engine.data),
    }
    client.remove_image(image, force=True)
    return found


def read_disk(folder):
    """Path → contents of what a folder has on its disk, without what is mounted there."""
    disk, found = os.lstat(folder).st_dev, {}
    for above, folders, files in os.walk(folder):
        folders[:] = [
            name for name in folders if os.lstat(os.path.join(above, name)).st_dev == disk
        ]
        for path in (os.path.join(above, name) for name in files):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    found[path] = file.read()
    return found


@pytest.mark.parametrize("mode", ["bind", "volume"])
async def test_a_token_in_a_containers_files_is_found_nowhere_else(
    start_engine, start_hub, debug_log, mode
):
    engine = start_engine("--debug")
    settings = {
        "TokenSpawnerMixin.tokens": {
            "t": {},
            "templated": {"template": "oauth2:{token}:example.org"},
        },
        "JupyterHub.log_level": 10,
        "Spawner.debug": True,
        **engine.settings(tokens_volume_mode=mode),
    }
    hub = await start_hub(engine.spawner_class(TokenDockerSpawner), settings)
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    await user.save_auth_state(NEWER)
    await server.until(NEWER["access_token"].encode())
    name = user.spawners[""].object_name
    found = {**look_at(engine, name), **await places(hub, user, debug_log)}
    assert {"engine's log", "log", "state"} <= found.keys() and len(found) > 20
    assert "level=debug" in found["engine's log"].decode() and "DEBUG" in debug_log.text
    assert search(found) == []
    await user.stop("")
    assert search({**look_at(engine, name), **await places(hub, user, debug_log)}) == []

    # The search can find: a variable is in most of these places, a copy in the container's layer.
    engine.client.remove_container(name, v=True)
    hub.spawner(user).tokens = {"t": {"env": "T"}}
    server = await hub.spawn(user)
    assert (await server.run("sh", "-c", "cp $T_TOKEN_FILE ~/copy; echo $T; sync ~/copy")).code == 0
    found = look_at(engine, name)
    assert {"container", "image", "image as a file", "export"} <= set(search(found))
    assert any(place.startswith(str(engine.data)) for place in search(found))
    assert REFRESH.encode() not in b"".join(found.values())
