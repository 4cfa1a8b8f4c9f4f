"""Token files of local processes stay where they were, and their users', until they are removed."""

import asyncio
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from ..support.hub import respell
from ..support.waiting import until
from .test_local import AUTH_STATE, LOCAL, SIMPLE, TOKENS

pytestmark = pytest.mark.xdist_group("system users")


def files(memory):
    # Path.rglob() raises if a directory goes meanwhile.
    return {Path(place, name) for place, _, names in os.walk(memory) for name in names}


async def test_a_running_servers_files_stay_where_they_are_whatever_the_next_hubs_configuration_is(
    start_local, start_hub, tmp_path, memory
):
    specs = {"t": {"git_identity": {"name": "n", "email": "e"}}}
    login = {"n": "Alice", "e": "a@example.org"}
    _, user, server = await start_local(specs, {**AUTH_STATE, **login})
    kept = files(memory)
    reaped = asyncio.ensure_future(asyncio.to_thread(user.spawners[""].proc.wait))
    # With another database URL, and another cookie_secret, as launch() makes it.
    settings = {"LocalTokenMixin.tokens_mount_path": f"{memory}/other", **respell(tmp_path)}
    again = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": specs, **settings})
    user = await again.user("alice")
    await user.save_auth_state({"access_token": "new", **login})
    await server.until(b"new")
    assert files(memory) == kept
    await user.stop("")
    await reaped
    assert files(memory) == set()


async def test_what_could_not_be_withdrawn_goes_at_the_next_start_of_the_server_or_of_the_hub(
    start_local, start_hub, memory, caplog
):
    other = Path(memory, "other")

    async def fail_to_stop(user, directory):
        directory.chmod(0o777)
        await user.stop("")
        directory.chmod(0o711)

    hub, user, _ = await start_local()
    left = files(memory)
    await fail_to_stop(user, memory)
    assert "Could not remove the token files of alice" in caplog.text and files(memory) == left
    hub.spawner(user).tokens_mount_path = str(other)
    await hub.spawn(user)
    left = files(other)
    assert left and files(memory) == left
    await fail_to_stop(user, other)
    assert files(memory) == left
    again = await start_hub(SIMPLE, TOKENS)
    again.spawner(await again.user("bob"))
    await until(lambda: files(memory) == set())


async def test_a_record_in_another_form_stops_neither_a_spawner_nor_a_sweep(start_local, memory):
    hub, user, _ = await start_local()
    (memory / hub.spawner(user).tokens_hub_name / "left-behind").mkdir()
    for number, kept in enumerate([None, 5, "x", {"a": 1}, [None, {"hub": [], "mount_path": 1}]]):
        other = await hub.user(f"user{number}")
        state = {"tokens_location_local": kept, "tokens_started": {"tokens": kept}}
        hub.spawner(other).orm_spawner.state = state
        other.spawners.clear()
        hub.app.db.commit()
        assert not hub.spawner(other).tokens_specs
    async with hub.sweeping():
        await until(lambda: not list(memory.rglob("left-behind")))


async def test_a_renamed_users_files_stay_their_system_users(start_hub, system_users):
    alice, bob, command = system_users
    hub = await start_hub(LOCAL, {**TOKENS, "Spawner.cmd": command})
    user = await hub.user(alice, AUTH_STATE)
    server = await hub.spawn(user)
    user.orm_user.name = bob
    hub.app.db.commit()
    await user.save_auth_state({"access_token": "new"})
    await server.until(b"new")
    assert {file["uid"] for file in (await server.stat()).values()} == {pwd.getpwnam(alice).pw_uid}


async def test_a_hub_without_servers_has_no_directory_and_what_a_user_makes_in_theirs_is_cleared(
    start_local, memory
):
    hub, user, server = await start_local()
    await hub.spawn(user, "x")
    directory = Path(user.spawners[""].tokens_directory)
    for number, name in enumerate(("t", ".t.new", "t.json")):
        (directory / name).unlink(missing_ok=True)
        (directory / name / "deep").mkdir(parents=True)
        await user.save_auth_state({"access_token": f"new-{number}"})
        await server.until(f"new-{number}".encode())
    await until((directory / "t.json").is_file)
    (directory / "t").unlink()
    (directory / "t").mkdir()
    await user.save_auth_state({})
    await until(lambda: not (directory / "t").exists())
    await user.stop("x")
    assert len(list(memory.iterdir())) == 1
    await user.stop("")
    assert list(memory.iterdir()) == []
    assert await (await hub.spawn(user)).token() is None


async def test_a_hub_of_root_without_its_override_renews_and_removes(
    system_users, tmp_path, memory
):
    alice, _, command = system_users
    less = "-dac_override,-dac_read_search"
    setpriv = ["setpriv", f"--bounding-set={less}", f"--inh-caps={less}", sys.executable]
    tmp_path.chmod(0o755)
    hub = ["-m", "tests.support.lesser", tmp_path, memory, alice, *command]
    done = subprocess.run([*setpriv, *map(str, hub)], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["no override", "new", "left: []"]
