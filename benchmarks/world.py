"""A simulated provider, with real Users, Spawners and files: for the benchmark of renewals."""

import asyncio
import gc
import io
import logging
import random
import secrets
from collections import Counter
from contextlib import contextmanager
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
from spawner_tokens.hub import TokenHub
from spawner_tokens.renewal import exchange, oauthenticator, renewal
from tests.support.oauth import make_auth_state

from .simulation import Clock, Figure, Loop

LATENCY = 0.1, 0.3  # seconds that the provider takes


# -- the provider and the servers ----------------------------------------------------------------


class Provider:
    """Answers refresh grants with tokens whose text has their user and their end.

    It exchanges each of them for others that live half as long.
    """

    def __init__(self, clock, lifetime, skew=0.0, make_token=None):
        self._clock = clock
        self._lifetime = lifetime
        self._skew = skew  # of its own clock
        self._make_token = make_token or (lambda text, **claims: text)
        self._users = {}  # by refresh token
        self.tokens = {}  # user → access token
        self.is_down = False
        self.hangs = lambda user: False
        self.in_flight = 0
        self.forget()

    def forget(self):
        """Begin to count anew."""
        self.requests = []  # when they came
        self.exchanges = 0  # of these
        self.asked = Counter()  # user → requests
        self.granted = []
        self.rejected = 0
        self.most_in_flight = 0
        self.last_overdue = self._clock()

    def log_in(self, user, age=0.0):
        """The answer to a login, ``age`` seconds ago."""
        created_at, refresh_token = int(self._clock() - age), secrets.token_hex(32)
        self._users[refresh_token] = user
        text = f"{user}-{created_at + self._lifetime}-{secrets.token_hex(24)}"
        created_at += self._skew
        claims = {"iat": created_at, "exp": created_at + self._lifetime}
        self.tokens[user] = self._make_token(text, **claims)
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
        fields = parse_qs(body.decode())
        if "subject_token" in fields:
            return self._exchange(url, *fields["subject_token"])
        [refresh_token] = fields["refresh_token"]
        user = self._users.get(refresh_token)
        self.asked[user] += 1
        if self.hangs(user):
            await asyncio.sleep(60)
            raise HTTPClientError(599)
        self._users.pop(refresh_token, None)
        if user is None:
            raise self._reject(url)
        if self._is_overdue(user):
            self.last_overdue = self._clock()
        answer = self.log_in(user)
        self.granted.append(answer["access_token"])
        return answer

    def _exchange(self, url, subject_token):
        self.exchanges += 1
        if find_end(subject_token) < self._clock():
            raise self._reject(url)
        user, life = subject_token.rsplit("-", 2)[0], self._lifetime // 2
        text = f"{user}-{int(self._clock()) + life}-{secrets.token_hex(24)}"
        return {"access_token": text, "token_type": "Bearer", "expires_in": life}

    def _reject(self, url):
        self.rejected += 1
        buffer = io.BytesIO(b'{"error": "invalid_grant"}')
        return HTTPClientError(400, response=HTTPResponse(HTTPRequest(url), 400, buffer=buffer))

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
        most = oauthenticator._RENEWALS_AT_ONCE, exchange._AT_ONCE
        words = "most at once, of {} renewals that may be, and {} exchanges".format(*most)
        yield Figure(phase, "requests, in flight", self.most_in_flight, "", words)
        yield Figure(phase, "requests, busiest second", busiest, "1/s")
        yield Figure(phase, "rejected", self.rejected, "", "grants with a spent refresh token")


