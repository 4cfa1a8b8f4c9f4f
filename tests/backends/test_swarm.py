"""Token files as secrets of a real Docker Swarm."""

import asyncio
import sys
from contextlib import suppress

import pytest
from docker.errors import APIError
from docker.types import ConfigReference, SecretReference
from jupyterhub.utils import AnyTimeoutError
from pytest import param
from traitlets import TraitError
from traitlets.config import Config

from spawner_tokens import TokenSwarmSpawner

from ..support.hub import SERVER, Server, respell
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("swarm")

DIRECTORY = "/var/run/secrets/spawner-tokens"
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {}}}
LOGIN = {"access_token": "the-token"}
TOO_LARGE = "x" * 512_000


def settings(swarm, image=None, **traits):
    found = swarm.settings(image, **{"pull_policy": "skip", **traits})
    del found["DockerSpawner.extra_create_kwargs"]
    return {**TOKENS, **found}


@pytest.fixture
def start(swarm, swarm_spawner_class, start_hub):
    """Start a Hub and alice's server: ``hub, user, server = await start()``."""

    async def start(given=None):
        hub = await start_hub(swarm_spawner_class, given or settings(swarm))
        user = await hub.user("alice", LOGIN)
        return hub, user, await hub.spawn(user)

    return start


async def test_a_task_has_its_users_token_as_secrets_and_nothing_stays(start, swarm):
    hub, user, server = await start()
    env = await server.env()
    assert env["SPAWNER_TOKENS_DIR"] == DIRECTORY.encode()
    assert env["T_TOKEN_FILE"] == f"{DIRECTORY}/t".encode()
    assert await server.token() == b"the-token"
    assert (await server.run("stat", "-f", "-c", "%T", f"{DIRECTORY}/t")).out == "tmpfs\n"
    before = swarm.secrets()
    assert len(before) == 2  # with t.json
    await user.save_auth_state({"access_token": "new"})  # for the next start
    assert not user.spawners[""].tokens_running
    assert await server.token() == b"the-token" and swarm.secrets() == before
    await user.stop("")
    assert swarm.secrets() == [] and swarm.services() == {}
    server = await hub.spawn(user)
    assert await server.token() == b"new"
    assert len(swarm.secrets()) == 2 and not set(swarm.secrets()) & set(before)


@pytest.mark.parametrize(
    "image_user, extra, uid, mode",
    [
        param("1000:100", {"user": "1001:100"}, 1001, "0o400", id="the-services-user"),
        param("other", {}, 0, "0o444", id="a-name-that-only-the-container-knows"),
    ],
)
async def test_only_the_servers_user_reads_a_token_where_it_is_known(
    swarm, swarm_spawner_class, start_hub, image_user, extra, uid, mode
):
    image = swarm.image(user=image_user)
    tokens = {
        "t": {"git": "https://git.example.org", "git_identity": {"name": "name", "email": "email"}}
    }
    hub = await start_hub(
        swarm_spawner_class,
        {**settings(swarm, image, extra_container_spec=extra), "TokenSpawnerMixin.tokens": tokens},
    )
    user = await hub.user("alice", {**LOGIN, "name": "Alice", "email": "alice@example.org"})
    server = await hub.spawn(user)
    found = await server.stat()
    assert [(found[name]["uid"], found[name]["mode"]) for name in ("t", "t.json")] == [
        (uid, mode)
    ] * 2
    assert bytes.fromhex(found["t"]["contents"]) == b"the-token"
    public = (await server.env())["GIT_CONFIG_SYSTEM"].decode()
    assert (await server.run("stat", "-c", "%a", public)).out == "444\n"


async def test_each_of_a_users_servers_has_its_own_whatever_the_names(
    swarm, swarm_spawner_class, start_hub
):
    hub = await start_hub(swarm_spawner_class, settings(swarm))
    user = await hub.user("ali=ce.x y@é", LOGIN)
    servers = [await hub.spawn(user, name) for name in ("b-c", "a")]
    assert [await server.token() for server in servers] == [b"the-token"] * 2
    assert len(swarm.secrets()) == 4
    await user.stop("b-c")
    assert len(swarm.secrets()) == 2 and len(swarm.services()) == 1
    assert (await servers[1].files())["t"] == b"the-token"


