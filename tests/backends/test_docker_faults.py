"""Containers when something is in the way: the engine, the Hub, the user, the image."""

import shutil
from pathlib import Path

import pytest
from pytest import param

from spawner_tokens import TokenDockerSpawner
from spawner_tokens.backend import find_hub_name

from ..support.killed import run_killed
from ..support.ports import random_port
from ..support.spawners import BehindAProxy, BothModes
from ..support.waiting import until
from .test_docker import AUTH_STATE, DIRECTORY, DOCKER, ROOT, TOKENS, both_modes, left_on_host


@both_modes
async def test_a_container_that_the_engine_starts_again_has_its_files_after_the_next_look(
    start_container, engine, mode
):
    specs = {"t": {"git": "https://git.example.org", "git_identity": {"name": "n", "email": "e"}}}
    auth_state = {**AUTH_STATE, "n": "Alice", "e": "a@example.org"}
    _, user, server = await start_container(mode, auth_state=auth_state, specs=specs)
    [container] = engine.containers()
    show = ["sh", "-c", f"cat {DIRECTORY}/t; git config user.name"]

    async def is_whole():
        await user.spawners[""].poll()
        return engine.run(container, *show).out == "the-tokenAlice\n"

    assert (await server.run("git", "config", "user.email")).out == "a@example.org\n"
    assert await is_whole()
    engine.client.restart(container, timeout=1)
    assert engine.run(container, "ls", DIRECTORY).out == ("t\nt.json\n" if mode == "bind" else "")
    await until(is_whole)


async def test_an_engine_that_is_killed_and_started_again_is_waited_for(
    start_engine, start_hub, caplog
):
    engine = start_engine("--live-restore")
    hub = await start_hub(engine.spawner_class(BothModes), {**TOKENS, **engine.settings()})
    user = await hub.user("alice", AUTH_STATE)
    bound, volume = [await hub.spawn(user, name) for name in ("", "volume")]
    engine.kill()
    await user.save_auth_state({"access_token": "new"})
    await bound.until(b"new")  # nobody needs the engine for it
    await until(lambda: "Cannot deliver to a server of alice yet" in caplog.text)
    await user.save_auth_state({"access_token": "newer"})
    engine.start()
    for name, server in (("", bound), ("volume", volume)):
        await server.until(b"newer")
        await user.stop(name)
    assert left_on_host(hub) == []


async def test_a_sweep_that_failed_is_done_later_and_a_server_that_died_starts_again(
    start_engine, start_hub, caplog
):
    engine = start_engine()
    # the old container listens where it did
    settings = {**TOKENS, **engine.settings(tokens_volume_mode="bind", port=random_port())}
    hub = await start_hub(engine.spawner_class(TokenDockerSpawner), settings)
    folder = ROOT / find_hub_name(hub.app.db) / f"{engine.prefix}-left"
    folder.mkdir(parents=True)
    engine.kill()
    user = await hub.user("alice", AUTH_STATE)
    hub.spawner(user)
    await until(lambda: "Could not remove the token files that servers left" in caplog.text)
    assert folder.exists()
    engine.start()
    await hub.spawn(user)
    await hub.swept()
    assert not folder.exists()
    engine.kill()  # and the server with it
    with pytest.raises(OSError):
        await user.spawners[""].poll()
    engine.start()
    assert await user.spawners[""].poll() is not None
    await user.stop("")
    await user.save_auth_state({"access_token": "new"})
    assert await (await hub.spawn(user)).token() == b"new"


async def test_the_directory_of_a_container_that_does_not_run_yet_stays(engine, start_hub):
    hub = await start_hub(DOCKER, {**TOKENS, **engine.settings(tokens_volume_mode="bind")})
    spawner = hub.spawner(await hub.user("alice"))
    await spawner.keep_location()
    folders = [
        ROOT / find_hub_name(hub.app.db) / f"{engine.prefix}-{name}" for name in ("alice", "left")
    ]
    for folder in folders:
        folder.mkdir(parents=True)
    async with hub.sweeping():
        await until(lambda: not folders[1].exists())
    assert folders[0].exists()
    await spawner.withdraw_locations()
    assert left_on_host(hub) == []


