"""Spawners by others: what their servers get, and where a variable shows on its way to them."""

import asyncio
import gc
import os
import pwd
import secrets
import shutil
import stat
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from batchspawner import BatchSpawnerRegexStates
from sudospawner import SudoSpawner
from systemdspawner import SystemdSpawner
from traitlets.config import Config

from spawner_tokens import LocalTokenMixin, TokenSpawnerMixin

from ..support.gitserver import start_git_server
from ..support.oauth import hub_settings, make_auth_state
from ..support.provider import start_provider
from ..support.pulling import PULL
from ..support.systems import (
    install_commands,
    make_batch_settings,
    mount_python,
    write_command,
    write_server,
)
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("system users")

TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T", "git": "https://git.example.org"}}}


class TokenBatchSpawner(LocalTokenMixin, BatchSpawnerRegexStates):
    pass


class PulledBatchSpawner(TokenSpawnerMixin, BatchSpawnerRegexStates):
    pass


class TokenSudoSpawner(LocalTokenMixin, SudoSpawner):
    pass


class TokenSystemdSpawner(LocalTokenMixin, SystemdSpawner):
    pass


@pytest.fixture
def commands():
    with install_commands() as folder:
        yield folder


@pytest.fixture
def write(need, commands, system_users):
    """Write a program of a package: ``write("sudospawner", "sudospawner.mediator")``."""
    with mount_python(need) as python:
        yield partial(write_command, commands, system_users[0], python)


@pytest.fixture
def token():
    """One that nothing else on this machine has in its arguments or its log."""
    return secrets.token_hex(20)


def find_in_process_list(text):
    """The commands of running processes, whoever's, that have this text in their arguments."""
    commands = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (path / "cmdline").read_bytes()
            commands += [arguments.split(b"\0")[0]] if text.encode() in arguments else []
        except OSError:  # it has ended
            pass
    return [command for command in commands if command]


async def check_files(hub, user, uid, token):
    """A server of this user's has its token, and the next one."""
    server = await hub.spawn(user)
    assert (await server.ask(""))["uid"] == uid
    assert await server.token() == token.encode()
    assert {
        (file["uid"], file["mode"]) for name, file in (await server.stat()).items() if name != "."
    } == {(uid, "0o600")}
    assert (await server.env())["T"] == token.encode()
    await user.save_auth_state({"access_token": "second"})
    await server.until(b"second")
    return server


# In these tests start_hub comes last: it stops the servers while users and commands still exist.


# -- batchspawner ----------------------------------------------------------------------------


@pytest.fixture
def batch(commands, write, system_users):
    """Settings for jobs of this batch system, and its spool."""
    script = Path(system_users[2][1])
    script.chmod(0o755)  # batchspawner-singleuser looks for a command
    singleuser = write("batchspawner-singleuser", "batchspawner.singleuser")
    settings, spool = make_batch_settings(commands, singleuser)
    return {**TOKENS, **settings, "Spawner.cmd": [str(script)]}, spool


async def test_a_job_has_files_and_variables_which_also_show_where_the_readme_says(
    batch, system_users, start_hub, caplog, token
):
    settings, spool = batch
    query = settings["BatchSpawnerBase.batch_query_cmd"].replace("batch query", "batch describe")
    hub = await start_hub(
        TokenBatchSpawner, {**settings, "BatchSpawnerBase.batch_query_cmd": query}
    )
    # JupyterHub 5: traitlets' logger, if a Spawner was made before any Hub
    for logger in (hub.app.log.name, "traitlets"):
        caplog.set_level("DEBUG", logger=logger)
    user = await hub.user(system_users[0], {"access_token": token})
    server = await check_files(hub, user, pwd.getpwnam(system_users[0]).pw_uid, token)
    env = await server.env()
    assert b"credential.https://git.example.org.helper" in env.values()
    kept = {path.suffix: token.encode() in path.read_bytes() for path in spool.iterdir()}
    assert kept == {".env": True, ".script": False, ".pid": False, ".log": False}
    assert find_in_process_list(token) == []
    shown = {record.levelname for record in caplog.records if token in record.getMessage()}
    # batchspawner.py, submit_batch_script: "Spawner submitting environment: %s"
    assert shown == {"DEBUG"}
    # batchspawner.py, get_state: "job_status" is what the command printed. TorqueSpawner runs
    # "qstat -x", PBSSpawner "qstat -fx", and both scripts have "#PBS -v {keepvars}": the job's
    # Variable_List, by qsub's manual.
    state = dict(user.spawners[""].orm_spawner.state)
    assert token in state.pop("job_status")
    assert token not in str(state)
    await user.stop("")
    assert hub.token_directories == []


