"""A token that a container has or asked for is nowhere else: what the engine shows and writes."""

import json
import os
import sys
import time

from ..support.leaks import ACCESS, AUTH_STATE, REFRESH, places, search
from ..support.pulling import ASK, PULL
from ..support.spawners import BothModes

NEWER = {**AUTH_STATE, "access_token": f"{ACCESS}-newer"}


def look_at(engine, *names):
    """Everything that the engine has of these containers, by place."""
    client, found = engine.client, {}
    for name in names:
        inspected = [client.inspect_container(name), client.diff(name)]
        image = client.commit(name, repository=f"{engine.prefix}-committed")["Id"]
        found |= {
            f"container of {name}": json.dumps(inspected).encode(),
            f"logs of {name}": client.logs(name),
            f"image of {name}": json.dumps(
                [client.inspect_image(image), client.history(image)]
            ).encode(),
            f"tar of {name}": b"".join(client.get_image(image)),
            f"export of {name}": b"".join(client.export(name)),
        }
        client.remove_image(image, force=True)
    now = int(time.time()) + 1
    return {
        **found,
        "containers": json.dumps(client.containers(all=True)).encode(),
        "volumes": json.dumps(client.volumes()).encode(),
        "events": json.dumps(list(client.events(since=now - 600, until=now, decode=True))).encode(),
        "engine's log": engine.log.read_bytes(),
        **read_disk(engine.data),
    }


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


async def test_a_token_in_a_containers_files_is_found_nowhere_else(
    start_engine, start_hub, debug_log
):
    engine = start_engine("--debug")
    templated = {"template": "oauth2:{token}:example.org"}
    settings = {
        **{"TokenSpawnerMixin.tokens": {"t": {}, "templated": templated}, **PULL},
        **{"JupyterHub.log_level": 10, "JupyterHub.hub_connect_ip": engine.machine},
        "Spawner.debug": True,
        **engine.settings(),
    }
    hub = await start_hub(engine.spawner_class(BothModes), settings)
    hub.http.listen(hub.app.hub.port, engine.machine)
    user = await hub.user("alice", AUTH_STATE)
    servers = [await hub.spawn(user, name) for name in ("", "volume")]
    await user.save_auth_state(NEWER)
    for server in servers:
        await server.until(NEWER["access_token"].encode())
        done = await server.run(sys.executable, "-c", ASK, "t")
        assert NEWER["access_token"] in done.out, done.error
    names = [spawner.object_name for spawner in user.spawners.values()]
    found = {**look_at(engine, *names), **await places(hub, user, debug_log)}
    assert {"engine's log", "log", "state"} <= found.keys() and len(found) > 20
    assert "level=debug" in found["engine's log"].decode() and "DEBUG" in debug_log.text
    assert search(found) == []
    for name in ("", "volume"):
        await user.stop(name)
    assert search({**look_at(engine, *names), **await places(hub, user, debug_log)}) == []

    # The search can find: a variable is in most of these places, a copy in the container's layer.
    engine.client.remove_container(names[0], v=True)
    hub.spawner(user).tokens = {"t": {"env": "T"}}
    server = await hub.spawn(user)
    assert (await server.run("sh", "-c", "cp $T_TOKEN_FILE ~/copy; echo $T; sync ~/copy")).code == 0
    found = look_at(engine, names[0])
    planted = {f"{place} of {names[0]}" for place in ("container", "image", "tar", "export")}
    assert planted <= set(search(found))
    assert any(place.startswith(str(engine.data)) for place in search(found))
    assert REFRESH.encode() not in b"".join(found.values())