async def test_users_start_while_the_hub_sweeps(start, swarm):
    hub, *_ = await start()
    users = [await hub.user(f"user{number}", LOGIN) for number in range(3)]
    async with hub.sweeping():
        servers = await asyncio.gather(*(hub.spawn(user) for user in users))
        assert [await server.token() for server in servers] == [b"the-token"] * 3


async def test_what_is_not_ours_stays_and_what_the_admin_sets_wins(
    swarm, swarm_spawner_class, start_hub
):
    theirs = swarm.client.create_secret("theirs", b"of the admin")["ID"]
    extra = {"secrets": [SecretReference(theirs, "theirs")]}
    policy = {"Condition": "any", "Delay": 1_000_000_000, "MaxAttempts": 3}
    hub = await start_hub(
        swarm_spawner_class,
        settings(swarm, extra_container_spec=extra, extra_task_spec={"restart_policy": policy}),
    )
    user = await hub.user("alice", LOGIN)
    labels = {
        "spawner_tokens.hub": "another",
        "spawner_tokens.server": hub.spawner(user).object_name,
    }
    swarm.client.create_secret("of-another-hub", b"x", labels=labels)
    server = await hub.spawn(user)
    assert (await server.run("cat", "/run/secrets/theirs")).out == "of the admin"
    assert await server.token() == b"the-token"
    assert len(extra["secrets"]) == 1
    (service,) = swarm.services().values()
    assert service["Spec"]["TaskTemplate"]["RestartPolicy"] == policy
    await user.stop("")
    spawner = hub.spawner(user)
    assert await spawner.tokens_hub.sweeps.run_once(spawner)
    assert swarm.secrets() == ["of-another-hub", "theirs"]


async def test_a_server_that_ends_by_itself_is_not_started_again_and_leaves_nothing(start, swarm):
    _, user, server = await start()
    (service,) = swarm.services()
    with suppress(OSError):  # it may answer before it ends
        await server.run("kill", "1")
    assert await until(user.spawners[""].poll)
    await until(lambda: [task["DesiredState"] for task in swarm.tasks(service)] == ["shutdown"])
    await user.stop("")  # as the Hub does when it sees that
    assert swarm.secrets() == [] and swarm.services() == {}


async def test_a_server_whose_node_does_not_answer_has_stopped_and_its_secrets_go_at_once(
    start, swarm
):
    # Its servers take a minute to end.
    command = ["sh", "-c", 'trap "" TERM; "$@"; exit', "slow", sys.executable, SERVER]
    slow = {"cmd": command, "extra_container_spec": {"stop_grace_period": 60_000_000_000}}
    _, user, server = await start(settings(swarm, **slow))
    (service,) = swarm.services()
    # As when a node is lost: the Swarm has given the task up, whose last known state is running.
    swarm.set_availability("drain")
    (task,) = await until(
        lambda: [task for task in swarm.tasks(service) if task["DesiredState"] == "shutdown"]
    )
    assert task["Status"]["State"] == "running"
    assert await user.spawners[""].poll() is not None
    await user.stop("")
    assert swarm.secrets() == [] and swarm.services() == {}
    assert await server.token() == b"the-token"
    with suppress(OSError):  # it may answer before it ends
        await server.run("kill", "-9", "-1")


@pytest.mark.parametrize(
    "extra, error",
    [
        param({"cmd": ["/nonexistent"]}, RuntimeError, id="a-task-that-fails"),
        param(
            {"start_timeout": 1, "extra_placement_spec": {"constraints": ["node.labels.none==1"]}},
            AnyTimeoutError,
            id="a-task-without-a-node",
        ),
        param(
            {"extra_container_spec": {"configs": [ConfigReference("none", "none")]}},
            APIError,
            id="no-service",
        ),
    ],
)
async def test_a_spawn_that_fails_leaves_nothing(
    swarm, swarm_spawner_class, start_hub, extra, error
):
    hub = await start_hub(swarm_spawner_class, settings(swarm, **extra))
    user = await hub.user("alice", LOGIN)
    with pytest.raises(error):
        await hub.spawn(user)
    assert swarm.secrets() == [] and swarm.services() == {}


