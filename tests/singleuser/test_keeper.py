"""What keeps a server's files and variables live."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from jupyterhub import orm

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.singleuser import get_token, hub
from spawner_tokens.singleuser.keeper import Pull, keep
from spawner_tokens.singleuser.private import PrivateDirectory

from ..support.hub import Server
from ..support.killed import KEY, run_killed
from ..support.leaks import process_arguments
from ..support.ports import random_port
from ..support.pulling import PULL
from ..support.scripted import login
from ..support.spawners import FilesAtStart, VariablesOnly
from ..support.waiting import until
from ..tokens.test_libraries import Service, serve

ROOT = Path(__file__).parents[2]
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}
NAMES = ("JUPYTERHUB_API_TOKEN", "SPAWNER_TOKENS_URL", "SPAWNER_TOKENS_VARIABLES")


async def test_a_server_without_files_has_live_ones_as_long_as_the_hub_gives_them(
    start_hub, environ, tmp_path, debug_log
):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL, "JupyterHub.log_level": 10})
    user = await hub.user("alice", login("alice"))
    texts = await (await hub.spawn(user)).texts()
    environ.update({name: texts[name] for name in (*NAMES, "T")})
    environ["XDG_RUNTIME_DIR"] = str(tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    stop = keep(logging.getLogger("server"))
    await until(lambda: "T_TOKEN_FILE" in environ)
    file = Path(environ["T_TOKEN_FILE"])
    directory = Path(environ["SPAWNER_TOKENS_DIR"])
    assert file == directory / "t" and directory.parent == tmp_path / "memory"
    assert (directory.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)

    async def expect(n):
        text = f"alice-a{n}"
        await until(lambda: file.exists() and file.read_text() == environ.get("T") == text, 30)
        assert json.loads((directory / "t.json").read_text())["status"] == "ok"

    await expect(0)
    await user.save_auth_state(login("alice", left=3100, n=1))
    await expect(1)
    # a Hub that is down takes nothing away, and a renewal is there when it is back
    hub.http.stop()
    await hub.http.close_all_connections()
    await until(lambda: "does not answer for the token t" in debug_log.text)
    await expect(1)
    hub.http.listen(hub.app.hub.port, "127.0.0.1")
    await user.save_auth_state(login("alice", left=3200, n=2))
    await expect(2)
    # while others may use it, it has none
    share = orm.Share.grant(
        hub.app.db, user.spawners[""].orm_spawner, (await hub.user("bob")).orm_user
    )
    await until(lambda: json.loads((directory / "t.json").read_text())["status"] == "shared")
    assert not file.exists() and "T" not in environ
    hub.app.db.delete(share)
    hub.app.db.commit()
    await expect(2)
    stop()
    assert not directory.exists()
    assert "DEBUG" in debug_log.text and "alice-a" not in debug_log.text  # the Hub's, too
    assert not [name for name, words in process_arguments().items() if b"alice-a" in words]


async def test_a_program_has_one_path_to_the_live_token_from_the_servers_first_moment(
    start_hub, environ, tmp_path
):
    hub = await start_hub(FilesAtStart, {**TOKENS, **PULL})
    user = await hub.user("alice", login("alice"))
    texts = await (await hub.spawn(user)).texts()
    paths = ("SPAWNER_TOKENS_DIR", "T_TOKEN_FILE")
    environ.update({name: texts[name] for name in (*NAMES, *paths)})
    environ["XDG_RUNTIME_DIR"] = str(tmp_path)
    user.spawners[""]._stop_pending = True  # not answered, as before the Hub knows that it runs
    stop = keep(logging.getLogger("server"))
    file, delivered = Path(environ["T_TOKEN_FILE"]), Path(texts["T_TOKEN_FILE"])
    assert file.parent == Path(environ["SPAWNER_TOKENS_DIR"]) and file.parent.parent == tmp_path
    assert file.read_text() == "alice-a0" and file.with_name("t.json").exists()
    delivered.with_name("new").write_text("alice-a1")
    os.replace(delivered.with_name("new"), delivered)  # by the Hub, or a kubelet
    assert file.read_text() == "alice-a1"
    await user.save_auth_state(login("alice", n=7))
    user.spawners[""]._stop_pending = False
    await until(lambda: file.read_text() == "alice-a7", 30)
    assert delivered.read_text() == "alice-a1"
    stop()


async def test_while_the_hub_cannot_be_asked_what_it_delivers_is_taken(
    start_hub, environ, tmp_path
):
    hub = await start_hub(TokenSimpleLocalProcessSpawner, {**TOKENS, **PULL})
    user = await hub.user("alice", login("alice"))
    texts = await (await hub.spawn(user)).texts()
    environ.update({name: texts[name] for name in (*NAMES, "SPAWNER_TOKENS_DIR")})
    environ["XDG_RUNTIME_DIR"] = str(tmp_path)
    stop = keep(logging.getLogger("server"))
    file = Path(environ["T_TOKEN_FILE"])
    await until(lambda: not file.is_symlink())  # the Hub has answered
    hub.http.stop()
    await hub.http.close_all_connections()
    for n in (1, 2):
        await user.save_auth_state(login("alice", left=3000 + n, n=n))
        await until(lambda n=n: file.read_text() == environ.get("T") == f"alice-a{n}", 30)
    bob = (await hub.user("bob")).orm_user
    orm.Share.grant(hub.app.db, user.spawners[""].orm_spawner, bob)
    facts = file.with_name("t.json")  # written last
    await until(lambda: json.loads(facts.read_text())["status"] == "shared", 30)
    assert not file.exists() and "T" not in environ
    stop()


async def test_a_token_of_no_known_age_that_changes_between_two_requests_is_there_at_once(
    start_hub, environ, tmp_path
):
    specs = {"t": {"env": "T"}, "grid": {"preset": "wlcg"}}  # which no variable shows
    hub = await start_hub(VariablesOnly, {"TokenSpawnerMixin.tokens": specs, **PULL})
    user = await hub.user("alice", {"access_token": "first"})
    texts = await (await hub.spawn(user)).texts()
    environ.update({name: texts[name] for name in NAMES})
    environ["XDG_RUNTIME_DIR"] = str(tmp_path)
    stop = keep(logging.getLogger("server"))
    try:
        await until(lambda: environ.get("T") == "first")
        await user.save_auth_state({"access_token": "second"})  # it asks once in a second at most
        await until(lambda: environ["T"] == "second")
        await until(lambda: Path(environ["BEARER_TOKEN_FILE"]).read_text() == "second")
    finally:
        stop()


async def test_what_was_removed_comes_again_and_where_no_file_can_be_the_variable_is_live(
    start_hub, environ, tmp_path, monkeypatch, caplog
):
    asked = []
    monkeypatch.setattr(hub, "LONGEST_WAIT", 2)
    ask = hub.ask
    monkeypatch.setattr(hub, "ask", lambda *args, **more: asked.append(1) or ask(*args, **more))
    running = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    user = await running.user("alice", login("alice"))
    texts = await (await running.spawn(user)).texts()
    environ.update({name: texts[name] for name in NAMES})
    environ["XDG_RUNTIME_DIR"] = str(tmp_path / "memory")
    (tmp_path / "memory").mkdir()
    stop = keep(logging.getLogger("server"))
    await until(lambda: "T_TOKEN_FILE" in environ)
    file = Path(environ["T_TOKEN_FILE"])
    file.unlink()
    await until(file.exists)
    shutil.rmtree(file.parent)
    await until(file.exists)
    assert file.parent.stat().st_mode & 0o777 == 0o700
    shutil.rmtree(tmp_path / "memory")
    await user.save_auth_state(login("alice", n=1))
    await until(lambda: environ["T"] == "alice-a1")
    so_far = len(asked)
    await until(lambda: len(asked) > so_far + 2)
    bob = (await running.user("bob")).orm_user
    orm.Share.grant(running.app.db, user.spawners[""].orm_spawner, bob)
    await until(lambda: "T" not in environ, 30)
    stop()
    assert caplog.text.count("Cannot keep the token t: FileNotFoundError") == 1


SERVER = """
import logging
from spawner_tokens.singleuser.keeper import keep
from tests.support.server import Handler, serve
keep(logging.getLogger())
serve(Handler)
"""


async def test_a_server_keeps_its_files_when_its_hub_is_killed_and_the_next_one_renews_them(
    start_hub, tmp_path, memory
):
    port = random_port()
    settings = {
        **{**TOKENS, **PULL, "CryptKeeper.keys": [KEY], "JupyterHub.hub_port": random_port()},
        **{"Spawner.cmd": [sys.executable, "-c", SERVER], "Spawner.port": port},
        "Spawner.environment": {"PYTHONPATH": str(ROOT), "XDG_RUNTIME_DIR": str(tmp_path)},
    }
    await run_killed(tmp_path, memory, "tests.support.spawners.KilledWhenAsked", settings)
    server, log = Server(None, f"http://127.0.0.1:{port}"), tmp_path / "killed.log"
    held = await server.token()
    assert held in (b"the-token", b"new-token")  # it is killed before it saves the second, or after
    await until(lambda: "The Hub does not answer for the token t" in log.read_text())
    assert await server.token() == held
    hub = await start_hub(VariablesOnly, settings)
    user = await hub.user("alice", {"access_token": "later-token"})
    await server.until(b"later-token", seconds=60)
    assert (await server.texts())["T"] == "later-token" and user.spawners[""].ready


async def test_files_are_watched_and_the_variables_are_theirs(tokens, environ):
    stop = keep(logging.getLogger("server"))
    await until(lambda: environ["T"] == environ.get("ALSO_T") == "token-1")
    (tokens / "t.new").write_text("token-2")
    os.replace(tokens / "t.new", tokens / "t")
    await until(lambda: environ["T"] == environ["ALSO_T"] == "token-2")
    (tokens / "t").unlink()  # the Hub withholds it: the server is shared
    (tokens / "t.json").write_text('{"status": "shared"}')
    await until(lambda: not {"T", "ALSO_T"} & environ.keys())
    (tokens / "t").write_text("token-3")
    await until(lambda: environ.get("T") == environ.get("ALSO_T") == "token-3")
    stop()


def test_a_process_that_is_no_server_keeps_nothing(environ):
    assert keep(logging.getLogger("server")) is None


class Unready(Service):
    """A proxy whose Hub is away for an hour."""

    def do_GET(self):
        self.send_response(503)
        self.send_header("Retry-After", "3600")
        self.end_headers()
        self.wfile.write(b"{}")


def test_a_hub_that_is_away_is_asked_again_within_a_minute_whatever_it_says(environ, tmp_path):
    with serve(Unready) as port:
        environ |= {"SPAWNER_TOKENS_URL": f"http://127.0.0.1:{port}", "JUPYTERHUB_API_TOKEN": "x"}
        stopped, log = threading.Event(), logging.getLogger("server")
        pull = Pull("t", PrivateDirectory(tmp_path), None, stopped, log)
        assert 1 < pull._ask() <= 60


@pytest.mark.parametrize("memory", ["/proc", "relative"])
def test_a_memory_that_takes_no_directory_keeps_no_server_from_its_start(
    environ, tokens, memory, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relative").mkdir()
    environ |= {"SPAWNER_TOKENS_URL": "http://127.0.0.1:1", "JUPYTERHUB_API_TOKEN": "x"}
    environ["XDG_RUNTIME_DIR"] = memory
    stop = keep(logging.getLogger("server"))
    assert get_token("t") == "token-1" and Path(environ["SPAWNER_TOKENS_DIR"]).is_absolute()
    stop()


CODE = """
import logging, os, sys
from spawner_tokens.singleuser.keeper import keep
keep(logging.getLogger())
if not os.fork():
    sys.exit()
os.wait()
print("begun", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [None, signal.SIGKILL], ids=["exit", "killed"])
def test_a_server_that_has_ended_leaves_nothing_past_the_next_one(environ, tmp_path, how):
    env = {
        **environ,
        "PYTHONPATH": str(ROOT),
        "XDG_RUNTIME_DIR": str(tmp_path),
        "SPAWNER_TOKENS_URL": "http://127.0.0.1:1/hub/api/spawner-tokens",
        "SPAWNER_TOKENS_VARIABLES": json.dumps({"t": {"env": ["T"]}}),
        "JUPYTERHUB_API_TOKEN": "x",
    }
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": env}

    def start():
        process = subprocess.Popen([sys.executable, "-c", CODE], **options)
        assert process.stdout.readline() == b"begun\n"
        return process

    def end(process, how=None):
        if how is not None:
            process.send_signal(how)
        process.communicate()

    living, other = start(), start()
    assert len([*tmp_path.iterdir()]) == 2
    end(other, how)
    assert len([*tmp_path.iterdir()]) == (1 if how is None else 2)
    another = start()
    assert len([*tmp_path.iterdir()]) == 2  # that of one that lives stays
    end(another)
    end(living)
    assert [*tmp_path.iterdir()] == []
