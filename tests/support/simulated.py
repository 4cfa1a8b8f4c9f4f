"""A Hub without time, threads, processes and network: the parts of :mod:`tests.support.year`."""

import asyncio
import logging
import random
import selectors
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from threading import Thread
from unittest.mock import patch

from jupyterhub.crypto import CryptKeeper
from jupyterhub.spawner import Spawner
from jupyterhub.user import User
from oauthenticator.generic import GenericOAuthenticator
from tornado.httpclient import HTTPRequest
from tornado.log import app_log

from spawner_tokens import LocalTokenMixin

LOG = logging.getLogger("traitlets")  # a Spawner's, where there is no application
LOGS = LOG, app_log


class Clocks:
    """The event loop's, the provider's, and the Hub's, which may be set."""

    def __init__(self):
        self.loop = 0.0
        self.slept = 1_800_000_000.0
        self.set_by = 0.0

    def provider(self):
        return self.loop + self.slept

    def hub(self):
        return self.provider() + self.set_by


class Selector(selectors.SelectSelector):
    """Skips what an event loop would wait, and takes a microsecond of it."""

    def __init__(self, clocks):
        super().__init__()
        self._clocks = clocks

    def select(self, timeout=None):
        assert timeout is not None, "nothing will ever happen"
        self._clocks.loop += timeout + 1e-6
        return []


class Loop(asyncio.SelectorEventLoop):
    def __init__(self, clocks):
        super().__init__(Selector(clocks))
        self.time = lambda: clocks.loop


def submit(executor, function, *args, **kwargs):
    """In place of a thread, which would take no time."""
    future = Future()
    try:
        future.set_result(function(*args, **kwargs))
    except BaseException as error:
        future.set_exception(error)
    return future


async def is_up(user, spawner):
    spawner._waiting_for_response = spawner._start_pending = False


@contextmanager
def simulated(clocks, handler):
    """All of this. ``handler`` gets what is logged, also at level DEBUG."""
    CryptKeeper.clear_instance()
    CryptKeeper.instance(keys=[b"k" * 32])
    try:
        with ExitStack() as stack:
            for patched in (
                patch("time.time", clocks.hub),
                patch.object(ThreadPoolExecutor, "submit", submit),
                patch.object(Thread, "start", Thread.run),
                patch.object(User, "_wait_up", is_up),
                *(
                    patch.multiple(log, handlers=[handler], propagate=False, level=logging.DEBUG)
                    for log in LOGS
                ),
            ):
                stack.enter_context(patched)
            yield
    finally:
        CryptKeeper.clear_instance()


# -- the Hub -------------------------------------------------------------------------------------


class Doubting(GenericOAuthenticator):
    """Asks by a client of its own, as ``requests``, and takes each error for the login's end."""

    async def refresh_user(self, user, handler=None, **kwargs):
        token = (await user.get_auth_state() or {}).get("access_token")
        try:
            headers = {"Authorization": f"Bearer {token}"}
            await self.http_client.fetch(HTTPRequest(self.userdata_url, headers=headers))
        except Exception:
            return False
        return True


class WithoutProcess(Spawner):
    @property
    def world(self):
        return self.user.settings["world"]

    @property
    def key(self):
        return self.user.name, self.name

    async def start(self):
        await asyncio.sleep(random.random())
        self.world.alive.add(self.key)
        self.world.promises.hand_over(self, self.get_env().get("LOGIN_TOKEN"))
        return "127.0.0.1", 1

    async def stop(self, now=False):
        self.world.alive.discard(self.key)

    async def poll(self):
        return None if self.key in self.world.alive else 0


class Server(LocalTokenMixin, WithoutProcess):
    def tokens_file_owner(self):
        return 0, 0

    async def deliver_files(self, files):
        self.world.promises.check_file(self.key)
        if self.world.is_killed or self.world.has("disk", self.user.name):
            raise OSError("no space is left")
        await super().deliver_files(files)

    async def withdraw_files(self):
        if self.world.is_killed:
            raise OSError("the Hub has gone")
        await super().withdraw_files()


async def hook(spawner, auth_state, tokens):
    world, user = spawner.user.settings["world"], spawner.user.name
    if world.has("hook hangs", user):
        await asyncio.sleep(1e6)
    if world.has("hook raises", user):
        raise RuntimeError(str(tokens))
    return tokens


async def narrow(spawner, auth_state, tokens):
    tokens = await hook(spawner, auth_state, tokens)
    return {name: value.replace("secret-", "narrow-") for name, value in tokens.items()}


def narrow_lab(spawner):
    if spawner.name == "lab":
        spawner.tokens_hook = narrow