async def test_secrets_that_cannot_be_made_do_not_stop_a_spawn_unless_asked_to(
    swarm, swarm_spawner_class, start_hub, caplog
):
    tokens = {"t": {}, "large": {"key": "large"}}
    hub = await start_hub(
        swarm_spawner_class, {**settings(swarm), "TokenSpawnerMixin.tokens": tokens}
    )
    user = await hub.user("alice", {**LOGIN, "large": TOO_LARGE})
    server = await hub.spawn(user)
    assert "Could not deliver the token files of alice" in caplog.text
    assert TOO_LARGE not in caplog.text
    env = await server.env()
    assert not {"SPAWNER_TOKENS_DIR", "T_TOKEN_FILE", "LARGE_TOKEN_FILE"} & env.keys()
    assert swarm.secrets() == []
    (service,) = swarm.services().values()
    assert "RestartPolicy" not in service["Spec"]["TaskTemplate"]  # Swarm's own
    await user.stop("")

    spawner = hub.spawner(user)
    spawner.tokens_missing = "refuse"
    with pytest.raises(Exception, match="t") as refusal:
        await user.spawn("")
    assert "large" in refusal.value.jupyterhub_message
    assert swarm.secrets() == [] and swarm.services() == {}


async def test_an_engine_that_manages_no_swarm_is_an_os_error(engine, start_hub):
    hub = await start_hub(TokenSwarmSpawner, settings(engine))
    with pytest.raises(OSError, match="not a swarm manager"):
        await hub.spawner(await hub.user("alice", LOGIN)).deliver_files({"t": b"x"})


async def test_a_hub_that_starts_again_keeps_the_secrets_of_running_servers_and_sweeps_the_others(
    start, swarm, swarm_spawner_class, start_hub, tmp_path
):
    hub, user, server = await start()
    running = swarm.secrets()
    await hub.spawner(await hub.user("bob", LOGIN)).deliver_files({"t": b"x"})  # and no further
    carol = await hub.user("carol", LOGIN)
    with suppress(OSError):  # it may answer before it ends
        await (await hub.spawn(carol)).run("kill", "1")
    await until(carol.spawners[""].poll)
    assert len(swarm.secrets()) == 5
    again = await start_hub(swarm_spawner_class, {**settings(swarm), **respell(tmp_path)})
    await until(lambda: swarm.secrets() == running)
    assert await server.token() == b"the-token"
    await again.app.users["alice"].stop("")
    assert swarm.secrets() == [] and swarm.services() == {}


async def test_a_service_that_a_hub_left_behind_gives_way_with_its_secrets(start, swarm):
    hub, user, server = await start()
    before, forgotten = swarm.secrets(), user.spawners.pop("")
    forgotten.server = None
    forgotten.stop_polling()
    server = await hub.spawn(user)
    assert await server.token() == b"the-token"
    assert len(swarm.secrets()) == 2 and not set(swarm.secrets()) & set(before)


async def test_the_name_may_depend_on_the_image_and_a_variable_that_the_admin_sets_wins(
    swarm, swarm_spawner_class, start_hub, caplog
):
    traits = {
        "name_template": "{imagename}-{username}",
        "allowed_images": {"other": swarm.image("ENV OTHER=1")},
        "environment": {"T_TOKEN_FILE": "theirs"},
    }
    hub = await start_hub(swarm_spawner_class, settings(swarm, **traits))
    user = await hub.user("alice", LOGIN)
    before = hub.spawner(user).object_name
    await user.spawn("", options={"image": "other"})
    assert (await Server(user.spawners[""]).env())["T_TOKEN_FILE"] == b"theirs"
    assert caplog.text.count("Spawner.environment sets T_TOKEN_FILE") == 1
    assert swarm.services().keys() == {user.spawners[""].object_name} != {before}
    assert len(swarm.secrets()) == 2
    await user.stop("")
    assert swarm.secrets() == [] and swarm.services() == {}


def test_a_relative_directory_is_refused_when_the_config_is_read():
    config = Config(SwarmTokenMixin={"tokens_mount_path": "tokens"})
    with pytest.raises(TraitError, match="tokens_mount_path has to be an absolute path"):
        TokenSwarmSpawner(config=config)


async def test_a_mount_of_the_admins_in_the_place_of_ours_stays(start, swarm, tmp_path, caplog):
    volumes = {**swarm.settings()["DockerSpawner.volumes"], str(tmp_path): DIRECTORY}
    _, _, server = await start(settings(swarm, volumes=volumes))
    env = await server.env()
    assert "T_TOKEN_FILE" not in env and swarm.secrets() == [] and await server.files() == {}
    assert f"another mount is at {DIRECTORY}" in caplog.text
