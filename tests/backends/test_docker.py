"""Token files in containers of a real Docker Engine."""

import operator
import os
import pwd
from functools import partial
from itertools import groupby
from pathlib import Path

import docker
import pytest
from prometheus_client import REGISTRY
from pytest import param
from traitlets import TraitError
from traitlets.config import Config

from spawner_tokens import TokenDockerSpawner
from spawner_tokens.backend import find_hub_name
from spawner_tokens.backends.docker.engine import shares_directory

from ..support.engine import MOUNTS
from ..support.hub import respell
from ..support.spawners import BothModes
from ..support.waiting import until

DOCKER = "spawner_tokens.TokenDockerSpawner"
SYSTEM_USER = "spawner_tokens.TokenSystemUserSpawner"
AUTH_STATE = {"access_token": "the-token"}
SPECS = {"t": {}}
TOKENS = {"TokenSpawnerMixin.tokens": SPECS}
DIRECTORY = "/var/run/secrets/spawner-tokens"
ROOT = Path("/run/spawner-tokens")
RUNNING = {"server": "running", "status": "success"}
both_modes = pytest.mark.parametrize("mode", ["bind", "volume"])
# As docker-stacks' images: they start as root, and become NB_UID.
STACKS = "ENV NB_UID=1000 NB_GID=100 NB_USER=jovyan"
SETPRIV = "exec setpriv --reuid=%s --regid=100 --clear-groups"
ENTRYPOINT = 'ENTRYPOINT ["sh", "-c", "' + SETPRIV + ' \\"$@\\"", "switch"]'
SWITCH = ENTRYPOINT % "$NB_UID"


def left_on_host(hub):
    """What is left of a Hub in the directory that it shares with the engine."""
    return [path.name for path in (ROOT / find_hub_name(hub.app.db)).glob("*")]


@pytest.mark.parametrize("mode, remove", [("bind", True), ("volume", False)])
async def test_a_container_holds_its_users_token_in_memory_and_nothing_stays(
    start_container, engine, mode, remove
):
    hub, user, server = await start_container(mode, remove=remove)
    env = await server.texts()
    assert (env["SPAWNER_TOKENS_DIR"], env["T_TOKEN_FILE"]) == (DIRECTORY, f"{DIRECTORY}/t")
    assert await server.token() == b"the-token"
    assert (await server.run("stat", "-f", "-c", "%T", f"{DIRECTORY}/t")).out == "tmpfs\n"
    assert len(left_on_host(hub)) == (mode == "bind")
    assert len(engine.volumes()) == (mode == "volume")
    await user.stop("")
    assert left_on_host(hub) == []
    if remove:
        await until(lambda: not engine.containers())
    else:
        assert len(engine.volumes()) == 1  # the container's, and empty
        engine.client.remove_container(*engine.containers())
        await hub.spawner(user).withdraw_files()
        assert engine.volumes() == []


@pytest.mark.parametrize(
    "mode, changes, starts_as, spawner_class, traits",
    [
        param("bind", [STACKS, SWITCH], "root", DOCKER, {}, id="root-that-switches"),
        param("volume", [SWITCH], "root", SYSTEM_USER, {"run_as_root": True}, id="a-system-user"),
    ],
)
async def test_the_files_are_the_servers_users_alone(
    engine, start_hub, system_users, mode, changes, starts_as, spawner_class, traits
):
    is_system_user = spawner_class == SYSTEM_USER
    name = system_users[0] if is_system_user else "alice"
    settings = engine.settings(engine.image(*changes, user=starts_as), tokens_volume_mode=mode)
    settings |= {f"SystemUserSpawner.{trait}": value for trait, value in traits.items()}
    settings["SystemUserSpawner.host_homedir_format_string"] = "/var/tmp/{username}"
    hub = await start_hub(spawner_class, {**TOKENS, **settings})
    server = await hub.spawn(await hub.user(name, AUTH_STATE))
    uid = (await server.ask(""))["uid"]
    assert uid == (pwd.getpwnam(name).pw_uid if is_system_user else 1000)
    stat = await server.stat()
    assert {(stat[file]["uid"], stat[file]["mode"]) for file in ("t", "t.json")} == {(uid, "0o600")}
    assert await server.token() == b"the-token"
    [container] = engine.containers()
    assert engine.run(container, "cat", f"{DIRECTORY}/t", user="1999").code == 1