@both_modes
async def test_a_container_that_is_removed_behind_the_hubs_back_leaves_nothing(
    start_container, engine, mode
):
    hub, user, _ = await start_container(mode)
    [container] = engine.containers()
    engine.client.remove_container(container, force=True)
    assert await user.spawners[""].poll() == 0
    await user.stop("")  # what the Hub's poll callback does
    assert left_on_host(hub) == [] and engine.volumes() == []


NO_DEVICE = {"devices": ["/dev/nonexistent"]}
NEVER_ANSWERS = {"cmd": ["sleep", "600"], "args": [], "http_timeout": 1}


@pytest.mark.parametrize(
    "mode, traits",
    [
        param("bind", {"image": "localhost:1/nope:1"}, id="no-image"),
        param("volume", {"extra_host_config": NO_DEVICE}, id="no-device"),
        param("bind", NEVER_ANSWERS, id="never-answers"),
    ],
)
async def test_a_spawn_that_fails_leaves_nothing(engine, start_hub, mode, traits):
    settings = engine.settings(tokens_volume_mode=mode, remove=True, **traits)
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(Exception, match="No such image|/dev/nonexistent|didn't respond"):
        await hub.spawn(user)
    assert left_on_host(hub) == []
    engine.remove_containers()  # one that was created and never started
    await until(lambda: engine.volumes() == [])


@pytest.mark.xdist_group("crashes")
@pytest.mark.parametrize(
    "mode, killed",
    [
        ("bind", "KilledWhenCreated"),
        ("bind", "KilledWhenStarted"),
        ("volume", "KilledWhenStarted"),
    ],
)
async def test_a_hub_killed_in_the_middle_of_a_spawn_leaves_nothing_past_its_next_start(
    engine, start_hub, tmp_path, memory, mode, killed
):
    settings = engine.settings(tokens_volume_mode=mode)
    await run_killed(tmp_path, memory, f"tests.support.spawners.{killed}", settings)
    [container] = engine.containers()
    [token] = ROOT.glob(f"*/{container}/t") if mode == "bind" else [Path("/nonexistent")]
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    await hub.swept()
    # That of a container that runs stays until the server's next start.
    assert token.exists() == (mode == "bind" and killed == "KilledWhenStarted")
    user = await hub.user("alice", {"access_token": "new"})
    server = await hub.spawn(user)
    assert await server.token() == b"new"
    await user.stop("")
    engine.remove_containers(volumes=False)
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    await hub.swept()
    assert left_on_host(hub) == [] and engine.volumes() == []


async def test_what_a_killed_hub_left_in_a_servers_directory_goes_at_its_next_start(
    engine, start_hub
):
    hub = await start_hub(DOCKER, {**TOKENS, **engine.settings(tokens_volume_mode="bind")})
    user = await hub.user("alice", AUTH_STATE)
    folder = ROOT / find_hub_name(hub.app.db) / f"{engine.prefix}-alice"
    await hub.swept()
    folder.mkdir(parents=True)
    (folder / "withheld-since").write_text("old")
    assert (await (await hub.spawn(user)).files()).keys() == {"t", "t.json"}


async def test_what_a_user_does_in_the_volume_is_felt_there_alone(start_container, engine):
    _, user, server = await start_container("volume", engine.image("ENV PATH=/tmp:/usr/bin:/bin"))
    spawner = user.spawners[""]

    async def attack(command):
        command = f"echo untouched >/tmp/victim; cd {DIRECTORY} && {command}"
        assert (await server.run("sh", "-c", command)).code == 0

    # A link in place of the token; a program of its own.
    for new in (b"new", b"newer"):
        await attack("ln -sf /tmp/victim t; cp /bin/true /tmp/base64")
        await spawner.deliver_files({"t": new})
        assert (await server.run("cat", "/tmp/victim")).out == "untouched\n"
        assert await server.token() == new
    await attack("rm -f t; mkdir -p t/deep")
    await spawner.deliver_files({"t": b"last"})
    assert await server.token() == b"last"


