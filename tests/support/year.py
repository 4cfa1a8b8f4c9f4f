"""A Hub in simulated time, with all that may happen to it: see ``tests.renewal.test_year``.

Real are the renewal, the local backend and its files, OAuthenticator, JupyterHub's Users and
Spawners, and a database. There are no processes, no network and no waiting: the provider is
OAuthenticator's HTTP client, and the clocks go on when nothing is left to do.
"""

import asyncio
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from jupyterhub import orm, roles
from jupyterhub.objects import Hub
from jupyterhub.user import UserDict
from oauthenticator.generic import GenericOAuthenticator
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from traitlets.config import Config

from spawner_tokens.hub import TokenHub
from spawner_tokens.renewal import Renewal

from .oauth import make_auth_state
from .promises import LeakFinder, Promises
from .rotating import Rotating
from .simulated import LOG, Clocks, Doubting, Loop, Server, hook, narrow, narrow_lab, simulated


class Event(NamedTuple):
    """What happens, so many seconds after the last event. ``value``, from 0 to 1, is its dice."""

    gap: float
    kind: str
    user: str
    value: float


OWN_TROUBLES = "disk", "hook raises", "hook hangs"
TROUBLES = "down", "hang", "lost", "locked", *OWN_TROUBLES
RARE = "clock", "crash", "forget", "kill", "restart", "revoke", "sleep", *TROUBLES
HAPPENS = {"spawn": 24, "stop": 14, "refresh": 10, "login": 5, **dict.fromkeys(RARE, 1.5)}


def make_events(seed, users, number, gap):
    """So many events, on average so many seconds apart."""
    dice = random.Random(seed)
    for _ in range(number):
        (kind,) = dice.choices([*HAPPENS], [*HAPPENS.values()])
        user = f"user{dice.randrange(users)}"
        yield Event(dice.expovariate(1 / gap), kind, user, dice.random())


@dataclass(frozen=True)
class Setting:
    """What a world is like. ``life``: of a token, in seconds.

    ``kills``: a renewal ends the old token; ``doubts``: the authenticator is :class:`.Doubting`;
    ``moves``: a Hub that starts again may have another ``tokens_mount_path``.
    """

    life: int
    kills: bool = False
    doubts: bool = False
    moves: bool = False
    missing: str = "warn"


