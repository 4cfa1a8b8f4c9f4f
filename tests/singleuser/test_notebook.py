"""A notebook and a terminal in a real server, behind a real proxy: their variables are live."""

import asyncio
import hashlib
import json
import sys
import time
from contextlib import asynccontextmanager, closing

import requests
from websocket import create_connection

from spawner_tokens.demo.browser import Kernel

from ..hub.test_jupyterhub_suites import find_proxy
from ..support.leaks import ACCESS, REFRESH, places, search
from ..support.oauth import make_auth_state
from ..support.pages import ROOT
from ..support.ports import random_port
from ..support.pulling import PULL
from ..support.scripted import Provider, tokens
from ..support.spawners import VariablesOnly
from ..support.waiting import until

LIFE = 5  # seconds
APP = "jupyter_server.serverapp.ServerApp"  # JupyterLab takes seconds
OTHERS = ("jupyterlab", "jupyter_lsp", "notebook_shim")
LOGGED = ["sh", "-c", 'exec "$@" >>"$0" 2>&1']
TOOL = '#!/bin/sh\nprintf %s "$GITHUB_TOKEN" | sha256sum\n'
LOOK = "import hashlib, os; print(hashlib.sha256(os.environb[b'GITHUB_TOKEN']).hexdigest())"


class Short(Provider):
    """Its tokens live for some seconds, and all look alike."""

    def __init__(self):
        super().__init__(self._issue, lambda user, n: {"username": "alice"})
        self.issued_at = {}  # by the digest of a token, as what is in the server prints it

    def _issue(self, user, n):
        answer = tokens(user, n, access_token=f"{ACCESS}-{n}", expires_in=LIFE)
        digest = hashlib.sha256(answer["access_token"].encode()).hexdigest()
        self.issued_at[digest] = time.monotonic()
        return {**answer, "refresh_token": f"{REFRESH}-{n}"}

    def was_live(self, printed, at):
        return at < self.issued_at[printed.split()[0]] + LIFE


@asynccontextmanager
async def proxied(hub):
    """Meanwhile the Hub has its proxy."""
    proxy = hub.app.proxy
    await proxy.start()
    try:
        await proxy.add_hub_route(hub.app.hub)
        yield
    finally:
        proxy.stop()
        proxy.proxy_process.wait()


class Notebook:
    """What a user's browser has of their server, through the proxy."""

    def __init__(self, url, token):
        self._url, self._headers = url, {"Authorization": f"token {token}"}

    def _post(self, path, name):
        answer = requests.post(f"{self._url}/{path}", json={}, headers=self._headers, timeout=60)
        answer.raise_for_status()
        return answer.json()[name]

    def _connect(self, path):
        url = f"{self._url.replace('http', 'ws', 1)}/{path}"
        return closing(create_connection(url, header=self._headers, timeout=60))

    def start_kernel(self):
        return self._post("api/kernels", "id")

    def run(self, kernel, code):
        with self._connect(f"api/kernels/{kernel}/channels") as connection:
            return Kernel(connection).run(code)

    def type(self, line):
        """Into a terminal that begins with it."""
        name = self._post("api/terminals", "name")
        with self._connect(f"terminals/websocket/{name}") as connection:
            while json.loads(connection.recv())[0] != "stdout":  # its prompt
                pass
            connection.send(json.dumps(["stdin", f"{line}\r"]))
            connection.recv()


async def expect_live(provider, notebook, home):
    run, now = asyncio.to_thread, time.monotonic

    async def shows_live(kernel, code=LOOK):
        began_at = now()
        return provider.was_live(await run(notebook.run, kernel, code), began_at)

    async def starts_with_live():
        began_at = now()
        kernel = await run(notebook.start_kernel)
        return provider.was_live(await run(notebook.run, kernel, LOOK), began_at)

    async def opens_with_live():
        began_at, typed = now(), home / "typed"
        await run(notebook.type, "sh tool >typing; mv typing typed")
        await until(typed.exists, 30)
        printed = typed.read_text()
        typed.unlink()
        return provider.was_live(printed, began_at)

    kernel = await run(notebook.start_kernel)
    await run(notebook.run, kernel, "%load_ext spawner_tokens")
    first = await run(notebook.run, kernel, LOOK)
    await until(lambda: not provider.was_live(first, now() - LIFE), 60, pause=0.2)
    await until(lambda: shows_live(kernel), 30)
    await until(lambda: shows_live(kernel, "!sh tool"), 30)
    await until(starts_with_live, 60)
    await until(opens_with_live, 60)


async def test_after_two_expiries_notebooks_and_terminals_have_live_tokens_that_no_log_has(
    start_hub, debug_log, memory, tmp_path, need
):
    home, config, provider = tmp_path / "home-alice", tmp_path / "config", Short()
    for path in (home, config, memory):
        path.mkdir()
    (home / "tool").write_text(TOOL)
    enabled = json.loads((ROOT / "spawner_tokens/singleuser/spawner_tokens.json").read_text())
    enabled["ServerApp"]["jpserver_extensions"] |= dict.fromkeys(OTHERS, False)
    enabled["Application"] = {"log_level": 10}
    (config / "jupyter_server_config.json").write_text(json.dumps(enabled))
    environment = {"JUPYTER_CONFIG_PATH": str(config), "PYTHONPATH": str(ROOT)}
    environment |= {"XDG_RUNTIME_DIR": str(memory), "JUPYTERHUB_SINGLEUSER_APP": APP}
    url = f"http://127.0.0.1:{random_port()}"
    proxy = need(find_proxy(), "configurable-http-proxy from npm")
    settings = {
        **{**provider.settings(), **PULL, "TokenSpawnerMixin.tokens_min_lifetime": 1},
        "TokenSpawnerMixin.tokens": {"github": {"env": "GITHUB_TOKEN"}},
        **{"JupyterHub.internal_ssl": True, "JupyterHub.bind_url": url},
        "JupyterHub.internal_certs_location": str(tmp_path / "certificates"),
        **{"JupyterHub.log_level": 10, "ConfigurableHTTPProxy.debug": True},
        "ConfigurableHTTPProxy.api_url": f"https://127.0.0.1:{random_port()}",
        "ConfigurableHTTPProxy.command": [*LOGGED, "proxy.log", str(proxy)],
        "Spawner.cmd": [*LOGGED, "server.log", sys.executable, "-m", "jupyterhub.singleuser"],
        **{"Spawner.args": ["--allow-root"], "Spawner.http_timeout": 60},
        "Spawner.environment": environment,
    }
    hub = await start_hub(VariablesOnly, settings)
    async with proxied(hub):
        answer = provider.grant("alice", 0)
        user = await hub.user("alice", make_auth_state("alice", answer))
        await hub.spawn(user)
        await hub.app.proxy.add_user(user)
        notebook = Notebook(f"{url}/user/alice", user.new_api_token())
        await expect_live(provider, notebook, home)
        # what a server asks may go through the proxy, too
        address, own = f"{url}/hub/api/spawner-tokens/github", user.spawners[""].api_token
        asks = {"headers": {"Authorization": f"token {own}"}, "timeout": 30}
        answer = await asyncio.to_thread(requests.get, address, **asks)
        assert ACCESS in answer.text
        found = await places(hub, user, debug_log)
    for log, words in (("log", b"DEBUG"), ("proxy.log", b"debug"), ("server.log", b"[D ")):
        assert words in found[log]
    assert search(found) == []
