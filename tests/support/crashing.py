"""A Hub in a process of its own that is killed (-9), at a step of a renewal or at any time."""

import asyncio
import os
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jupyterhub.crypto import CryptKeeper
from oauthenticator.generic import GenericOAuthenticator
from sqlalchemy import event

from spawner_tokens import TokenSimpleLocalProcessSpawner

from .forking import log_to, processes, start_forkserver
from .hub import launch
from .oauth import make_auth_state

KEY = b"k" * 32


def find_file(spawner):
    """The token file of its server."""
    return Path(spawner.tokens_directory, "t")


class HubProcess:
    """A Hub with its database and its ``hub.log`` in ``folder``, and the token files in ``memory``.

    ``logins``: username → the provider's answer to a login, and the names of the servers to start.
    ``step`` is where it dies in a renewal after that: see :class:`Fault`. ``find``: by a Spawner,
    what :meth:`ready` returns of it.
    """

    def __init__(self, folder, memory, settings, logins=(), step=None, find=find_file):
        start_forkserver()
        self._reader, writer = processes.Pipe(duplex=False)
        options = dict(logins), step, find, dict(os.environ), writer
        self._process = processes.Process(target=_run, args=(folder, memory, settings, *options))
        self._process.start()
        writer.close()

    async def ready(self):
        """Wait until its servers run. Returns what was found of those that it started."""
        return await asyncio.to_thread(self._reader.recv)

    async def died(self):
        """Wait for its end; whether it was killed."""
        await asyncio.to_thread(self._process.join, 30)
        return self._process.exitcode == -signal.SIGKILL

    def kill(self):
        self._process.kill()


def _run(*arguments):
    asyncio.run(_live(*arguments))


async def _live(folder, memory, settings, logins, step, find, environ, writer):
    os.environ.update(environ)
    os.chdir(folder)
    log_to("hub.log")
    hub = await launch(
        folder, memory, KEY, Spawner, settings | {"JupyterHub.authenticator_class": Authenticator}
    )
    found = []
    for username, (answer, servers) in logins.items():
        user = await hub.user(username)
        hub.spawner(user)  # from our first Spawner on, what is saved gets its time
        await user.save_auth_state(make_auth_state(username, answer))
        await asyncio.gather(*map(user.spawn, servers))
        found += [find(user.spawners[server]) for server in servers]
    fault.arm(step, hub.app.db)
    writer.send(found)
    while step in USERINFO:  # the user's browser never rests
        await hub.app.authenticator.refresh_user(user)
    await asyncio.Event().wait()


USERINFO = ("before the userinfo request", "after the userinfo's answer")


class Fault:
    """Kills the process at the first time that it reaches its step, in a renewal or after one."""

    def __init__(self):
        self._step = None
        self._begun = False

    def arm(self, step, session):
        self._step = step
        for name in ("before_commit", "before_flush", "after_flush", "after_commit"):
            self._listen(session, name)

    def _listen(self, session, name):
        # Nothing else commits between the answer and the journal.
        event.listen(session, name, lambda *arguments: self.reach(name))

    def reach(self, step):
        # The userinfo of a refresh that was already on its way is none of this renewal's.
        begin = "after the token's answer" if self._step in USERINFO else "before the token request"
        self._begun |= self._step is not None and step == begin
        if self._begun and step == self._step:
            os.kill(os.getpid(), signal.SIGKILL)


fault = Fault()


class Authenticator(GenericOAuthenticator):
    async def httpfetch(self, url, *args, **kwargs):
        name = "token" if url == self.token_url else "userinfo"
        if b"subject_token" in (kwargs.get("body") or b""):
            name = "exchange"
        fault.reach(f"before the {name} request")
        answer = await super().httpfetch(url, *args, **kwargs)
        fault.reach(f"after the {name}'s answer")
        return answer


class Spawner(TokenSimpleLocalProcessSpawner):
    async def deliver_files(self, files):
        fault.reach("before the delivery")
        await super().deliver_files(files)
        fault.reach("after the delivery")

    @property
    def tokens_location(self):
        location = super().tokens_location
        return {**location, "owner": _Owner(location.get("owner") or self.tokens_file_owner())}


class _Owner:
    """Is looked at when a file has been written and is not yet in its place."""

    def __init__(self, ids):
        self._ids = ids
        self._steps = iter(
            ["before the token is in its place", "between the two files", "after the two files"]
        )

    def __iter__(self):
        fault.reach(next(self._steps, "with another file"))
        return iter(self._ids)


async def log_in(provider, username):
    """The provider's answer, with its time: this Hub may start for longer than the token lives."""
    return {"created_at": int(time.time()), **await provider.log_in(username)}


def read_auth_state(folder, username):
    """What a Hub that is dead has left in its database."""
    with closing(sqlite3.connect(folder / "jupyterhub.sqlite")) as database:
        [[encrypted]] = database.execute(
            "SELECT encrypted_auth_state FROM users WHERE name = ?", [username]
        )
    return CryptKeeper(keys=[KEY])._decrypt(encrypted)


@dataclass(frozen=True)
class Look:
    """The provider's word on a file's token. ``dead``: seconds for which the file had a dead one.

    This provider ends a token at its refresh: until the answer has come and the file is rewritten,
    the file has a dead one. So the seconds say more than the number of such looks.
    """

    at: float
    dead: float


async def look(provider, file, patience=1.0):
    at, token = time.monotonic(), file.read_text()
    if await provider.is_live(token):
        return Look(at, 0.0)
    answered = time.monotonic()
    while file.read_text() == token and time.monotonic() < answered + patience:
        await asyncio.sleep(0.001)
    return Look(at, time.monotonic() - answered)


async def keep_looking(provider, file, interval, looks):
    while True:
        looks.append(await look(provider, file))
        await asyncio.sleep(max(0.0, looks[-1].at + interval - time.monotonic()))
