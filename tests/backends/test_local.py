"""Token files of local processes: whose they are, what a user may do to them, what stays."""

import asyncio
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from jupyterhub.utils import AnyTimeoutError
from traitlets.config import Config

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.backends.hostfiles import make_private_directory, open_private
from spawner_tokens.backends.local import _REMOVER

from ..support.killed import run_killed
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("system users")

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
LOCAL = "spawner_tokens.TokenLocalProcessSpawner"
AUTH_STATE = {"access_token": "the-token"}
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {}}}


@pytest.fixture
def start(start_hub):
    """Start a Hub and alice's server: ``hub, user, server = await start()``."""

    async def start():
        hub = await start_hub(SIMPLE, TOKENS)
        user = await hub.user("alice", AUTH_STATE)
        return hub, user, await hub.spawn(user)

    return start


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


async def test_what_a_user_plants_is_never_followed(start_hub, system_users, tmp_path):
    alice, _, command = system_users
    hub = await start_hub(LOCAL, {**TOKENS, "Spawner.cmd": command})
    user = await hub.user(alice, AUTH_STATE)
    await hub.spawn(user)
    spawner = user.spawners[""]
    directory = spawner.tokens_directory
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    inode = os.stat(f"{directory}/t").st_ino
    assert run_as(alice, "ln", "-sf", str(victim), f"{directory}/t").returncode == 0
    assert run_as(alice, "ln", "-sf", "/", f"{directory}/root").returncode == 0
    await spawner.deliver_files({"t": b"renewed"})
    assert victim.read_text() == "untouched"
    assert Path(directory, "t").read_bytes() == b"renewed" and not Path(directory, "t").is_symlink()
    assert os.stat(f"{directory}/t").st_ino != inode
    await user.stop("")
    assert victim.exists() and os.path.isdir("/etc")
    assert hub.token_directories == []


async def test_a_directory_that_became_a_link_is_an_error_not_a_target(start, tmp_path):
    hub, user, _ = await start()
    spawner = user.spawners[""]
    shutil.rmtree(spawner.tokens_directory)
    os.symlink(tmp_path, spawner.tokens_directory)
    with pytest.raises(OSError):
        await spawner.deliver_files({"t": b"renewed"})
    assert not (tmp_path / "t").exists()
    await user.stop("")
    assert hub.token_directories == [] and tmp_path.exists()


async def test_a_spawn_that_fails_leaves_nothing(start_hub):
    hub = await start_hub(SIMPLE, {**TOKENS, "Spawner.cmd": ["/nonexistent"]})
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(FileNotFoundError):
        await hub.spawn(user)
    assert hub.token_directories == []


async def test_a_spawn_that_takes_too_long_leaves_nothing(start_hub):
    async def hook(spawner, auth_state, tokens):
        await asyncio.Event().wait()

    hub = await start_hub(
        SIMPLE, {**TOKENS, "TokenSpawnerMixin.tokens_hook": hook, "Spawner.start_timeout": 1}
    )
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(AnyTimeoutError):
        await hub.spawn(user)
    assert hub.token_directories == []