@pytest.mark.parametrize("mode, most", [("bind", (6, 0, 3)), ("volume", (12, 3, 4))])
async def test_the_engine_is_asked_no_more_by_a_spawn_a_renewal_and_a_stop(
    start_container, engine, monkeypatch, mode, most
):
    asked, send, counts = [], docker.APIClient.send, []

    def record(client, request, **options):
        if client is not engine.client:
            asked.append(f"{request.method} {request.path_url}")
        return send(client, request, **options)

    def count():
        counts.append(len(list(groupby(asked))))  # it looks again until a program ends
        asked.clear()

    delivered = partial(REGISTRY.get_sample_value, "jupyterhub_token_deliveries_total", RUNNING)
    hub, user, _ = await start_container(mode, remove=True)  # what the engine can do is asked once
    await hub.swept()
    await user.stop("")
    monkeypatch.setattr(docker.APIClient, "send", record)
    server = await hub.spawn(user)
    count()
    before = delivered() or 0
    await user.save_auth_state({"access_token": "new"})
    await until(lambda: (delivered() or 0) > before)
    assert await server.token() == b"new"
    count()
    await user.stop("")
    count()
    assert all(map(operator.le, counts, most)), counts


@pytest.mark.parametrize("mode, owner, mask", [("bind", 0, "0o644"), ("volume", 1000, "0o600")])
async def test_a_user_whom_only_the_image_knows_can_read_the_files(
    start_container, engine, mode, owner, mask
):
    hub, _, server = await start_container(mode, engine.image(user="jovyan"))
    assert (await server.ask(""))["uid"] == 1000
    assert await server.token() == b"the-token"
    stat = await server.stat()
    assert (stat["t"]["uid"], stat["t"]["mode"]) == (owner, mask)
    if mode == "bind":  # nobody else on the host can get there
        assert os.stat(ROOT / find_hub_name(hub.app.db)).st_mode & 0o777 == 0o700


async def test_the_files_are_the_servers_users_under_userns_remap(start_engine, start_hub):
    engine = start_engine("--userns-remap=default")
    settings = {**TOKENS, **engine.settings(network_name="none"), "Spawner.cmd": ["sleep", "600"]}
    hub = await start_hub(engine.spawner_class(BothModes), settings)
    user = await hub.user("alice", AUTH_STATE)
    for name in ("", "volume"):
        spawner = hub.spawner(user, name)
        spawner.args = []
        await spawner.start()  # nobody can ask a server that has no network
        looked = engine.run(spawner.container_id, "stat", "-c", "%u %a", f"{DIRECTORY}/t")
        assert looked.out == "1000 600\n"
        assert engine.run(spawner.container_id, "cat", f"{DIRECTORY}/t").out == "the-token"
        assert engine.run(spawner.container_id, "cat", f"{DIRECTORY}/t", user="1001").code == 1
        await spawner.stop()


async def test_an_old_container_gets_the_new_tokens_and_the_log_says_what_is_frozen(
    start_container, engine, caplog
):
    specs = {"t": {"env": ["T", "OWN"], "variables": {"NAME": "name"}}}
    old = {"access_token": "old", "name": "alice"}
    hub, user, _ = await start_container(auth_state=old, specs=specs, environment={"OWN": "x"})
    [first] = engine.containers().values()
    await user.stop("")
    assert "runs in its old container" not in caplog.text
    await user.save_auth_state({"access_token": "new", "name": "alice"})
    server = await hub.spawn(user)
    [second] = engine.containers().values()
    assert second["Id"] == first["Id"]
    assert await server.token() == b"new" and (await server.env())["T"] == b"old"
    [words] = [line for line in caplog.messages if "runs in its old container" in line]
    assert words.endswith("have their old values: T")


@pytest.mark.parametrize(
    "mode, traits",
    [
        # the host's /var/run is a link to /run, so the engine sees the same there
        param(
            "bind",
            {
                "tokens_mount_path": "//run/x/../tokens/",
                "tokens_host_path": "/var/run/spawner-tokens",
            },
            id="bind",
        ),
        param("volume", {"tokens_mount_path": "/home/jovyan/my tokens"}, id="volume"),
    ],
)
async def test_paths_may_be_written_in_any_way_and_are_kept_when_a_hub_with_others_goes_on(
    start_container, engine, start_hub, tmp_path, mode, traits
):
    first, *_, server = await start_container(mode, remove=True, **traits)
    before = left_on_host(first)
    assert await server.token() == b"the-token"
    if mode == "bind":
        [container] = engine.containers()
        mounts = engine.client.inspect_container(container)["Mounts"]
        assert any(mount["Source"].startswith(traits["tokens_host_path"]) for mount in mounts)
    others = {"tokens_mount_path": "/other", "tokens_host_path": "/other"}
    settings = engine.settings(tokens_volume_mode=mode, remove=True, **others)
    again = await start_hub(DOCKER, {**TOKENS, **settings, **respell(tmp_path)})
    user = await again.user("alice")
    assert user.spawners[""].ready
    await user.save_auth_state({"access_token": "new"})
    await server.until(b"new")
    assert left_on_host(first) == before and left_on_host(again) == []
    await user.stop("")
    assert left_on_host(first) == []
    await until(lambda: engine.volumes() == [])


