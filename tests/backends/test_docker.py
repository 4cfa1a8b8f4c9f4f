"""Token files in containers of a real Docker Engine."""

import os
import pwd
from pathlib import Path

import pytest
from pytest import param
from traitlets import TraitError
from traitlets.config import Config

from spawner_tokens import TokenDockerSpawner
from spawner_tokens.backend import find_hub_name
from spawner_tokens.backends.docker.engine import shares_directory

from ..support.engine import MOUNTS
from ..support.killed import run_killed
from ..support.waiting import until

DOCKER = "spawner_tokens.TokenDockerSpawner"
SYSTEM_USER = "spawner_tokens.TokenSystemUserSpawner"
AUTH_STATE = {"access_token": "the-token"}
SPECS = {"t": {}}
TOKENS = {"TokenSpawnerMixin.tokens": SPECS}
DIRECTORY = "/var/run/secrets/spawner-tokens"
ROOT = Path("/run/spawner-tokens")


@pytest.fixture
def start(engine, start_hub):
    """Start a Hub and alice's server: ``hub, user, server = await start("bind", remove=True)``."""

    async def start(mode="auto", image=None, auth_state=AUTH_STATE, specs=SPECS, **traits):
        settings = engine.settings(image, tokens_volume_mode=mode, **traits)
        hub = await start_hub(DOCKER, {"TokenSpawnerMixin.tokens": specs, **settings})
        user = await hub.user("alice", auth_state)
        return hub, user, await hub.spawn(user)

    return start


both_modes = pytest.mark.parametrize("mode", ["bind", "volume"])

# As docker-stacks' images: they start as root, and become NB_UID.
STACKS = "ENV NB_UID=1000 NB_GID=100 NB_USER=jovyan"
SETPRIV = "exec setpriv --reuid=%s --regid=100 --clear-groups"
ENTRYPOINT = 'ENTRYPOINT ["sh", "-c", "' + SETPRIV + ' \\"$@\\"", "switch"]'
SWITCH = ENTRYPOINT % "$NB_UID"


def left_on_host(hub):
    """What is left of a Hub in the directory that it shares with the engine."""
    return [path.name for path in (ROOT / find_hub_name(hub.app.db)).glob("*")]


@both_modes
@pytest.mark.parametrize("remove", [False, True])
async def test_a_container_holds_its_users_token_in_memory_and_nothing_stays(
    start, engine, mode, remove
):
    hub, user, server = await start(mode, remove=remove)
    env = await server.texts()
    assert (env["SPAWNER_TOKENS_DIR"], env["T_TOKEN_FILE"]) == (DIRECTORY, f"{DIRECTORY}/t")
    assert await server.token() == b"the-token"
    assert (await server.run("stat", "-f", "-c", "%T", f"{DIRECTORY}/t")).out == "tmpfs\n"
    assert len(left_on_host(hub)) == (mode == "bind")
    assert len(engine.volumes()) == (mode == "volume")
    await user.stop("")
    assert left_on_host(hub) == []
    if remove:
        await until(lambda: not engine.containers() and not engine.volumes())
    else:
        assert len(engine.volumes()) == (mode == "volume")  # the container's, and empty
        engine.client.remove_container(*engine.containers())
        await hub.spawner(user).withdraw_files()
        assert engine.volumes() == []