async def test_a_server_that_never_answers_leaves_nothing(start_hub):
    settings = {"Spawner.cmd": ["sleep", "60"], "Spawner.http_timeout": 1}
    hub = await start_hub("tests.support.spawners.WithoutArguments", {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(AnyTimeoutError):
        await hub.spawn(user)
    assert hub.token_directories == []


async def test_a_server_that_dies_leaves_nothing_once_the_hub_looks(start):
    hub, user, _ = await start()
    spawner = user.spawners[""]
    os.kill(spawner.pid, signal.SIGKILL)
    await spawner.wait_for_death()
    await user.stop("")  # what the Hub's poll callback does
    assert hub.token_directories == []


async def test_what_a_user_leaves_in_the_directory_goes_too(start):
    hub, user, _ = await start()
    directory = Path(user.spawners[""].tokens_directory)
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "file").write_text("x")
    (directory / "deep").chmod(0)
    directory.chmod(0)
    await user.stop("")
    assert hub.token_directories == []


async def test_a_hub_that_starts_again_keeps_the_files_of_running_servers_and_sweeps_the_others(
    start, start_hub
):
    _, user, server = await start()
    directory = Path(user.spawners[""].tokens_directory)
    reaped = asyncio.ensure_future(asyncio.to_thread(user.spawners[""].proc.wait))
    (directory.parent / "4711").mkdir()
    (directory.parent / "4711" / "t").write_text("left by a crash")
    (directory.parent / ".17.left-by-a-crash-while-removing").mkdir()
    again = await start_hub(SIMPLE, TOKENS)
    user = await again.user("alice")
    assert user.spawners[""].ready
    assert await server.token() == b"the-token"
    await until(lambda: again.token_directories == [directory.name])
    await user.stop("")
    await reaped
    assert again.token_directories == []


@pytest.mark.parametrize("spawner_class", ["KilledBefore", "KilledAfter"])
async def test_a_hub_killed_in_the_middle_of_a_spawn_leaves_nothing_past_its_next_start(
    start_hub, tmp_path, memory, spawner_class
):
    pids = await run_killed(tmp_path, memory, f"tests.support.spawners.{spawner_class}")
    # The crash was real.
    assert [path.read_text() for path in memory.glob("*/*/t")] == ["the-token"]
    hub = await start_hub(SIMPLE, TOKENS)
    hub.spawner(await hub.user("bob"))
    await until(lambda: hub.token_directories == [])
    for orphan in re.findall(r"^\d+$", pids, re.MULTILINE):
        os.kill(int(orphan), signal.SIGKILL)


async def test_the_directory_of_another_hub_on_the_same_host_is_never_touched(start_hub):
    hub = await start_hub(SIMPLE, TOKENS)
    root = Path(hub.app.config.LocalTokenMixin.tokens_mount_path)
    other = root / "0123456789ab" / "1"
    other.mkdir(parents=True)
    root.chmod(0o711)
    user = await hub.user("alice", AUTH_STATE)
    await hub.spawn(user)
    await user.stop("")
    assert other.is_dir()


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


def test_a_directory_that_somebody_else_prepared_is_not_used(tmp_path, need):
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "writable").mkdir()
    (tmp_path / "writable").chmod(0o733)
    need(os.geteuid() == 0, "root")
    for name, uid, mode in (("foreign", 12345, 0o711), ("impassable", 0, 0o700)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        os.chown(tmp_path / name, uid, uid)
    for name in ("link", "writable", "foreign", "impassable"):
        with (
            pytest.raises(PermissionError, match="mode 0711"),
            open_private(str(tmp_path / name), create=True),
        ):
            pass


def test_a_taken_name_does_not_drive_the_files_out_of_memory(tmp_path):
    name = f"spawner-tokens-{os.geteuid()}"
    first = make_private_directory(str(tmp_path))
    assert first == str(tmp_path / name) == make_private_directory(str(tmp_path))
    os.rmdir(first)
    (tmp_path / name).symlink_to("/")
    second = make_private_directory(str(tmp_path))
    assert second.startswith(f"{tmp_path / name}-") and os.stat(second).st_mode & 0o777 == 0o711
    assert make_private_directory(str(tmp_path)) == second  # after a restart, too
    (tmp_path / name).unlink()
    assert make_private_directory(str(tmp_path)) == second


@pytest.mark.parametrize("planted", ["link", "directory"])
async def test_the_sweep_and_the_cleanup_follow_no_link_that_somebody_planted(
    start_hub, tmp_path, caplog, need, planted
):
    need(os.geteuid() == 0, "root")
    victim = tmp_path / "victim"
    (victim / "1").mkdir(parents=True)
    (victim / "1" / "data").write_text("untouched")
    hostile = tmp_path / "hostile"
    hostile.mkdir()
    hub = await start_hub(
        SIMPLE, {**TOKENS, "LocalTokenMixin.tokens_mount_path": str(hostile / "tokens")}
    )
    user = await hub.user("alice", AUTH_STATE)
    spawner = hub.spawner(user)
    name = spawner.tokens_hub_name
    user.spawners.clear()
    spawner.tokens_hub.sweeps.clear()
    (hostile / "tokens").mkdir()
    (hostile / "tokens").chmod(0o711)
    if planted == "link":
        (hostile / "tokens" / name).symlink_to(victim)
    else:
        victim.rename(hostile / "tokens" / name)
        victim = hostile / "tokens" / name
        os.chown(victim, 12345, 12345)
    os.chown(hostile / "tokens", 12345, 12345)
    env = await (await hub.spawn(user)).env()
    assert "SPAWNER_TOKENS_DIR" not in env
    await user.stop("")
    assert (victim / "1" / "data").read_text() == "untouched"
    assert (
        "Could not remove the token files that servers left" in caplog.text
        and "Could not deliver" in caplog.text
    )


async def test_a_user_who_fills_the_directory_does_not_hold_up_the_stop(start):
    hub, user, _ = await start()
    directory = user.spawners[""].tokens_directory
    for number in range(20_000):
        os.close(os.open(f"{directory}/{number}", os.O_CREAT))
    await user.stop("")
    assert not os.path.exists(directory)  # out of the way at once
    await until(lambda: hub.token_directories == [])


async def test_a_process_that_makes_directories_forever_does_not_keep_us_forever(
    start, memory, monkeypatch, caplog
):
    monkeypatch.setattr("spawner_tokens.backends.local._AT_MOST", 2000)
    hub, user, _ = await start()
    code = "import os\nwhile True:\n try: os.mkdir('d'); os.chdir('d')\n"
    code += " except FileNotFoundError: os.chdir('/dev/shm')"
    with open(os.devnull) as quiet:
        forever = subprocess.Popen(
            [sys.executable, "-c", code], cwd=user.spawners[""].tokens_directory, stderr=quiet
        )
    try:
        await until(lambda: os.path.exists(f"{user.spawners[''].tokens_directory}/d/d/d/d"))
        await user.stop("")
        await until(
            lambda: "waits for the Hub's next start" in caplog.text or hub.token_directories == []
        )
    finally:
        forever.kill()
        forever.wait()
    await until(lambda: _REMOVER not in [thread.name for thread in threading.enumerate()])
    assert not list(memory.glob("*/*/t"))  # the token went first


async def test_however_deep_a_user_nests_it_all_goes(start):
    hub, user, _ = await start()
    handle = os.open(user.spawners[""].tokens_directory, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=handle)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    await user.stop("")
    await until(lambda: hub.token_directories == [])


async def test_two_hubs_without_a_database_file_keep_apart(start_hub, tmp_path):
    names = set()
    for database in ("sqlite:///:memory:", f"sqlite:///{tmp_path}/other.sqlite"):
        hub = await start_hub(SIMPLE, {"JupyterHub.db_url": database})
        names.add(hub.spawner(await hub.user("alice")).tokens_hub_name)
    assert len(names) == 2
