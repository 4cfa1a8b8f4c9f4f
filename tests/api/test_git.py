"""git and programs in a server without files ask the Hub, also where all connections are TLS."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys

import pytest
from certipy import Certipy
from tornado.httpserver import HTTPServer

from spawner_tokens.tokens.git import _ASK

from ..support.pages import ROOT
from ..support.ports import random_port
from ..support.pulling import PULL
from ..support.scripted import login
from ..support.spawners import FilesAtStart, VariablesOnly

SPECS = {"t": {"env": "T", "git": "https://git.example.org"}, "u": {"git": "https://git2.example"}}
TOKENS = {"TokenSpawnerMixin.tokens": SPECS}
FILL = "printf 'url=%s/r\\n\\n' \"$0\" | GIT_TERMINAL_PROMPT=0 git credential fill"

HOSTILE = "git init -q . && mkdir http && echo 'raise SystemExit(1)' >http/__init__.py"


async def fill(server, url="https://git.example.org"):
    """What git gets in the server's own process environment."""
    done = await server.run("sh", "-c", FILL, url)
    return dict(line.split("=", 1) for line in done.out.splitlines()).get("password"), done.error


@pytest.mark.parametrize("spawner_class", [VariablesOnly, FilesAtStart])
async def test_git_gets_the_token_of_now_and_without_a_hub_that_of_the_start(
    start_hub, spawner_class
):
    hub = await start_hub(spawner_class, {**TOKENS, **PULL})
    user = await hub.user("alice", login("alice"))
    server = await hub.spawn(user)
    assert (await fill(server))[0] == "alice-a0"
    await user.save_auth_state(login("alice", n=7))
    assert (await fill(server))[0] == "alice-a7"
    await server.run("sh", "-c", HOSTILE)  # a repository that git works in
    assert (await fill(server))[0] == "alice-a7"
    assert (await fill(server, "https://git2.example"))[0] == "alice-a7"
    user.spawners[""]._stop_pending = True
    password, error = await fill(server)
    assert password == "alice-a0" and "has stopped, or does not run yet" in error
    user.spawners[""]._stop_pending = False


async def test_git_waits_for_a_hub_that_hangs_no_longer_than_it_has_to_and_says_so_in_a_line():
    ended = asyncio.Event()

    async def drip(reader, writer):
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.1)
                await writer.drain()
        except ConnectionError:
            ended.set()
        finally:
            writer.close()

    async def run(seconds):
        env = {"PATH": os.environ["PATH"], "JUPYTERHUB_API_TOKEN": "x", "SPAWNER_TOKENS_URL": url}
        command = ("python3", "-c", _ASK.replace("alarm(20)", f"alarm({seconds})"), "t")
        options = {"env": env, "capture_output": True, "text": True}
        return await asyncio.to_thread(subprocess.run, command, **options)

    async with await asyncio.start_server(drip, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert (await run(2)).returncode == -signal.SIGALRM
        await ended.wait()
    done = await run(20)
    assert (
        done.returncode == 1 and done.stderr.count("\n") == 1 and "ConnectionRefused" in done.stderr
    )


@pytest.fixture
def certificates(tmp_path):
    """An authority, and a certificate of its for a server and for a client."""
    certipy = Certipy(store_dir=str(tmp_path / "certificates"))
    certipy.create_ca("ca")
    for name in ("hub", "server"):
        certipy.create_signed_pair(name, "ca", alt_names=["IP:127.0.0.1"])
    return {name: certipy.store.get_record(name)["files"] for name in ("ca", "hub", "server")}


async def test_git_and_programs_ask_with_the_certificate_of_their_server(start_hub, certificates):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    user = await hub.user("alice", login("alice"))
    await hub.spawn(user)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificates["ca"]["cert"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(certificates["hub"]["cert"], certificates["hub"]["key"])
    http, port = HTTPServer(hub.app.tornado_application, ssl_options=context), random_port()
    http.listen(port, "127.0.0.1")
    env = {
        "PATH": os.environ["PATH"],
        "JUPYTERHUB_API_TOKEN": user.spawners[""].api_token,
        "SPAWNER_TOKENS_URL": f"https://127.0.0.1:{port}/hub/api/spawner-tokens",
        "JUPYTERHUB_SSL_KEYFILE": certificates["server"]["key"],
        "JUPYTERHUB_SSL_CERTFILE": certificates["server"]["cert"],
        "JUPYTERHUB_SSL_CLIENT_CA": certificates["ca"]["cert"],
        "https_proxy": "http://127.0.0.1:1",
    }

    async def run(command=("python3", "-c", _ASK, "t"), **changes):
        options = {"env": {**env, **changes}, "capture_output": True, "text": True}
        return await asyncio.to_thread(subprocess.run, command, **options)

    try:
        assert (await run()).stdout == "password=alice-a0\n"
        get = (sys.executable, "-m", "spawner_tokens", "get", "t")
        assert (await run(get, PYTHONPATH=str(ROOT))).stdout == "alice-a0\n"
        without = await run(JUPYTERHUB_SSL_KEYFILE="")
        assert without.returncode and not without.stdout
    finally:
        http.stop()
        await http.close_all_connections()
