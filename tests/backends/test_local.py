"""Token files of local processes: whose they are, what a user may do to them, what stays."""

import asyncio
import os
import pwd
import re
import signal
import subprocess
from pathlib import Path

import pytest
from jupyterhub.utils import AnyTimeoutError
from pytest import param
from traitlets.config import Config

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.hub import respell
from ..support.killed import run_killed
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("system users")

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
LOCAL = "spawner_tokens.TokenLocalProcessSpawner"
AUTH_STATE = {"access_token": "the-token"}
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {}}}


def run_as(name, *command):
    user = pwd.getpwnam(name)
    return subprocess.run(
        command,
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
    )


async def test_the_files_belong_to_the_servers_system_user_and_to_nobody_else(
    start_hub, system_users
):
    alice, bob, command = system_users
    hub = await start_hub(LOCAL, {**TOKENS, "Spawner.cmd": command})
    user = await hub.user(alice, AUTH_STATE)
    server = await hub.spawn(user)
    uid = pwd.getpwnam(alice).pw_uid
    assert (await server.ask(""))["uid"] == uid
    found = await server.stat()
    assert {name: (file["uid"], file["mode"]) for name, file in found.items()} == {
        ".": (uid, "0o700"),
        "t": (uid, "0o600"),
        "t.json": (uid, "0o600"),
    }
    assert await server.token() == b"the-token"
    path = (await server.env())["T_TOKEN_FILE"].decode()
    assert run_as(alice, "cat", path).stdout == "the-token"
    for target in (path, os.path.dirname(path), os.path.dirname(os.path.dirname(path))):
        assert (
            "Permission denied" in run_as(bob, "ls", target).stderr
            or "Permission denied" in run_as(bob, "cat", target).stderr
        )
    assert "Permission denied" in run_as(bob, "cat", path).stderr


async def wait(spawner, auth_state, tokens):
    await asyncio.Event().wait()


@pytest.mark.parametrize(
    "settings, error",
    [
        param({"Spawner.cmd": ["/nonexistent"]}, FileNotFoundError, id="no-command"),
        param(
            {"TokenSpawnerMixin.tokens_hook": wait, "Spawner.start_timeout": 1},
            AnyTimeoutError,
            id="takes-too-long",
        ),
        param(
            {"Spawner.cmd": ["sleep", "60"], "Spawner.http_timeout": 1},
            AnyTimeoutError,
            id="never-answers",
        ),
    ],
)
async def test_a_spawn_that_fails_leaves_nothing(start_hub, settings, error):
    hub = await start_hub(SIMPLE, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(error):
        await hub.spawn(user)
    assert hub.token_directories == []


async def test_a_server_that_dies_leaves_nothing_once_the_hub_looks(start_local):
    hub, user, _ = await start_local()
    spawner = user.spawners[""]
    os.kill(spawner.pid, signal.SIGKILL)
    await spawner.wait_for_death()
    await user.stop("")  # what the Hub's poll callback does
    assert hub.token_directories == []


async def test_a_hub_that_starts_again_keeps_the_files_of_running_servers_and_sweeps_the_others(
    start_local, start_hub
):
    _, user, server = await start_local()
    directory = Path(user.spawners[""].tokens_directory)
    reaped = asyncio.ensure_future(asyncio.to_thread(user.spawners[""].proc.wait))
    (directory.parent / "4711").mkdir()
    (directory.parent / "4711" / "t").write_text("left by a crash")
    (directory.parent / ".17.left-by-a-crash-while-removing").mkdir()
    of_another_hub = directory.parent.parent / "0123456789ab" / "another-hubs"
    of_another_hub.mkdir(parents=True)
    again = await start_hub(SIMPLE, TOKENS)
    user = await again.user("alice")
    assert user.spawners[""].ready
    assert await server.token() == b"the-token"
    await until(lambda: again.token_directories == [directory.name, of_another_hub.name])
    await user.stop("")
    await reaped
    assert again.token_directories == [of_another_hub.name]


@pytest.mark.parametrize("spawner_class", ["KilledBefore", "KilledAfter"])
async def test_a_hub_killed_in_the_middle_of_a_spawn_leaves_nothing_past_its_next_start(
    start_hub, tmp_path, memory, spawner_class
):
    pids = await run_killed(tmp_path, memory, f"tests.support.spawners.{spawner_class}")
    # The crash was real.
    assert [path.read_text() for path in memory.glob("*/*/t")] == ["the-token"]
    elsewhere = {"LocalTokenMixin.tokens_mount_path": str(tmp_path / "elsewhere")}
    hub = await start_hub(SIMPLE, {**TOKENS, **elsewhere, **respell(tmp_path)})
    hub.spawner(await hub.user("bob"))
    await until(lambda: list(memory.iterdir()) == [])
    for orphan in re.findall(r"^\d+$", pids, re.MULTILINE):
        os.kill(int(orphan), signal.SIGKILL)


async def test_files_that_cannot_be_written_do_not_stop_a_spawn_unless_asked_to(
    start_hub, tmp_path, caplog
):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    blocked.chmod(0o777)
    settings = {
        "LocalTokenMixin.tokens_mount_path": str(blocked),
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
    }
    hub = await start_hub(SIMPLE, settings)
    user = await hub.user("alice", AUTH_STATE)
    env = await (await hub.spawn(user)).env()
    assert (
        env["T"] == b"the-token" and "SPAWNER_TOKENS_DIR" not in env and "T_TOKEN_FILE" not in env
    )
    assert (
        "Could not deliver the token files of alice" in caplog.text and "mode 0711" in caplog.text
    )
    await user.stop("")
    hub.spawner(user).tokens_missing = "refuse"
    with pytest.raises(Exception, match="could not be handed over"):
        await hub.spawn(user)
    assert list(blocked.iterdir()) == []


@pytest.mark.parametrize("umask", [0, 0o777])
async def test_the_modes_do_not_depend_on_the_umask(start_hub, umask):
    hub = await start_hub(SIMPLE, TOKENS)
    user = await hub.user("alice", AUTH_STATE)
    spawner = hub.spawner(user)
    await hub.swept()
    old = os.umask(umask)
    try:
        await spawner.deliver_files({"t": b"x"})
    finally:
        os.umask(old)
    directory = Path(spawner.tokens_directory)
    modes = [path.stat().st_mode & 0o777 for path in (directory.parent, directory, directory / "t")]
    assert modes == [0o711, 0o700, 0o600]
    await spawner.withdraw_files()


def test_the_default_is_a_directory_in_memory():
    path = Path(TokenSimpleLocalProcessSpawner(config=Config()).tokens_mount_path)
    kind = subprocess.run(
        ["stat", "-f", "-c", "%T", path], capture_output=True, text=True
    ).stdout.strip()
    assert kind in ("tmpfs", "ramfs")
    assert path.name == f"spawner-tokens-{os.geteuid()}"


async def test_two_hubs_without_a_database_file_keep_apart(start_hub, tmp_path):
    names = set()
    for database in ("sqlite:///:memory:", f"sqlite:///{tmp_path}/other.sqlite"):
        hub = await start_hub(SIMPLE, {"JupyterHub.db_url": database})
        names.add(hub.spawner(await hub.user("alice")).tokens_hub_name)
    assert len(names) == 2
