"""The renewal at scale, by simulation: what it asks of a provider, and of the Hub's event loop.

``python -m benchmarks.renewal [--servers 10000] [--users 5000] [--hours 8] [--lifetime 7200]``,
from the folder above.

Simulated are the provider, which rotates refresh tokens and rejects spent ones, and waiting: when
nothing is ready to run, the clock jumps to the next timer. All else is real and takes its time:
OAuthenticator, JupyterHub's Users and Spawners, its database (SQLite on disk) and its encryption,
and the servers' files, which are in memory. There are no server processes, so the Hub does not
poll them.
"""

import argparse
import asyncio
import gc
import io
import logging
import os
import random
import secrets
import selectors
import tempfile
import time
from array import array
from collections import Counter
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from jupyterhub.objects import Hub
from jupyterhub.user import UserDict
from oauthenticator.generic import GenericOAuthenticator
from sqlalchemy.orm import selectinload
from tornado.httpclient import HTTPClientError, HTTPRequest, HTTPResponse
from traitlets.config import Config

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.backend import TokenHub
from spawner_tokens.renewal import renewal
from tests.support.oauth import make_auth_state

LATENCY = 0.1, 0.3  # seconds that the provider takes
DOWN = OUTAGE = 1800  # seconds without the Hub, and without the provider
SETTLING = 600  # seconds after each that we look at


class Figure(NamedTuple):
    """What was measured, and when."""

    phase: str
    name: str
    value: float
    unit: str
    words: str = ""


# -- time ----------------------------------------------------------------------------------------


class Clock:
    """Seconds since the epoch, as if we had waited."""

    def __init__(self):
        self._begin = time.time() - time.perf_counter()
        self.skipped = 0.0

    def __call__(self):
        return self._begin + time.perf_counter() + self.skipped


class Selector(selectors.DefaultSelector):
    """Skips what an event loop would wait; takes the time from one wait to the next."""

    def __init__(self, clock):
        super().__init__()
        self._clock = clock
        self._resumed = time.perf_counter()
        self.passes = array("d")

    def select(self, timeout=None):
        self.passes.append(time.perf_counter() - self._resumed)
        events = super().select(None if timeout is None else 0)
        if timeout and not events:
            self._clock.skipped += timeout
        self._resumed = time.perf_counter()
        return events