async def test_where_root_writes_the_servers_user_cannot(start_container, engine):
    *_, server = await start_container("volume", engine.image(ENTRYPOINT % 1000, user="root"))
    assert (await server.ask(""))["uid"] == 1000 and await server.token() == b"the-token"
    assert (await server.run("ln", "-s", "/etc/passwd", f"{DIRECTORY}/x")).code != 0


async def test_a_hub_that_is_not_root_prefers_a_volume(start_container, engine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1500)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/shm")
    *_, server = await start_container(remove=True)
    stat = await server.stat()
    assert (stat["t"]["uid"], stat["t"]["mode"]) == (1000, "0o600") and len(engine.volumes()) == 1


@both_modes
async def test_dockerspawners_own_options_work_side_by_side(engine, start_hub, tmp_path, mode):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "file").write_text("data")
    network = f"{engine.prefix}-network"
    engine.client.create_network(network)
    traits = engine.settings(
        tokens_volume_mode=mode,
        remove=True,
        network_name=network,
        use_internal_ip=True,
        environment={"OWN": "own"},
        read_only_volumes={str(tmp_path / "data"): "/data-{username}"},
        mounts=[{"type": "bind", "source": str(tmp_path / "data"), "target": "/mounted"}],
        extra_host_config={"tmpfs": {"/scratch": "mode=1777"}, "read_only": True},
        extra_create_kwargs={"hostname": "own"},
        post_start_cmd=f"cp {DIRECTORY}/t /scratch/seen",
        mem_limit="500M",
    )
    hub = await start_hub(DOCKER, {**TOKENS, **traits})
    user = await hub.user("alice", AUTH_STATE)
    try:
        await user.spawn("")
        spawner = user.spawners[""]
        inspected = engine.client.inspect_container(spawner.container_id)
        assert spawner.server.ip == inspected["NetworkSettings"]["Networks"][network]["IPAddress"]
        assert inspected["HostConfig"]["Memory"] == 500 << 20
        assert inspected["Config"]["Hostname"] == "own"
        assert "OWN=own" in inspected["Config"]["Env"]
        for path in ("/data-alice/file", "/mounted/file"):
            assert engine.run(spawner.container_id, "cat", path).out == "data"
        for path in (f"{DIRECTORY}/t", "/scratch/seen"):
            assert engine.run(spawner.container_id, "cat", path).out == "the-token"
        await user.stop("")
    finally:
        await until(lambda: not engine.containers() and not engine.volumes())
        engine.client.remove_network(network)


async def test_without_files_dockerspawner_is_as_it_was_and_who_may_inspect_sees_variables(
    start_container, engine
):
    *_, server = await start_container(specs={"t": {"env": "T", "file": False}})
    [container] = engine.containers()
    inspected = engine.client.inspect_container(container)
    assert {mount["Destination"] for mount in inspected["Mounts"]} == set(MOUNTS)
    assert (await server.env())["T"] == b"the-token"
    assert "T=the-token" in inspected["Config"]["Env"]


async def test_the_engine_says_whether_it_shares_a_directory(engine, start_hub, tmp_path):
    hub = await start_hub(DOCKER, engine.settings())
    spawner = hub.spawner(await hub.user("alice"))
    assert await shares_directory(spawner.docker, str(tmp_path))
    assert not await shares_directory(spawner.docker, str(tmp_path / "nope"))
    assert await spawner._choose_mode() == "bind"
    assert engine.containers() == {} and left_on_host(hub) == []


@pytest.mark.parametrize(
    "trait, value",
    [
        param("tokens_volume_mode", "tmpfs", id="mode"),
        param("tokens_host_path", "relative", id="relative"),
        param("tokens_mount_path", "/a:b", id="colon"),
        param("tokens_mount_path", "/", id="root"),
        param("tokens_mount_path", "", id="empty"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_when_it_is_read(trait, value):
    with pytest.raises(TraitError, match=trait):
        TokenDockerSpawner(config=Config(DockerTokenMixin={trait: value}))