class Servers:
    """What the servers' files hold."""

    def __init__(self, clock, names=("login",)):
        self._clock = clock
        self.names = names  # of their tokens
        self._ends = {}  # server → its token's end; of several tokens, server and name
        self.forget()

    def forget(self):
        """Begin to count anew."""
        self.since = self.last_revived = self._clock()
        self._dead = Counter()  # server → seconds
        self.seen = Counter()  # token → servers

    def see(self, server, token):
        self.seen[token] += 1
        if dead := self._dead_for(server):
            self._dead[server] += dead
            self.last_revived = self._clock()
        self._ends[server] = find_end(token) if token else self._clock()

    def _dead_for(self, server):
        now = self._clock()
        return max(0.0, now - max(self._ends.get(server, now), self.since))

    def dead_share(self, *servers):
        """The share of these servers' time with a dead token in the file; of all, if none."""
        servers = servers or [*self._ends]
        dead = sum(self._dead[server] + self._dead_for(server) for server in servers)
        return dead / len(servers) / (self._clock() - self.since)

    def count_dead(self):
        return sum(self._clock() > end for end in self._ends.values())


def find_end(token):
    return int(token.rsplit("-", 2)[1])


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
        exchanged = self.user.settings["exchanged"]
        for name in files.keys() & exchanged.names:  # what a server has may be left as it is
            exchanged.see((self.orm_spawner.id, name), (files[name] or b"").decode())


class World:
    """A provider, and a Hub's database whose users have logged in there and have servers."""

    def __init__(self, servers, users, lifetime, disk, memory, scenario=None, exchanged=0):
        self.clock = Clock()
        self._scenario = scenario
        self.skips = True  # all waiting
        skew, make_token = (scenario.skew, scenario.make_token) if scenario else (0.0, None)
        self.provider = Provider(self.clock, lifetime, skew, make_token)
        self.servers = Servers(self.clock)
        self.exchanged = Servers(self.clock, [f"exchanged{number}" for number in range(exchanged)])
        self.servers_each = servers // users
        self._memory = memory
        self._sessions = orm.new_session_factory(f"sqlite:///{disk}/jupyterhub.sqlite")
        with self._sessions() as session:
            for number in range(users):
                user = orm.User(name=f"user{number}")
                age = random.uniform(0, 0.7 * lifetime)  # by then, none is due
                auth_state = make_auth_state(user.name, self.provider.log_in(user.name, age))
                auth_state |= self._add(auth_state["token_response"], is_login=True)
                user.encrypted_auth_state = CryptKeeper.instance()._encrypt(auth_state)
                for name in ["", *(f"server-{each}" for each in range(1, self.servers_each))]:
                    session.add(orm.Spawner(name=name, user=user, server=orm.Server()))
            session.commit()

    def _add(self, answer, *, is_login=False):
        """What a scenario's hooks add to an auth_state."""
        if self._scenario is None or (self._scenario.at_login and not is_login):
            return {}
        return self._scenario.more(self.clock, answer)

    def close(self):
        self._sessions.kw["bind"].dispose()

    def live(self, life):
        """One life of the Hub, from when it has made its Spawners."""
        loop = Loop(self.clock, self.skips)
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
        if self._scenario is not None:
            authenticator.modify_auth_state_hook = lambda _, auth_state: (
                auth_state | self._add(auth_state["token_response"])
            )
        config = Config()
        config.Spawner.poll_interval = 0
        if self._scenario is not None:
            self._scenario.prepare(self, authenticator, config, session)
        more = self._scenario.tokens if self._scenario else {}
        more |= {name: {"exchange": {"audience": name}} for name in self.exchanged.names}
        config.TokenSpawnerMixin.tokens = {"login": {}, **more}
        config.LocalTokenMixin.tokens_mount_path = f"{self._memory}/tokens"
        settings = {
            "authenticator": authenticator,
            "config": config,
            "hub": Hub(),
            "servers": self.servers,
            "exchanged": self.exchanged,
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
        self.exchanged.forget()
        await loop.forget()


@contextmanager
def make_crypt_key():
    CryptKeeper.clear_instance()
    CryptKeeper.instance(keys=[secrets.token_bytes(32)])
    try:
        yield
    finally:
        CryptKeeper.clear_instance()