@pytest.mark.parametrize(
    "mode, changes, starts_as, spawner_class, traits",
    [
        param("bind", [STACKS, SWITCH], "root", DOCKER, {}, id="root-that-switches-bind"),
        param("volume", [STACKS, SWITCH], "root", DOCKER, {}, id="root-that-switches-volume"),
        param("bind", [], "1000:100", SYSTEM_USER, {}, id="a-system-user"),
        param("volume", [SWITCH], "root", SYSTEM_USER, {"run_as_root": True}, id="by-root"),
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


@pytest.mark.parametrize("mode, owner, mask", [("bind", 0, "0o644"), ("volume", 1000, "0o600")])
async def test_a_user_whom_only_the_image_knows_can_read_the_files(
    start, engine, mode, owner, mask
):
    hub, _, server = await start(mode, engine.image(user="jovyan"))
    assert (await server.ask(""))["uid"] == 1000
    assert await server.token() == b"the-token"
    stat = await server.stat()
    assert (stat["t"]["uid"], stat["t"]["mode"]) == (owner, mask)
    if mode == "bind":  # nobody else on the host can get there
        assert os.stat(ROOT / find_hub_name(hub.app.db)).st_mode & 0o777 == 0o700


@both_modes
async def test_the_files_are_the_servers_users_under_userns_remap(start_engine, start_hub, mode):
    engine = start_engine("--userns-remap=default")
    settings = engine.settings(tokens_volume_mode=mode, network_name="none")
    settings["Spawner.cmd"] = ["sleep", "600"]
    hub = await start_hub(engine.spawner_class(TokenDockerSpawner), {**TOKENS, **settings})
    spawner = hub.spawner(await hub.user("alice", AUTH_STATE))
    spawner.args = []
    await spawner.start()  # nobody can ask a server that has no network
    looked = engine.run(spawner.container_id, "stat", "-c", "%u %a", f"{DIRECTORY}/t")
    assert looked.out == "1000 600\n"
    assert engine.run(spawner.container_id, "cat", f"{DIRECTORY}/t").out == "the-token"
    assert engine.run(spawner.container_id, "cat", f"{DIRECTORY}/t", user="1001").code == 1
    await spawner.stop()


@both_modes
async def test_an_old_container_gets_the_new_tokens_and_the_log_says_what_is_frozen(
    start, engine, mode, caplog
):
    specs = {"t": {"env": ["T", "OWN"], "variables": {"NAME": "name"}}}
    old = {"access_token": "old", "name": "alice"}
    hub, user, _ = await start(mode, auth_state=old, specs=specs, environment={"OWN": "x"})
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


@both_modes
async def test_a_container_that_the_engine_starts_again_has_its_files_after_the_next_look(
    start, engine, mode
):
    specs = {"t": {"git": "https://git.example.org", "git_identity": {"name": "n", "email": "e"}}}
    auth_state = {**AUTH_STATE, "n": "Alice", "e": "a@example.org"}
    _, user, server = await start(mode, auth_state=auth_state, specs=specs)
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


@both_modes
async def test_a_paused_container_has_the_new_token_when_it_goes_on(start, engine, mode, caplog):
    hub, user, server = await start(mode)
    [container] = engine.containers()
    engine.client.pause(container)
    await user.save_auth_state({"access_token": "new"})
    if mode == "volume":
        await until(lambda: "Cannot deliver to a server of alice yet" in caplog.text)
    else:
        path = ROOT / find_hub_name(hub.app.db) / container / "t"
        await until(lambda: path.read_text() == "new")
    engine.client.unpause(container)
    await server.until(b"new")


@both_modes
async def test_an_engine_that_is_killed_and_started_again_is_waited_for(
    start_engine, start_hub, mode, caplog
):
    engine = start_engine("--live-restore")
    settings = {**TOKENS, **engine.settings(tokens_volume_mode=mode)}
    hub = await start_hub(engine.spawner_class(TokenDockerSpawner), settings)
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    assert await server.token() == b"the-token"
    engine.kill()
    await user.save_auth_state({"access_token": "new"})
    if mode == "bind":  # nobody needs the engine for it
        await server.until(b"new")
    else:
        await until(lambda: "Cannot deliver to a server of alice yet" in caplog.text)
    await user.save_auth_state({"access_token": "newer"})
    engine.start()
    await server.until(b"newer")
    await user.stop("")
    assert left_on_host(hub) == []


async def test_a_server_that_died_with_its_engine_starts_again_with_the_new_token(
    start_engine, start_hub
):
    engine = start_engine()
    hub = await start_hub(engine.spawner_class(TokenDockerSpawner), {**TOKENS, **engine.settings()})
    user = await hub.user("alice", AUTH_STATE)
    await hub.spawn(user)
    engine.kill()
    with pytest.raises(OSError):
        await user.spawners[""].poll()
    engine.start()
    assert await user.spawners[""].poll() is not None
    await user.stop("")
    await user.save_auth_state({"access_token": "new"})
    assert await (await hub.spawn(user)).token() == b"new"


@both_modes
async def test_a_container_that_is_removed_behind_the_hubs_back_leaves_nothing(start, engine, mode):
    hub, user, _ = await start(mode)
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
        param("bind", {"post_start_cmd": "/nonexistent"}, id="post-start"),
        param("volume", NEVER_ANSWERS, id="never-answers"),
        param("bind", {"cmd": ["true"], "http_timeout": 1}, id="ends-at-once"),
    ],
)
async def test_a_spawn_that_fails_leaves_nothing(engine, start_hub, mode, traits):
    settings = engine.settings(tokens_volume_mode=mode, remove=True, **traits)
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    try:
        await hub.spawn(user)
    except Exception:
        assert "post_start_cmd" not in traits
    else:
        assert "post_start_cmd" in traits  # DockerSpawner only logs that
        await user.stop("")
    assert left_on_host(hub) == []
    engine.remove_containers()  # one that was created and never started
    await until(lambda: engine.volumes() == [])