async def test_a_container_that_does_not_read_holds_nobody_up(engine, start_hub, tmp_path):
    program = tmp_path / "base64"
    program.write_text('#!/bin/sh\n[ -e /tmp/hang ] && exec sleep 600\nexec /opt/base64 "$@"\n')
    program.chmod(0o755)
    settings = engine.settings(tokens_volume_mode="volume", remove=True)
    settings["DockerSpawner.volumes"] |= {
        str(program): {"bind": "/usr/bin/base64", "mode": "ro"},
        "/usr/bin/base64": {"bind": "/opt/base64", "mode": "ro"},
    }
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    users = [await hub.user(f"user{number}", AUTH_STATE) for number in range(3)]
    servers = [await hub.spawn(user) for user in users]
    for server in servers[:2]:
        await server.run("touch", "/tmp/hang")
    for user in users:
        await user.save_auth_state({"access_token": "new"})
    await servers[2].until(b"new", seconds=15)  # each of the others takes 10
    assert [await server.token() for server in servers[:2]] == [b"the-token"] * 2


@pytest.mark.parametrize("mode, kind", [("auto", "volume"), ("bind", "bind"), ("volume", "volume")])
async def test_an_engine_that_refuses_what_only_finds_out_is_no_reason_to_fail(
    engine, start_hub, mode, kind
):
    settings = engine.settings(tokens_volume_mode=mode, pull_policy="skip")
    hub = await start_hub(BehindAProxy, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    assert await (await hub.spawn(user)).token() == b"the-token"
    [container] = engine.containers()
    mounts = engine.client.inspect_container(container)["Mounts"]
    assert [mount["Type"] for mount in mounts if mount["Destination"] == DIRECTORY] == [kind]


@both_modes
async def test_a_mount_of_the_admins_in_the_place_of_ours_stays(
    start_container, engine, tmp_path, mode, caplog
):
    (tmp_path / "own").mkdir()
    mount = {"type": "bind", "source": str(tmp_path / "own"), "target": f"{DIRECTORY}/"}
    hub, _, server = await start_container(mode, mounts=[mount])
    assert await server.files() == {} and left_on_host(hub) == []
    assert f"another mount is at {DIRECTORY}" in caplog.text


async def test_a_container_that_starts_again_has_its_files_though_nothing_is_renewed(
    engine, start_hub
):
    settings = {**TOKENS, **engine.settings(tokens_volume_mode="volume")}
    hub = await start_hub(DOCKER, {**settings, "TokenSpawnerMixin.tokens_renew": False})
    user = await hub.user("alice", AUTH_STATE)
    await hub.spawn(user)
    [container] = engine.containers()
    await user.spawners[""].poll()
    engine.client.restart(container, timeout=1)
    assert engine.run(container, "ls", DIRECTORY).out == ""

    async def is_whole():
        await user.spawners[""].poll()
        return engine.run(container, "cat", f"{DIRECTORY}/t").out == "the-token"

    await until(is_whole)
    await user.stop("")


async def test_a_volume_that_is_full_is_said_to_be_so(start_container, caplog):
    _, user, server = await start_container("volume")
    full = await server.run("sh", "-c", f"cat /dev/zero >{DIRECTORY}/x")
    assert full.code != 0
    await user.save_auth_state({"access_token": "new"})
    await until(lambda: "(exit code 1: No space left on device)" in caplog.text)
    assert await server.token() == b"the-token"
    await server.run("rm", f"{DIRECTORY}/x")
    await server.until(b"new")


async def test_another_volume_in_the_place_of_ours_gets_no_token(engine, start_hub, caplog):
    settings = engine.settings(engine.image(f"VOLUME {DIRECTORY}"), tokens_volume_mode="volume")
    hub = await start_hub("dockerspawner.DockerSpawner", settings)
    user = await hub.user("alice", AUTH_STATE)
    await hub.spawn(user)  # its container has the image's volume, on disk
    await user.stop("")
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    await hub.spawn(await hub.user("alice"))
    [container] = engine.containers()
    assert engine.run(container, "ls", DIRECTORY).out == ""
    assert "another mount is at" in caplog.text


async def test_a_host_path_that_the_engine_does_not_see_is_named(start_container, caplog):
    _, user, server = await start_container("bind", tokens_host_path="/nonexistent/tokens")
    assert await server.files() == {}
    assert "does not see the Hub's /run/spawner-tokens at /nonexistent/tokens" in caplog.text
    assert (
        "its container has no mount for them" in caplog.text and not Path("/nonexistent").exists()
    )


async def test_a_container_without_a_place_for_tokens_is_named_with_the_fix(
    engine, start_hub, caplog
):
    hub = await start_hub("dockerspawner.DockerSpawner", engine.settings())
    user = await hub.user("alice", AUTH_STATE)
    await hub.spawn(user)
    await user.stop("")
    hub = await start_hub(DOCKER, {**TOKENS, **engine.settings()})
    user = await hub.user("alice")
    await hub.spawn(user)
    [container] = engine.containers()
    assert f"remove the container {container}, and the next start has one" in caplog.text
    await user.stop("")
    hub.spawner(user).tokens_missing = "refuse"
    with pytest.raises(Exception, match="could not be handed over"):
        await hub.spawn(user)
    engine.client.remove_container(container)
    assert await (await hub.spawn(user)).token() == b"the-token"


async def test_an_image_without_base64_is_treated_by_the_policy(
    engine, start_hub, tmp_path, caplog
):
    (tmp_path / "base64").write_text("")
    settings = engine.settings(tokens_volume_mode="volume", remove=True)
    settings["DockerSpawner.volumes"] |= {
        str(tmp_path / "base64"): {"bind": "/usr/bin/base64", "mode": "ro"}
    }
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    assert await (await hub.spawn(user)).files() == {}
    await user.stop("")
    hub.spawner(user).tokens_missing = "refuse"
    with pytest.raises(Exception, match="could not be handed over"):
        await hub.spawn(user)
    await until(lambda: not engine.containers() and not engine.volumes())
    assert (
        "/bin/sh could not write them in the container (exit code 1: Permission denied)"
        in caplog.text
    )


async def test_a_file_counts_as_delivered_only_where_its_container_sees_it(
    start_container, engine, caplog
):
    hub, user, server = await start_container("bind")
    [container] = engine.containers()
    folder = ROOT / find_hub_name(hub.app.db)
    away = folder.rename(folder.with_name(f"{folder.name}-away"))
    try:
        for number, exists in enumerate([False, True]):
            if exists:  # somebody has made it again
                (folder / container).mkdir(parents=True)
            await user.save_auth_state({"access_token": f"new-{number}"})
            await until(lambda seen=number: caplog.text.count("restart the server") > seen)
            assert [file for file in folder.rglob("*") if file.is_file()] == []
            user.spawners[""].stop_polling()
            user.spawners[""].start_polling()  # as a Hub does that starts again
        assert await server.token() == b"the-token"
        engine.client.restart(container, timeout=1)  # it mounts what is there now

        async def has_them():
            await user.spawners[""].poll()
            return engine.run(container, "cat", f"{DIRECTORY}/t").out == "new-1"

        await until(has_them)
        assert sorted(file.name for file in (folder / container).iterdir()) == ["t", "t.json"]
        await user.stop("")
        assert left_on_host(hub) == []
    finally:
        shutil.rmtree(away)