class Loop(asyncio.SelectorEventLoop):
    """An event loop in simulated time, which takes the time of each callback."""

    def __init__(self, clock):
        self.time = clock
        self._waits = Selector(clock)
        self._collecting = 0.0
        super().__init__(self._waits)
        self._reset()

    async def forget(self):
        """Begin to measure anew, once the running callback has ended."""
        await asyncio.sleep(0)
        self._reset()

    def _reset(self):
        self._calls, self._collections = array("d"), array("d", [0])
        self._longest = 0.0, 0.0, ""
        del self._waits.passes[:]
        self._began, self._busy = self.time(), time.process_time()

    def call_soon(self, callback, *args, context=None):
        return super().call_soon(self._call, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        return super().call_at(when, self._call, callback, *args, context=context)

    def _call(self, callback, *args):
        began, busy, collecting = time.perf_counter(), time.thread_time(), self._collecting
        callback(*args)
        collecting = self._collecting - collecting
        seconds = time.perf_counter() - began - collecting
        self._calls.append(seconds)
        if seconds > self._longest[0]:
            owner = getattr(callback, "__self__", None)
            function = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
            self._longest = seconds, time.thread_time() - busy - collecting, function.__qualname__

    def see_collector(self, phase, info):
        """For :data:`gc.callbacks`."""
        now = time.perf_counter()
        if phase == "start":
            self._collection_began = now
        else:
            self._collecting += now - self._collection_began
            self._collections.append(now - self._collection_began)

    def figures(self, phase):
        """How busy the process was, and how long callbacks blocked the event loop."""
        busy, seconds = time.process_time() - self._busy, self.time() - self._began
        calls = sorted(self._calls)
        longest, cpu, name = self._longest
        yield Figure(
            phase,
            "CPU",
            100 * busy / seconds,
            "%",
            f"of a core: {busy:.1f} s in {seconds / 3600:.1f} h",
        )
        yield Figure(
            phase, "callback, median", 1e3 * calls[len(calls) // 2], "ms", f"of {len(calls):,}"
        )
        yield Figure(phase, "callback, p99", 1e3 * calls[len(calls) * 99 // 100], "ms")
        yield Figure(
            phase,
            "callback, longest",
            1e3 * longest,
            "ms",
            f"{name}; {1e3 * cpu:.1f} ms of it on the CPU",
        )
        yield Figure(
            phase,
            "pass, longest",
            1e3 * max(self._waits.passes),
            "ms",
            "between two looks at the network",
        )
        yield Figure(
            phase,
            "collector, longest",
            1e3 * max(self._collections),
            "ms",
            "in passes, not in callbacks",
        )


# -- the provider and the servers ----------------------------------------------------------------


class Provider:
    """Answers refresh grants with tokens whose text has their user and their end."""

    def __init__(self, clock, lifetime):
        self._clock = clock
        self._lifetime = lifetime
        self._users = {}  # by refresh token
        self.tokens = {}  # user → access token
        self.is_down = False
        self.in_flight = 0
        self.forget()

    def forget(self):
        """Begin to count anew."""
        self.requests = []  # when they came
        self.granted = []
        self.rejected = 0
        self.most_in_flight = 0
        self.last_overdue = self._clock()

    def log_in(self, user, age=0.0):
        """The answer to a login, ``age`` seconds ago."""
        created_at, refresh_token = int(self._clock() - age), secrets.token_hex(32)
        self._users[refresh_token] = user
        self.tokens[user] = f"{user}-{created_at + self._lifetime}-{secrets.token_hex(24)}"
        return {
            "access_token": self.tokens[user],
            "refresh_token": refresh_token,
            "token_type": "Bearer",
            "scope": "openid profile read_api",
            "created_at": created_at,
            "expires_in": self._lifetime,
        }

    async def answer(self, url, body):
        self.requests.append(self._clock())
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(random.uniform(*LATENCY))
        finally:
            self.in_flight -= 1
        if self.is_down:
            raise HTTPClientError(503)
        user = self._users.pop(parse_qs(body.decode())["refresh_token"][0], None)
        if user is None:
            self.rejected += 1
            buffer = io.BytesIO(b'{"error": "invalid_grant"}')
            raise HTTPClientError(400, response=HTTPResponse(HTTPRequest(url), 400, buffer=buffer))
        if self._is_overdue(user):
            self.last_overdue = self._clock()
        answer = self.log_in(user)
        self.granted.append(answer["access_token"])
        return answer

    def _is_overdue(self, user):
        """Whether less than a fifth of a token's life is left, by more than ten seconds."""
        return find_end(self.tokens[user]) - self._clock() < self._lifetime / 5 - 10

    def count_overdue(self):
        return sum(map(self._is_overdue, self.tokens))

    async def calm(self):
        """Wait until no request is in flight."""
        await asyncio.sleep(0.05)
        while self.in_flight:
            await asyncio.sleep(0.05)

    def figures(self, phase):
        busiest = max(Counter(map(int, self.requests)).values(), default=0)
        words = f"most at once, of {renewal._RENEWALS_AT_ONCE} that may be"
        yield Figure(phase, "requests, in flight", self.most_in_flight, "", words)
        yield Figure(phase, "requests, busiest second", busiest, "1/s")
        yield Figure(phase, "rejected", self.rejected, "", "grants with a spent refresh token")


class Servers:
    """What the servers' files hold."""

    def __init__(self, clock):
        self._clock = clock
        self._ends = {}  # server → its token's end
        self.forget()

    def forget(self):
        """Begin to count anew."""
        self._since = self.last_revived = self._clock()
        self._dead = 0.0
        self.seen = Counter()  # token → servers

    def see(self, server, token):
        self.seen[token] += 1
        if dead := self._dead_for(server):
            self._dead += dead
            self.last_revived = self._clock()
        self._ends[server] = find_end(token)

    def _dead_for(self, server):
        now = self._clock()
        return max(0.0, now - max(self._ends.get(server, now), self._since))

    def dead_share(self):
        """The share of all servers' time with a dead token in the file."""
        dead = self._dead + sum(map(self._dead_for, self._ends))
        return dead / len(self._ends) / (self._clock() - self._since)

    def count_dead(self):
        return sum(self._clock() > end for end in self._ends.values())


def find_end(token):
    return int(token.split("-")[1])


# -- the Hub -------------------------------------------------------------------------------------


class Authenticator(GenericOAuthenticator):
    """Reaches the provider without a network."""

    provider = None

    async def httpfetch(self, url, *, body, **kwargs):
        return await self.provider.answer(url, body)


class Spawner(TokenSimpleLocalProcessSpawner):
    """Counts what is delivered to its server."""

    async def deliver_files(self, files):
        await super().deliver_files(files)
        self.user.settings["servers"].see(self.orm_spawner.id, files["login"].decode())


class World:
    """A provider, and a Hub's database whose users have logged in there and have servers."""

    def __init__(self, servers, users, lifetime, disk, memory):
        self.clock = Clock()
        self.provider = Provider(self.clock, lifetime)
        self.servers = Servers(self.clock)
        self.servers_each = servers // users
        self._memory = memory
        self._sessions = orm.new_session_factory(f"sqlite:///{disk}/jupyterhub.sqlite")
        with self._sessions() as session:
            for number in range(users):
                user = orm.User(name=f"user{number}")
                age = random.uniform(0, 0.7 * lifetime)  # by then, none is due
                auth_state = make_auth_state(user.name, self.provider.log_in(user.name, age))
                user.encrypted_auth_state = CryptKeeper.instance()._encrypt(auth_state)
                for name in ["", *(f"server-{each}" for each in range(1, self.servers_each))]:
                    session.add(orm.Spawner(name=name, user=user, server=orm.Server()))
            session.commit()

    def close(self):
        self._sessions.kw["bind"].dispose()

    def live(self, life):
        """One life of the Hub, from when it has made its Spawners."""
        loop = Loop(self.clock)
        gc.callbacks.append(loop.see_collector)
        try:
            with self._sessions() as session:
                return loop.run_until_complete(self._live(loop, session, life))
        finally:
            gc.callbacks.remove(loop.see_collector)
            loop.close()

    async def _live(self, loop, session, life):
        figures = [figure async for figure in life(self, loop, self._make_spawners(session))]
        await self.provider.calm()  # else an answer would be lost
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
        return figures

    def _make_spawners(self, session):
        authenticator = Authenticator(enable_auth_state=True, token_url="http://provider/token")
        authenticator.provider = self.provider
        config = Config()
        config.Spawner.poll_interval = 0
        config.TokenSpawnerMixin.tokens = {"login": {}}
        config.LocalTokenMixin.tokens_mount_path = f"{self._memory}/tokens"
        settings = {
            "authenticator": authenticator,
            "config": config,
            "hub": Hub(),
            "servers": self.servers,
            "spawner_class": Spawner,
        }
        log = logging.getLogger("benchmarks")
        log.setLevel(logging.ERROR)  # an outage brings a warning for each user
        TokenHub.from_session(session).renewal = renewal.Renewal(
            authenticator, session, min_lifetime=300, timeout=10, log=log, clock=self.clock
        )
        users = UserDict(lambda: session, settings)
        rows = session.query(orm.User).options(selectinload(orm.User._orm_spawners)).all()
        return [users[row].spawners[name] for row in rows for name in row.orm_spawners]

    async def start(self, spawners):
        """Start polling one after the other, as the Hub does at its start with running servers."""
        for spawner in spawners:
            spawner.start_polling()
            await asyncio.sleep(0)
        while sum(self.servers.seen.values()) < len(spawners):
            await asyncio.sleep(0.01)

    async def forget(self, loop):
        """Begin to measure and count anew."""
        self.provider.forget()
        self.servers.forget()
        await loop.forget()


# -- what is measured ----------------------------------------------------------------------------


def steady(hours, lifetime):
    async def life(world, loop, spawners):
        provider, servers, users = world.provider, world.servers, len(world.provider.tokens)
        before = find_memory()
        await world.start(spawners)
        await asyncio.sleep(lifetime)
        memory = (find_memory() - before) / len(spawners)

        await provider.calm()
        await world.forget(loop)
        began = world.clock()
        await asyncio.sleep(3600 * hours)
        await provider.calm()
        seconds, requests, granted = (
            world.clock() - began,
            len(provider.requests),
            list(provider.granted),
        )
        figures = [*provider.figures("steady"), *loop.figures("steady")]
        await asyncio.sleep(10)  # for the last deliveries
        cycles = sum(servers.seen[token] == world.servers_each for token in granted) / users
        dead = 100 * servers.dead_share()

        words = "from one renewal of a user that reached all servers to the next"
        yield Figure("steady", "cycle", seconds / cycles / 60, "min", words)
        yield Figure(
            "steady",
            "requests per cycle",
            requests / users / cycles,
            "",
            "of a user, to the token endpoint",
        )
        yield Figure(
            "steady",
            "requests per lifetime",
            requests / users * lifetime / seconds,
            "",
            "of a user",
        )
        yield Figure(
            "steady", "dead", dead, "%", "of the servers' time, with a dead token in the file"
        )
        yield Figure(
            "steady",
            "memory",
            memory / 1024,
            "KiB",
            "per server: what the process grew in the first cycle",
        )
        for figure in figures:
            yield figure

    return life


async def restart_and_outage(world, loop, spawners):
    provider, servers, users = world.provider, world.servers, len(world.provider.tokens)
    await world.forget(loop)
    yield Figure(
        "restart",
        "overdue",
        provider.count_overdue(),
        "users",
        f"of {users:,}, after {DOWN // 60} minutes",
    )
    yield Figure(
        "restart",
        "dead",
        servers.count_dead(),
        "servers",
        f"of {len(spawners):,} have a dead token by then",
    )
    began, wall, busy = world.clock(), time.perf_counter(), time.process_time()
    await world.start(spawners)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    words = f"until all servers have their files again; {busy:.1f} s of it on the CPU"
    yield Figure("restart", "start", wall, "s", words)
    await asyncio.sleep(SETTLING)
    yield Figure(
        "restart", "overdue for", provider.last_overdue - began, "s", "until no renewal was overdue"
    )
    yield Figure(
        "restart",
        "dead for",
        max(0.0, servers.last_revived - began),
        "s",
        "until no server had a dead token",
    )
    for figure in [*provider.figures("restart"), *loop.figures("restart")]:
        yield figure

    await provider.calm()
    await world.forget(loop)
    provider.is_down = True
    await asyncio.sleep(OUTAGE)
    provider.is_down = False
    end, mean = world.clock(), len(provider.requests) / OUTAGE
    yield Figure("outage", "requests", mean, "1/s", f"in {OUTAGE // 60} minutes of HTTP 503")
    yield Figure(
        "outage", "overdue", provider.count_overdue(), "users", f"of {users:,}, at its end"
    )
    yield Figure(
        "outage",
        "dead",
        servers.count_dead(),
        "servers",
        f"of {len(spawners):,} have a dead token by then",
    )
    await asyncio.sleep(SETTLING)
    yield Figure(
        "outage",
        "overdue for",
        max(0.0, provider.last_overdue - end),
        "s",
        "until no renewal was overdue",
    )
    yield Figure(
        "outage",
        "dead for",
        max(0.0, servers.last_revived - end),
        "s",
        "until no server had a dead token",
    )
    for figure in [*provider.figures("outage"), *loop.figures("outage")]:
        yield figure

    newest = dict(provider.tokens)
    await asyncio.sleep(10)  # for the last answers and deliveries
    files = (
        (newest[each.user.name], Path(each.tokens_directory, "login").read_text())
        for each in spawners
    )
    wrong = sum(find_end(token) < find_end(wanted) for wanted, token in files)
    yield Figure(
        "outage",
        "old files",
        wrong,
        "servers",
        "whose file has not the user's newest token in the end",
    )


def find_memory():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(servers, users, hours, lifetime):
    """Yields :class:`Figure`."""
    with (
        make_crypt_key(),
        tempfile.TemporaryDirectory() as disk,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        world = World(servers, users, lifetime, disk, memory)
        try:
            yield from world.live(steady(hours, lifetime))
            world.clock.skipped += DOWN
            yield from world.live(restart_and_outage)
        finally:
            world.close()


@contextmanager
def make_crypt_key():
    CryptKeeper.clear_instance()
    CryptKeeper.instance(keys=[secrets.token_bytes(32)])
    try:
        yield
    finally:
        CryptKeeper.clear_instance()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.renewal", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--servers", type=int, default=10000, metavar="N")
    parser.add_argument("--users", type=int, default=5000, metavar="N")
    parser.add_argument(
        "--hours", type=float, default=8, help="of the steady state, after the first lifetime"
    )
    parser.add_argument(
        "--lifetime", type=int, default=7200, help="of the provider's tokens, in seconds"
    )
    for phase, figures in groupby(
        measure(**vars(parser.parse_args())), key=lambda figure: figure.phase
    ):
        print(phase)
        for _, name, value, unit, words in figures:
            text = f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
            print(f"    {name:25}{text:>10} {unit:8}{words}", flush=True)


if __name__ == "__main__":
    main()
