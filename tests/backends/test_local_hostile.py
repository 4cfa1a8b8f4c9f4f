"""Token files of local processes whose users or neighbours are hostile."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spawner_tokens.backends.hostfiles import make_private_directory, open_private
from spawner_tokens.backends.local import _REMOVER

from ..support.waiting import until
from .test_local import AUTH_STATE, LOCAL, SIMPLE, TOKENS, run_as

pytestmark = pytest.mark.xdist_group("system users")


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


async def test_a_directory_that_became_a_link_is_an_error_not_a_target(start_local, tmp_path):
    hub, user, _ = await start_local()
    spawner = user.spawners[""]
    shutil.rmtree(spawner.tokens_directory)
    os.symlink(tmp_path, spawner.tokens_directory)
    with pytest.raises(OSError):
        await spawner.deliver_files({"t": b"renewed"})
    assert not (tmp_path / "t").exists()
    await user.stop("")
    assert hub.token_directories == [] and tmp_path.exists()


async def test_what_a_user_leaves_in_the_directory_goes_too(start_local):
    hub, user, _ = await start_local()
    directory = Path(user.spawners[""].tokens_directory)
    (directory / "deep" / "er").mkdir(parents=True)
    (directory / "deep" / "er" / "file").write_text("x")
    (directory / "deep").chmod(0)
    directory.chmod(0)
    await user.stop("")
    assert hub.token_directories == []


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
    await hub.swept()
    user.spawners.clear()
    spawner.tokens_hub.sweeps.tasks.clear()
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


async def test_a_user_who_fills_the_directory_does_not_hold_up_the_stop(start_local):
    hub, user, _ = await start_local()
    directory = user.spawners[""].tokens_directory
    for number in range(20_000):
        os.close(os.open(f"{directory}/{number}", os.O_CREAT))
    await user.stop("")
    assert not os.path.exists(directory)  # out of the way at once
    await until(lambda: hub.token_directories == [])


async def test_a_process_that_makes_directories_forever_does_not_keep_us_forever(
    start_local, memory, monkeypatch, caplog
):
    monkeypatch.setattr("spawner_tokens.backends.local._AT_MOST", 2000)
    hub, user, _ = await start_local()
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


async def test_however_deep_a_user_nests_it_all_goes(start_local):
    hub, user, _ = await start_local()
    handle = os.open(user.spawners[""].tokens_directory, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("deeper", dir_fd=handle)
        inner = os.open("deeper", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    await user.stop("")
    await until(lambda: hub.token_directories == [])