class World:
    """Many lives of one Hub, in one database."""

    def __init__(self, folder, memory, setting, users=50):
        self.clocks, self.setting, self.memory = Clocks(), setting, memory
        for number in range(2):
            Path(memory, str(number)).mkdir(mode=0o711, parents=True)
        self.troubles = defaultdict(float)  # (kind, user, or "all") → until, by the loop's clock
        self.trouble_ends = defaultdict(float)  # user, or "all" → when the last one ends
        self.alive, self.busy = set(), set()
        self.number = self.mount = 0
        self.is_killed = False
        self.provider = Rotating(self)
        self.promises = Promises(self)
        self._sessions = orm.new_session_factory(f"sqlite:///{folder}/year.sqlite")
        self._engine = self._sessions.kw["bind"]
        event.listen(self._engine, "before_cursor_execute", self._execute)
        with self._sessions() as session:
            for role in roles.get_default_roles():
                roles.create_role(session, role)
            session.add(orm.OAuthClient(identifier="jupyterhub"))
            narrowed = orm.Group(name="narrowed")
            session.add(narrowed)
            for number in range(users):
                user = orm.User(name=f"user{number}", roles=[orm.Role.find(session, "user")])
                session.add(user)
                if number % 5 == 0:
                    narrowed.users.append(user)
            session.commit()

    def _execute(self, connection, cursor, statement, *args):
        is_login = "encrypted_auth_state=" in statement
        if self.is_killed or (is_login and self.has("locked", "all")):
            raise OperationalError("SQL", {}, Exception("database is locked"))

    def has(self, kind, user):
        return self.troubles[kind, user] > self.clocks.loop

    def _trouble(self, kind, user, seconds):
        until = self.clocks.loop + seconds
        self.troubles[kind, user] = max(until, self.troubles[kind, user])
        self.trouble_ends[user] = max(until, self.trouble_ends[user])

    def is_narrowed(self, key):
        return key[1] == "lab" or int(key[0][4:]) % 5 == 0

    def run(self, events):
        """Live through all of it: see ``promises``."""
        events = iter(events)
        ending = None
        with simulated(self.clocks, LeakFinder(self.promises)):
            while ending is None or ending.kind != "end":
                loop = Loop(self.clocks)
                loop.set_exception_handler(self.promises.see_error)
                with self._sessions() as session:
                    ending = loop.run_until_complete(self._live(session, events, ending))
                loop.close()
                self.clocks.loop += 3600 * ending.value**3
        self._engine.dispose()

    async def _live(self, session, events, before):
        await self._start(session, before)
        for event_ in events:
            await asyncio.sleep(event_.gap)
            self.promises.check()
            self.number += 1
            if event_.kind in ("kill", "restart"):
                break
            task = asyncio.create_task(self._happen(event_))
            task.add_done_callback(lambda task: task.cancelled() or task.result())
        else:
            event_ = Event(0, "end", "", 0)
        others = asyncio.all_tasks() - {asyncio.current_task()}
        self.is_killed = event_.kind == "kill"
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self.is_killed = False
        return event_

    async def _start(self, session, before):
        moved = before is not None and self.setting.moves and before.value > 0.5
        self.mount = 1 - self.mount if moved else self.mount
        self._trouble("start", "all", 1)
        self.busy.clear()
        kind = Doubting if self.setting.doubts else GenericOAuthenticator
        urls = {f"{name}_url": f"http://provider/{name}" for name in ("token", "userdata")}
        authenticator = kind(
            **urls, username_claim="username", allow_all=True, enable_auth_state=True,
            client_id="id", client_secret="s", http_client=self.provider, log=LOG,
        )  # fmt: skip
        config = Config()
        config.Spawner.poll_interval = 0
        config.Spawner.pre_spawn_hook = narrow_lab
        groups = {"groups": ["narrowed"], "spawner_override": {"tokens_hook": lambda _: narrow}}
        config.Spawner.group_overrides = {"narrowed": groups}
        config.Server.tokens = {"login": {"env": "LOGIN_TOKEN"}}
        config.Server.tokens_missing = self.setting.missing
        config.Server.tokens_hook = hook
        config.Server.tokens_mount_path = f"{self.memory}/{self.mount}"
        settings = {
            **{"authenticator": authenticator, "config": config, "hub": Hub(), "world": self},
            **{"spawner_class": Server, "cookie_secret": b"c" * 32, "base_url": "/"},
            **{"allow_named_servers": True, "internal_ssl": False},
        }
        TokenHub.from_session(session).renewal = Renewal(
            authenticator, session, min_lifetime=300, timeout=10, log=LOG, clock=self.clocks.hub
        )
        self.authenticator, self.users = authenticator, UserDict(lambda: session, settings)
        self.promises.begin(session)
        rows = session.query(orm.Spawner).filter(orm.Spawner.server_id.is_not(None)).all()
        for row in rows:  # as JupyterHub.init_spawners
            spawner = self.users[row.user].spawners[row.name]
            if self.alive and before.value < 0.3:
                self.alive.discard(spawner.key)  # it ended while the Hub was down
            if spawner.key in self.alive:
                spawner.start_polling()
            else:
                await self._stop(spawner.user, spawner.name)

    # -- what happens ----------------------------------------------------------------------------

    async def _happen(self, event_):
        user = self.users[orm.User.find(self.users.db, event_.user)]
        key = user.name, "lab" if event_.value < 0.3 else ""
        if event_.kind in TROUBLES:
            who = user.name if event_.kind in OWN_TROUBLES else "all"
            self._trouble(event_.kind, who, 30 + 3600 * event_.value**4)
        elif event_.kind in ("clock", "sleep"):
            self._set_clock(event_)
        elif event_.kind in ("stop", "crash") and key in self.alive - self.busy:
            self.alive -= {key} if event_.kind == "crash" else set()
            await self._stop(user, key[1])
        elif event_.kind == "spawn" and key not in self.alive | self.busy:
            await self._spawn(user, key[1])
        elif event_.kind == "refresh" and user.encrypted_auth_state is not None:
            await asyncio.gather(*(self._refresh(user) for _ in range(3)))
        elif event_.kind == "revoke":
            self.provider.revoke(user.name)
        elif event_.kind in ("login", "forget") and not self.has("locked", "all"):
            await self._save(user, event_.kind == "login")

    def _set_clock(self, event_):
        self._trouble(event_.kind, "all", 60)
        if event_.kind == "sleep":
            self.clocks.slept += 36000 * event_.value
        else:
            self.clocks.set_by += (-7200, -600, -60, 60, 600, 7200)[int(6 * event_.value)]

    async def _save(self, user, is_login):
        self._trouble("login", user.name, 1)
        self.promises.excuse(user.name)
        self.provider.logins.pop(user.name, None)
        answer = self.provider.log_in(user.name) if is_login else None
        await user.save_auth_state(answer and make_auth_state(user.name, answer))

    async def _refresh(self, user):
        """As one of a page's requests, which need to know whether the user is still logged in."""
        self.promises.excuse(user.name)
        model = await self.authenticator.refresh_user(user, None)
        if isinstance(model, dict) and "auth_state" in model:
            await user.save_auth_state(model["auth_state"])
        if model is False:
            self.promises.see_ended(user.name, "refresh_user returned False")

    async def _spawn(self, user, name):
        self.busy.add((user.name, name))
        self.promises.excuse(user.name)
        try:
            await user.spawn(name)
        except Exception as error:
            self.promises.see_refusal(user.name, error)
        finally:
            self.busy.discard((user.name, name))

    async def _stop(self, user, name):
        self.busy.add((user.name, name))
        try:
            await user.stop(name)
            self.promises.see_stop((user.name, name))
        finally:
            self.busy.discard((user.name, name))


def live(folder, setting, seed, events, users=50):
    """The :class:`Promises` after all these events."""
    random.seed(seed)
    with TemporaryDirectory(dir="/dev/shm") as memory:
        world = World(folder, Path(memory), setting, users)
        world.run(events)
        return world.promises