@both_modes
@pytest.mark.parametrize("killed", ["KilledWhenCreated", "KilledWhenStarted"])
async def test_a_hub_killed_in_the_middle_of_a_spawn_leaves_nothing_past_its_next_start(
    engine, start_hub, tmp_path, memory, mode, killed
):
    settings = engine.settings(tokens_volume_mode=mode)
    await run_killed(tmp_path, memory, f"tests.support.spawners.{killed}", settings)
    [container] = engine.containers()
    [token] = ROOT.glob(f"*/{container}/t") if mode == "bind" else [Path("/nonexistent")]
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    await hub.spawner(await hub.user("bob")).wait_for_sweep()
    # That of a container that runs stays until the server's next start.
    assert token.exists() == (mode == "bind" and killed == "KilledWhenStarted")
    user = await hub.user("alice", {"access_token": "new"})
    server = await hub.spawn(user)
    assert await server.token() == b"new"
    await user.stop("")
    engine.remove_containers(volumes=False)
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    await hub.spawner(await hub.user("bob")).wait_for_sweep()
    assert left_on_host(hub) == [] and engine.volumes() == []


@pytest.mark.parametrize(
    "mode, path", [("bind", "//run/x/../tokens/"), ("volume", "/home/jovyan/my tokens")]
)
async def test_a_mount_path_may_be_written_in_any_way(start, mode, path):
    *_, server = await start(mode, tokens_mount_path=path)
    assert await server.token() == b"the-token"


@both_modes
async def test_a_hub_that_starts_again_goes_on_with_a_running_container(
    start, engine, start_hub, mode
):
    *_, server = await start(mode)
    again = await start_hub(DOCKER, {**TOKENS, **engine.settings(tokens_volume_mode=mode)})
    user = await again.user("alice")
    assert user.spawners[""].ready
    await user.save_auth_state({"access_token": "new"})
    await server.until(b"new")


async def test_what_a_killed_hub_left_in_a_servers_directory_goes_at_its_next_start(
    engine, start_hub
):
    hub = await start_hub(DOCKER, {**TOKENS, **engine.settings(tokens_volume_mode="bind")})
    user = await hub.user("alice", AUTH_STATE)
    folder = ROOT / find_hub_name(hub.app.db) / f"{engine.prefix}-alice"
    await hub.spawner(user).wait_for_sweep()
    folder.mkdir(parents=True)
    (folder / "withheld-since").write_text("old")
    assert (await (await hub.spawn(user)).files()).keys() == {"t", "t.json"}


async def test_a_sweep_that_failed_is_done_at_the_next_spawn(start_engine, start_hub, caplog):
    engine = start_engine()
    settings = {**TOKENS, **engine.settings(tokens_volume_mode="bind")}
    hub = await start_hub(engine.spawner_class(TokenDockerSpawner), settings)
    folder = ROOT / find_hub_name(hub.app.db) / f"{engine.prefix}-left"
    folder.mkdir(parents=True)
    engine.kill()
    user = await hub.user("alice", AUTH_STATE)
    await hub.spawner(user).wait_for_sweep()
    assert folder.exists()
    assert "Could not remove the token files that servers left behind" in caplog.text
    engine.start()
    await hub.spawn(user)
    assert not folder.exists()


HOSTILE = {
    "a link in place of the token": "ln -sf /tmp/victim t",
    "a directory in place of the token": "rm -f t; mkdir -p t",
    "its own base64": "cp /bin/true /tmp/base64",
}


@pytest.mark.parametrize("command", list(HOSTILE.values()), ids=list(HOSTILE))
async def test_what_a_user_does_in_the_volume_is_felt_there_alone(start, engine, command):
    _, user, server = await start("volume", engine.image("ENV PATH=/tmp:/usr/bin:/bin"))
    spawner = user.spawners[""]
    attack = f"echo untouched >/tmp/victim; cd {DIRECTORY} && {command}"
    assert (await server.run("sh", "-c", attack)).code == 0
    if "mkdir" in command:
        with pytest.raises(OSError, match="exit code 1"):
            await spawner.deliver_files({"t": b"new"})
        assert (await server.run("rmdir", f"{DIRECTORY}/t")).code == 0  # nothing was put into it
    await spawner.deliver_files({"t": b"new"})
    assert (await server.run("cat", f"{DIRECTORY}/t", "/tmp/victim")).out == "newuntouched\n"


