"""A real JupyterHub in this process, whose servers are real processes."""

import asyncio
import json
import logging
import math
import os
import secrets
import ssl
import sys
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace

import jupyterhub.app
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.crypto import CryptKeeper
from jupyterhub.utils import make_ssl_context
from tornado.httpserver import HTTPServer
from traitlets.config import Config

from .browser import Browser
from .ports import random_port
from .waiting import until

SERVER = str(Path(__file__).with_name("server.py"))


async def launch(folder, memory, crypt_key, spawner_class, settings):
    """Start a Hub with its database in ``folder`` and the token files in ``memory``."""
    config = Config()
    config.JupyterHub.db_url = f"sqlite:///{folder}/jupyterhub.sqlite"
    config.JupyterHub.spawner_class = spawner_class
    config.JupyterHub.authenticator_class = DummyAuthenticator
    config.JupyterHub.allow_named_servers = True
    config.JupyterHub.cookie_secret = secrets.token_bytes(32)
    config.JupyterHub.hub_port = random_port()
    config.Authenticator.enable_auth_state = True
    config.Authenticator.allow_all = True
    config.CryptKeeper.keys = [crypt_key]
    config.Spawner.cmd = [sys.executable, SERVER]
    config.Spawner.http_timeout = 20
    config.Spawner.poll_interval = 0
    config.SimpleLocalProcessSpawner.home_dir_template = f"{folder}/home-{{username}}"
    config.LocalTokenMixin.tokens_mount_path = str(memory)
    for name, value in settings.items():
        section, trait = name.split(".")
        config[section][trait] = value
    JupyterHub.clear_instance()
    CryptKeeper.clear_instance()
    app = JupyterHub.instance(config=config)
    await app.initialize([])
    app.log.propagate = True  # to caplog
    logging.getLogger("traitlets").setLevel(
        app.log_level
    )  # a Spawner's, where a bare Hub's was there first
    return Hub(app)


def respell(folder):
    """Settings for ``start_hub``: the same database, by another path."""
    again = Path(folder, "again")
    if not again.exists():
        again.symlink_to(folder)
    return {"JupyterHub.db_url": f"sqlite:///{again}/jupyterhub.sqlite"}


class Server:
    """What a server's own process says of itself."""

    def __init__(self, spawner, url=None):
        self.url = url or spawner.server.host

    async def ask(self, path):
        def get():
            with urllib.request.urlopen(f"{self.url}/{path}", timeout=30) as answer:
                return json.load(answer)

        return await asyncio.to_thread(get)

    async def run(self, *arguments):
        """A command in the server's process: its ``code``, ``out`` and ``error``."""

        def post():
            with urllib.request.urlopen(
                f"{self.url}/run", json.dumps(arguments).encode(), timeout=60
            ) as answer:
                return SimpleNamespace(**json.load(answer))

        return await asyncio.to_thread(post)

    async def env(self):
        """Variable → bytes."""
        return {name: bytes.fromhex(value) for name, value in (await self.ask("env")).items()}

    async def texts(self):
        """Variable → text."""
        return {name: os.fsdecode(value) for name, value in (await self.env()).items()}

    async def files(self):
        """Name → contents; of a server without files: empty."""
        found = await self.stat()
        return {
            name: bytes.fromhex(file["contents"])
            for name, file in found.items()
            if file["contents"] is not None
        }

    async def token(self, name="t"):
        """The contents of one file; ``None`` if it is not there."""
        return (await self.files()).get(name)

    async def until(self, contents, name="t", seconds=30):
        """Wait until a file has these contents; ``None``: until it is gone."""

        async def has_them():
            return await self.token(name) == contents

        await until(has_them, seconds)

    async def stat(self):
        """Name → contents in hex, uid, mode; the directory itself as ``.``."""
        return await self.ask("files")


class Hub:
    """A real JupyterHub without a proxy. Users get an auth_state as if they had logged in."""

    def __init__(self, app):
        self.app = app
        self.url = f"http://127.0.0.1:{app.hub.port}"
        self.api = f"{self.url}{app.hub.base_url}api"
        keys = app.internal_ssl_key, app.internal_ssl_cert, app.internal_ssl_ca
        context = make_ssl_context(*keys, purpose=ssl.Purpose.CLIENT_AUTH)
        self.http = HTTPServer(app.tornado_application, ssl_options=context)
        self.http.listen(app.hub.port, app.hub_ip)

    async def close(self):
        """End the Hub and its servers."""
        for user in list(self.app.users.values()):
            for name, spawner in list(user.spawners.items()):
                if spawner.server:
                    await user.stop(name)
        self.http.stop()
        await self.http.close_all_connections()
        if client := getattr(jupyterhub.app, "JupyterHubHTTPClient", None):  # not in JupyterHub 5
            await client.instance().close()
        engine = self.app.db.get_bind()
        self.app.db.close()
        engine.dispose()
        JupyterHub.clear_instance()
        CryptKeeper.clear_instance()

    async def user(self, name="alice", auth_state=None):
        orm_user = orm.User.find(self.app.db, name)
        if orm_user is None:
            orm_user = orm.User(name=name)
            orm_user.roles.append(orm.Role.find(self.app.db, "user"))
            self.app.db.add(orm_user)
            self.app.db.commit()
        user = self.app.users[orm_user.id]
        if auth_state is not None:
            await user.save_auth_state(auth_state)
        return user

    async def spawn(self, user, name=""):
        await user.spawn(name)
        return Server(user.spawners[name])

    def spawner(self, user, name=""):
        """The Spawner of a server that has not been started."""
        if hasattr(user, "get_or_create_spawner"):  # JupyterHub 6
            return user.get_or_create_spawner(name, "")
        return user.get_spawner(name)

    async def swept(self):
        """Wait until nothing that servers left behind has to be removed any more."""
        spawner = self.spawner(await self.user("nobody"))
        await asyncio.wait_for(asyncio.gather(*spawner.tokens_hub.sweeps.tasks.values()), 30)

    @asynccontextmanager
    async def sweeping(self):
        """Meanwhile it sweeps again and again, as after failures, and no age spares anything."""
        spawner = self.spawner(await self.user("nobody"))
        spawner.tokens_hub.sweeps.started_at = math.inf

        async def sweep():
            while True:
                await spawner.tokens_hub.sweeps.run_once(spawner)
                await asyncio.sleep(0)

        sweeping = asyncio.ensure_future(sweep())
        try:
            yield
            assert not sweeping.done()
        finally:
            sweeping.cancel()

    async def browser(self, user):
        """A browser in which this user has logged in, through the Hub's own form."""
        browser = Browser(self.url)
        await browser.log_in(user.name)
        return browser

    @property
    def token_directories(self):
        """All that is left below the directory of the token files."""
        root = Path(self.app.config.LocalTokenMixin.tokens_mount_path)
        return sorted(path.name for hub in root.glob("*") for path in hub.iterdir())