async def test_a_job_with_files_alone_has_its_token_nowhere_else(
    batch, system_users, start_hub, caplog, token
):
    settings, spool = batch
    hub = await start_hub(TokenBatchSpawner, {**settings, "TokenSpawnerMixin.tokens": {"t": {}}})
    user = await hub.user(system_users[0], {"access_token": token})
    server = await hub.spawn(user)
    assert await server.token() == token.encode()
    assert not [path.name for path in spool.iterdir() if token.encode() in path.read_bytes()]
    assert token not in caplog.text and find_in_process_list(token) == []


@pytest.fixture
def keeping(commands, system_users):
    """Settings for a server as of an image with the package, which every user can run."""
    home = pwd.getpwnam(system_users[0]).pw_dir
    env = {"HOME": home, "XDG_RUNTIME_DIR": home}
    command = write_server(commands, system_users[2][1])
    return {"Spawner.cmd": [command], "Spawner.environment": env}


async def test_a_job_that_gets_no_files_has_a_live_one_through_two_lifetimes_and_pushes(
    batch, keeping, system_users, tmp_path, start_hub
):
    name, folder = system_users[0], tmp_path / "git"
    folder.mkdir()
    async with (
        start_provider(tmp_path, "--token-lifetime", "3") as provider,
        start_git_server(folder, provider) as git,
    ):
        before = git.create("repo")
        tokens = {"lab": {"preset": "gitlab", "url": git.url, "env": None}}
        own = {**keeping, **PULL, "TokenSpawnerMixin.tokens": tokens}
        hub = await start_hub(PulledBatchSpawner, {**batch[0], **hub_settings(provider), **own})
        answer = await provider.log_in("alice", "profile read write") | {"created_at": time.time()}
        user = await hub.user(name, make_auth_state(name, answer))
        server = await hub.spawn(user)
        assert answer["access_token"] not in f"{await server.texts()}"  # which the job has

        async def run(command):
            return await server.run("sh", "-c", f"cd && {command}")

        async def works(command):
            return (await run(command)).code == 0

        async def read_live():
            token = (await run('cat "$LAB_TOKEN_FILE"')).out if await server.token("lab") else ""
            return token if token and await provider.is_live(token) else None

        seen = [await until(read_live)]
        # A slow machine may need longer than a token lives.
        await until(lambda: works(f"rm -rf repo && git clone --quiet {git.url}/repo.git"))
        while len(seen) < 3:  # it ends at the refresh, a moment before the next one comes
            if (token := await until(read_live)) not in seen:
                seen.append(token)
            await asyncio.sleep(0.2)
        identity = "-c user.name=Alice -c user.email=alice@example.org"
        assert await works(f"cd repo && git {identity} commit --quiet --allow-empty --message=more")
        await until(lambda: works("cd repo && git push --quiet"))
        assert git.head("repo") != before
        await user.stop("")


# -- sudospawner -----------------------------------------------------------------------------


