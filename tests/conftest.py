"""Fixtures: a real JupyterHub in this process, whose servers are real processes."""

import asyncio
import json
import os
import secrets
import shutil
import sys
import urllib.request
from pathlib import Path

import pytest
from jupyterhub import orm
from jupyterhub.app import JupyterHub
from jupyterhub.auth import DummyAuthenticator
from jupyterhub.crypto import CryptKeeper
from jupyterhub.utils import random_port
from tornado.httpserver import HTTPServer
from traitlets.config import Config

from .browser import Browser

SERVER = str(Path(__file__).with_name("server.py"))


def pytest_addoption(parser):
    parser.addoption(
        "--engines",
        choices=["required", "optional"],
        default=os.environ.get("SPAWNER_TOKENS_ENGINES", "optional"),
        help="whether a test whose browser, engine or privilege is missing fails or is skipped",
    )


@pytest.fixture
def need(request):
    """Skip, or fail where engines are required, unless what a test needs is here."""

    def need(found, what):
        if not found:
            if request.config.getoption("engines") == "required":
                pytest.fail(f"{what} is missing, and --engines=required")
            pytest.skip(f"{what} is missing")
        return found

    return need


class Server:
    """What a server's own process says of itself."""

    def __init__(self, spawner):
        self.spawner = spawner
        self.port = spawner.server.port

    async def ask(self, path):
        def get():
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=10) as answer:
                return json.load(answer)

        return await asyncio.to_thread(get)

    async def env(self):
        """Variable → bytes."""
        return {name: bytes.fromhex(value) for name, value in (await self.ask("env")).items()}

    async def files(self):
        """Name → contents; of a server without files: empty."""
        found = await self.stat()
        return {name: bytes.fromhex(file["contents"]) for name, file in found.items() if file["contents"] is not None}

    async def stat(self):
        """Name → contents in hex, uid, mode; the directory itself as ``.``."""
        return await self.ask("files")


class Hub:
    """A real JupyterHub, served without a proxy. A user "logs in" by having their auth_state saved."""

    def __init__(self, app):
        self.app = app
        self.url = f"http://127.0.0.1:{app.hub.port}"

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

    async def browser(self, user):
        """A browser in which this user has logged in, through the Hub's own form."""
        browser = Browser(self.url)
        await browser.log_in(user.name)
        return browser

    @property
    def token_directories(self):
        """All that is left below the directory of the token files."""
        root = Path(self.app.config.LocalTokenMixin.token_mount_path)
        return sorted(path.name for hub in root.glob("*") for path in hub.iterdir())


@pytest.fixture
async def start_hub(tmp_path, monkeypatch):
    """Start a Hub: ``await start_hub(spawner_class, {"TokenSpawnerMixin.tokens": …})``.

    A second Hub in one test is the first one started again, with the same crypt key.
    """
    monkeypatch.chdir(tmp_path)
    hubs = []
    crypt_key = secrets.token_bytes(32)
    memory = Path("/dev/shm", f"spawner-tokens-test-{secrets.token_hex(4)}")

    async def start(spawner_class, settings=None):
        config = Config()
        config.JupyterHub.db_url = f"sqlite:///{tmp_path}/jupyterhub.sqlite"
        config.JupyterHub.spawner_class = spawner_class
        config.JupyterHub.authenticator_class = DummyAuthenticator
        config.JupyterHub.allow_named_servers = True
        config.JupyterHub.cookie_secret = secrets.token_bytes(32)
        config.JupyterHub.hub_port = random_port()
        config.JupyterHub.tornado_settings = {"slow_spawn_timeout": 0}
        config.Authenticator.enable_auth_state = True
        config.Authenticator.allow_all = True
        config.CryptKeeper.keys = [crypt_key]
        config.Spawner.cmd = [sys.executable, SERVER]
        config.Spawner.http_timeout = 20
        config.Spawner.poll_interval = 0
        config.LocalProcessSpawner.interrupt_timeout = 1
        config.SimpleLocalProcessSpawner.home_dir_template = str(tmp_path / "home-{username}")
        config.LocalTokenMixin.token_mount_path = str(memory)
        for name, value in (settings or {}).items():
            section, trait = name.split(".")
            config[section][trait] = value
        JupyterHub.clear_instance()
        CryptKeeper.clear_instance()
        app = JupyterHub.instance(config=config)
        await app.initialize([])
        server = HTTPServer(app.tornado_application)
        server.listen(app.hub.port, "127.0.0.1")
        hubs.append((Hub(app), server))
        return hubs[-1][0]

    yield start
    for hub, server in hubs:
        for user in list(hub.app.users.values()):
            for name, spawner in list(user.spawners.items()):
                if spawner.server:
                    await user.stop(name)
        server.stop()
        await server.close_all_connections()
        hub.app.db.close()
    JupyterHub.clear_instance()
    CryptKeeper.clear_instance()
    shutil.rmtree(memory, ignore_errors=True)