async def test_where_root_writes_the_servers_user_cannot(start, engine):
    *_, server = await start("volume", engine.image(ENTRYPOINT % 1000, user="root"))
    assert (await server.ask(""))["uid"] == 1000 and await server.token() == b"the-token"
    assert (await server.run("ln", "-s", "/etc/passwd", f"{DIRECTORY}/x")).code != 0


async def test_a_container_that_does_not_read_holds_nobody_up(engine, start_hub):
    hub = await start_hub(
        DOCKER, {**TOKENS, **engine.settings(tokens_volume_mode="volume", remove=True)}
    )
    users = [await hub.user(f"user{number}", AUTH_STATE) for number in range(6)]
    servers = [await hub.spawn(user) for user in users]
    for server in servers[:5]:  # a shell that never comes to its end
        stop = "for shell in $(pgrep -f spawner-tokens); do kill -STOP $shell; done"
        trap = f"mkdir /tmp/t; cd {DIRECTORY}; while :; do {stop}; done"
        await server.run("sh", "-c", f"({trap}) >/dev/null 2>&1 &")
    for user in users:
        await user.save_auth_state({"access_token": "new"})
    await servers[5].until(b"new", seconds=5)


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
    assert "another volume is mounted at" in caplog.text


@pytest.mark.parametrize("policy", ["warn", "refuse"])
async def test_a_host_path_that_the_engine_does_not_see_is_named(engine, start_hub, caplog, policy):
    settings = engine.settings(
        tokens_volume_mode="bind", tokens_host_path="/nonexistent/tokens", tokens_missing=policy
    )
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    if policy == "refuse":
        with pytest.raises(Exception, match="could not be handed over"):
            await hub.spawn(user)
    else:
        assert await (await hub.spawn(user)).files() == {}
    assert "does not see the Hub's /run/spawner-tokens at /nonexistent/tokens" in caplog.text
    assert "its container has no mount for them" in caplog.text
    assert not Path("/nonexistent").exists()


async def test_a_hub_that_is_not_root_prefers_a_volume(start, engine, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1500)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/shm")
    *_, server = await start(remove=True)
    stat = await server.stat()
    assert (stat["t"]["uid"], stat["t"]["mode"]) == (1000, "0o600") and len(engine.volumes()) == 1


async def test_servers_never_get_each_others_tokens(engine, start_hub):
    settings = engine.settings(tokens_volume_mode="bind", remove=True)
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    names = ["a-b", "a_b", "A-b", "a--b", "ä b", "a"]
    wanted = [*((name, "") for name in names), ("a-b", "x-y"), ("a", "y-x"), ("a", "x-y")]
    users = {name: await hub.user(name, {"access_token": f"token of {name!r}"}) for name in names}
    running = [(name, await hub.spawn(users[name], server)) for name, server in wanted]
    assert len(engine.containers()) == len(wanted)
    await users["a"].stop("x-y")
    running = [each for each, names in zip(running, wanted, strict=True) if names != ("a", "x-y")]
    for name, server in running:
        assert (await server.token()).decode() == f"token of {name!r}"


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
        await until(lambda: not engine.containers())
        engine.client.remove_network(network)


async def test_without_files_dockerspawner_is_as_it_was_and_who_may_inspect_sees_variables(
    start, engine
):
    *_, server = await start(specs={"t": {"env": "T", "file": False}})
    [container] = engine.containers()
    inspected = engine.client.inspect_container(container)
    assert {mount["Destination"] for mount in inspected["Mounts"]} == set(MOUNTS)
    assert (await server.env())["T"] == b"the-token"
    assert "T=the-token" in inspected["Config"]["Env"]


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


@pytest.mark.parametrize("policy", ["warn", "refuse"])
async def test_an_image_without_base64_is_treated_by_the_policy(
    engine, start_hub, tmp_path, caplog, policy
):
    (tmp_path / "base64").write_text("")
    settings = engine.settings(tokens_volume_mode="volume", remove=True, tokens_missing=policy)
    settings["DockerSpawner.volumes"] |= {
        str(tmp_path / "base64"): {"bind": "/usr/bin/base64", "mode": "ro"}
    }
    hub = await start_hub(DOCKER, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    if policy == "refuse":
        with pytest.raises(Exception, match="could not be handed over"):
            await hub.spawn(user)
        await until(lambda: not engine.containers() and not engine.volumes())
    else:
        assert await (await hub.spawn(user)).files() == {}
    assert "/bin/sh could not write them in the container (exit code 1)" in caplog.text


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