@pytest.mark.filterwarnings(
    "ignore:.*Popen.__del__:pytest.PytestUnraisableExceptionWarning"
)  # SudoSpawner waits for none
async def test_sudospawner_tells_variables_by_a_pipe_and_shows_them_nowhere(
    commands, write, system_users, start_hub, caplog, token
):
    if shutil.which("sudo", path=os.environ["PATH"].partition(":")[2]):
        (commands / "sudo").unlink()
    name, _, command = system_users
    (commands / "sudospawner-singleuser").write_text(f"#!/bin/sh\nexec {' '.join(command)}\n")
    (commands / "sudospawner-singleuser").chmod(0o755)
    settings = {
        **TOKENS,
        "SudoSpawner.sudospawner_path": write("sudospawner", "sudospawner.mediator"),
    }
    settings["SudoSpawner.mediator_log_level"] = "DEBUG"
    hub = await start_hub(TokenSudoSpawner, settings)
    user = await hub.user(name, {"access_token": token})
    await check_files(hub, user, pwd.getpwnam(name).pw_uid, token)
    assert find_in_process_list(token) == [] and token not in caplog.text
    await user.stop("")
    assert hub.token_directories == []
    gc.collect()


def test_a_hub_that_is_not_root_cannot_give_files_to_sudospawners_users(system_users):
    alice, bob = (pwd.getpwnam(name) for name in system_users[:2])
    spawner = TokenSudoSpawner(
        config=Config(), user=SimpleNamespace(name=bob.pw_name, escaped_name=bob.pw_name, id=1)
    )
    assert spawner.tokens_file_owner() == (bob.pw_uid, bob.pw_gid)
    os.seteuid(alice.pw_uid)  # the Hub's user
    try:
        assert spawner.tokens_file_owner()[0] == alice.pw_uid
    finally:
        os.seteuid(0)


# -- systemdspawner --------------------------------------------------------------------------


async def test_systemdspawner_passes_variables_by_a_private_file_in_memory(
    commands, system_users, start_hub, monkeypatch, caplog, token
):
    units = commands / "units"
    units.mkdir()
    monkeypatch.setenv("SYSTEMD_UNITS", str(units))
    name, _, command = system_users
    hub = await start_hub(TokenSystemdSpawner, {**TOKENS, "Spawner.cmd": command})
    user = await hub.user(name, {"access_token": token})
    await check_files(hub, user, pwd.getpwnam(name).pw_uid, token)
    unit = user.spawners[""].unit_name
    called = (units / f"{unit}.called").read_text().splitlines()
    env_file = Path(f"/run/{unit}/{unit}.env")
    # What systemd is told, and so what "systemctl show" says, is the file's path.
    assert f"--property=EnvironmentFile={env_file}" in called and not [
        each for each in called if token in each
    ]
    assert f"T={token}" in env_file.read_text().splitlines()
    assert [stat.S_IMODE(path.stat().st_mode) for path in (env_file, env_file.parent)] == [
        0o400,
        0o700,
    ]
    assert find_in_process_list(token) == [] and token not in caplog.text
    await user.stop("")
    assert hub.token_directories == []


async def test_to_systemdspawners_dynamic_users_no_file_can_be_given_and_the_policy_applies(
    commands, system_users, start_hub, monkeypatch, caplog, token
):
    units = commands / "units"
    units.mkdir()
    monkeypatch.setenv("SYSTEMD_UNITS", str(units))
    settings = {**TOKENS, "Spawner.cmd": system_users[2], "SystemdSpawner.dynamic_users": True}
    hub = await start_hub(TokenSystemdSpawner, settings)
    user = await hub.user("tokens-without-account", {"access_token": token})
    env = await (await hub.spawn(user)).env()
    assert env["T"] == token.encode() and "T_TOKEN_FILE" not in env
    assert (
        "token files of tokens-without-account: there is no system user 'tokens-without-account'"
        in caplog.text
    )
    await user.stop("")
    hub.spawner(user).tokens_missing = "refuse"
    with pytest.raises(Exception, match="could not be handed over"):
        await hub.spawn(user)
