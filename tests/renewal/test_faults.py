"""Faults between Hub and provider: nothing is lost, and users stay logged in."""

import asyncio
import json
import logging
import time

import pytest
import pytest_asyncio
from jupyterhub.auth import Authenticator
from jupyterhub.crypto import CryptKeeper
from tornado.httpclient import AsyncHTTPClient

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.renewal.refresh import Refresh

from ..support import faults
from ..support.browser import Browser
from ..support.hub import Server
from ..support.oauth import hub_settings, log_in, make_admin_token, start_by_cookie
from ..support.provider import request, start_provider
from ..support.scripted import failing
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("faults")

TOKEN, USERINFO = "/o/token/", "/userinfo/"


class Wire(faults.FaultyProxy):
    """Keeps what the provider issued, whoever got to see it, and when tokens were asked for."""

    def __init__(self, target):
        super().__init__(target)
        self.issued = []
        self.asked_at = []

    async def handle(self, request):
        if request.path == TOKEN:
            self.asked_at.append(time.monotonic())
        return await super().handle(request)

    async def _forward(self, request):
        answer = await super()._forward(request)
        if request.path == TOKEN and answer.code == 200:
            self.issued.append(json.loads(answer.body))
        return answer

    def results(self):
        """Of the requests for tokens, each one's fault or status."""
        return [result for _, path, result in self.requests if path == TOKEN]


class House:
    """A Hub where alice has logged in; her server runs, its token is due within two seconds."""

    def __init__(self, hub, provider, wire):
        self.hub, self.provider, self.wire = hub, provider, wire

    async def log_in(self):
        self.browser = Browser(self.hub.url)
        self.alice = await log_in(self.hub, self.browser, self.provider, "alice")

    async def start(self, name=""):
        """The server, started as its user would."""
        status, _ = await start_by_cookie(self.hub, self.browser, "alice", name)
        assert status == 302
        await until(lambda: name in self.alice.spawners and self.alice.spawners[name].ready)
        return Server(self.alice.spawners[name])

    async def visit(self):
        """Status and destination of /hub/home, for which the Hub looks after the login."""
        self.alice._auth_refreshed = None  # as if auth_refresh_age were over
        answer = await request(f"{self.hub.url}/hub/home", self.browser)
        return answer.code, answer.headers.get("Location", "")

    async def file(self, server=None):
        return (await (server or self.server).files())["t"].decode()

    async def status(self):
        return json.loads((await self.server.files())["t.json"])["status"]

    async def has(self, token, server=None):
        """Whether the file holds this token, or one that was issued after it."""
        tokens = [answer["access_token"] for answer in self.wire.issued]
        return await self.file(server) in tokens[tokens.index(token) :]

    async def stored(self):
        return await self.alice.get_auth_state()

    async def renewed(self):
        """The next access token that the provider issues from now on, once it is in the file."""
        issued = len(self.wire.issued)
        await until(lambda: len(self.wire.issued) > issued)
        token = self.wire.issued[issued]["access_token"]
        await until(lambda: self.has(token))
        return token

    async def can_go_on(self):
        """Whether the refresh token in the Hub's database is the provider's current one."""

        async def is_current():
            return self.provider.knows_refresh_token((await self.stored())["refresh_token"])

        return await until(is_current)  # just now, it may be on its way from one to the other


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider(tmp_path_factory):
    """A provider that ends the login when a refresh token is used twice. It keeps no state."""
    async with start_provider(
        tmp_path_factory.mktemp("provider"), "--token-lifetime", "3", "--reuse-protection"
    ) as it:
        yield it


@pytest.fixture
async def wire(provider, caplog):
    caplog.set_level(logging.DEBUG)
    async with Wire(provider.url) as wire:
        yield wire
    values = {
        answer.get(name) for answer in wire.issued for name in ("access_token", "refresh_token")
    }
    assert wire.issued and "DEBUG" in caplog.text
    assert not [value for value in values if value in caplog.text]


@pytest.fixture
async def build(provider, wire, start_hub):
    async def build(settings=None):
        settings = {
            **hub_settings(provider, wire.url),
            "JupyterHub.log_level": logging.DEBUG,
            "TokenSpawnerMixin.tokens": {"t": {}},
            **(settings or {}),
        }
        house = House(await start_hub(TokenSimpleLocalProcessSpawner, settings), provider, wire)
        await house.log_in()
        house.server = await house.start()
        return house

    return build


def is_login(visit):
    status, location = visit
    return status == 302 and location.startswith("/hub/login")


async def meet(house, fault, times=1):
    """Set up the fault and wait for it: the grants before it, and the access token."""
    house.wire.on(TOKEN, fault, times)
    await until(lambda: fault.__name__ in house.wire.results())
    return house.wire.results().index(fault.__name__), (await house.stored())["access_token"]


async def hold(house):
    """A gate that is reached: the provider has issued new tokens, and the Hub has no answer yet."""
    gate = faults.Gate()
    _, before = await meet(house, faults.hold_after(gate))
    await gate.reached.wait()
    return gate, before, house.wire.issued[-1]["access_token"]


@pytest.mark.parametrize(
    "fault, gaps",
    [
        pytest.param(faults.drop_before, (0.5, 1), id="dropped"),
        pytest.param(faults.status(429, headers={"Retry-After": "2"}), (2, 2), id="429"),
    ],
)
async def test_while_the_provider_gives_no_token_the_old_one_stays_and_is_renewed_after_that(
    build, fault, gaps
):
    house = await build()
    asked, before = await meet(house, fault, times=2)
    gate = faults.Gate()
    house.wire.on(TOKEN, faults.hold_after(gate))
    assert await house.visit() == (200, "")
    assert await house.file(await house.start("second")) == await house.file() == before
    gate.open()
    assert await house.can_go_on()

    await house.renewed()
    results = house.wire.results()[asked : asked + 3]
    assert results == [fault.__name__, fault.__name__, "hold_after"]
    times = house.wire.asked_at[asked : asked + 3]
    assert all(
        later - earlier >= gap for earlier, later, gap in zip(times, times[1:], gaps, strict=False)
    )
    assert await house.status() == "ok"
    assert await house.visit() == (200, "")
    assert await house.can_go_on()


async def test_an_answer_that_takes_long_is_not_waited_for_and_not_lost(build):
    house = await build({"TokenSpawnerMixin.tokens_renew_timeout": 1})
    gate, before, after = await hold(house)
    began, asked = time.monotonic(), len(house.wire.asked_at)
    assert await house.visit() == (200, "")
    second = await house.start("second")
    assert time.monotonic() - began < 30  # the request may take 60
    assert await house.file(second) == await house.file() == before
    assert len(house.wire.asked_at) == asked
    gate.open()
    await until(lambda: house.has(after))
    await until(lambda: house.has(after, second))
    assert await house.can_go_on()


async def test_an_ended_login_is_said_once_and_a_new_one_heals_everything(build, caplog):
    house = await build()
    asked, before = await meet(house, faults.garbage_after)

    async def is_ended():
        assert await house.file() == before
        return await house.status() == "login_ended"

    await until(is_ended)
    for _ in range(2):
        assert is_login(await house.visit())
    assert set(house.wire.results()[asked:]) <= {"garbage_after", 400}
    assert len(house.wire.asked_at) - asked <= 4
    assert (
        sum("Could not renew" in text and "has to log in again" in text for text in caplog.messages)
        == 1
    )

    await house.log_in()
    after = house.wire.issued[-1]["access_token"]
    await until(lambda: house.has(after))

    async def is_said():  # after the token is there
        return await house.status() == "ok"

    await until(is_said)
    assert await house.visit() == (200, "")
    await house.renewed()
    assert await house.can_go_on()


@pytest.mark.parametrize(
    "fault, times, stays",
    [
        pytest.param(faults.status(500), 1, True, id="500"),
        pytest.param(faults.status(403), 2, False, id="403"),
    ],
)
async def test_a_renewed_token_is_kept_whatever_userinfo_then_says(
    build, caplog, fault, times, stays
):
    house = await build()
    gate, _, after = await hold(house)
    house.wire.on(USERINFO, fault, times)
    refreshes = caplog.messages.count("Refreshing auth for alice")
    visit = asyncio.create_task(house.visit())
    await until(lambda: caplog.messages.count("Refreshing auth for alice") > refreshes)
    gate.open()
    await until(lambda: house.has(after))
    answer = await visit
    assert answer == (200, "") if stays else is_login(answer)
    assert [path for _, path, result in house.wire.requests if result == fault.__name__] == [
        USERINFO
    ] * times
    assert await house.can_go_on()


async def test_a_login_during_a_flight_wins_and_nothing_older_comes_back(build):
    house = await build()
    gate, before, late = await hold(house)
    await house.log_in()
    login = house.wire.issued[-1]["access_token"]
    await until(lambda: house.has(login))
    gate.open()
    seen = []

    async def is_next():
        seen.extend([await house.file(), (await house.stored())["access_token"]])
        return seen[-2] not in (before, late, login)

    await until(is_next)
    assert not {before, late} & set(seen)
    assert await house.can_go_on()


async def test_a_flight_goes_on_when_all_who_wait_for_it_are_gone(build):
    house = await build()
    gate, _, after = await hold(house)
    house.hub.spawner(house.alice, "second")
    refresh_user = house.hub.app.authenticator.refresh_user
    waiting = [refresh_user(house.alice), house.alice.spawn("second")]
    tasks = [asyncio.create_task(coroutine) for coroutine in waiting]
    done, _ = await asyncio.wait(tasks, timeout=0.3)
    assert not done
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    gate.open()
    await until(lambda: house.has(after))
    assert await house.can_go_on()


async def test_a_spawn_that_timed_out_while_it_waited_for_the_provider_starts_nothing_later(build):
    house = await build()
    gate, _, after = await hold(house)
    second = house.hub.spawner(house.alice, "second")
    second.start_timeout = 1
    starts = []

    def get_env():  # the step before there is a process, which nobody would end
        starts.append(True)
        raise RuntimeError

    second.get_env = get_env
    with pytest.raises(asyncio.TimeoutError):
        await house.alice.spawn("second")
    gate.open()
    await until(lambda: house.has(after))
    tasks = {task for task in asyncio.all_tasks() if task.get_coro().__name__ == "start"}
    if tasks:
        await asyncio.wait(tasks, timeout=30)
    assert not starts
    assert len(house.hub.token_directories) == 1


needs_reconcile = pytest.mark.skipif(
    not hasattr(Authenticator, "reconcile_auth_state_hook"),
    reason="JupyterHub 6.1 is the first with this hook",
)


@needs_reconcile
async def test_the_hubs_late_save_of_an_older_token_does_not_bring_it_back(build):
    gate = faults.Gate()
    armed = False

    async def hook(authenticator, model, existing):
        if armed and Refresh.current() is None:
            await gate.wait()
        return model["auth_state"]

    house = await build(
        {"Authenticator.reconcile_auth_state_hook": hook, "Authenticator.admin_users": {"alice"}}
    )
    armed = True
    visit = asyncio.create_task(house.visit())
    await gate.reached.wait()
    before = (await house.stored())["access_token"]
    await house.renewed()
    gate.open()
    assert await visit == (200, "")
    assert (await house.stored())["access_token"] != before
    await house.renewed()
    assert await house.can_go_on()


@needs_reconcile
@pytest.mark.parametrize("fails", [pytest.param(False, id="slow"), pytest.param(True, id="raises")])
async def test_renewed_tokens_are_stored_and_delivered_before_the_admins_hook_is_done(build, fails):
    gate = faults.Gate()
    armed = False

    async def hook(authenticator, model, existing):
        if armed and Refresh.current() is not None:
            await gate.wait()
            if fails:
                raise ValueError(f"{model} {existing}")
        return model["auth_state"]

    house = await build({"Authenticator.reconcile_auth_state_hook": hook})
    armed = True
    await gate.reached.wait()
    after = house.wire.issued[-1]["access_token"]
    await until(lambda: house.has(after))
    assert await house.can_go_on()
    gate.open()
    await house.renewed()
    assert await house.can_go_on()


async def test_reads_that_store_anew_under_a_new_crypt_key_do_not_bring_back_an_old_token(build):
    house = await build()
    CryptKeeper.instance().keys = [b"n" * 32, *CryptKeeper.instance().keys]

    async def read():
        while True:
            await house.stored()

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await house.renewed()
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    assert await house.can_go_on()


async def test_an_old_auth_state_that_a_service_saves_does_not_bring_spent_tokens_back(build):
    house = await build()
    old = await house.stored()
    after = await house.renewed()
    answer = await AsyncHTTPClient().fetch(
        f"{house.hub.url}/hub/api/users/alice",
        method="PATCH",
        body=json.dumps({"auth_state": old | {"note": "from a service"}}),
        headers={"Authorization": f"token {make_admin_token(house.hub)}"},
    )
    saved = json.loads(answer.body)["auth_state"]
    assert saved["note"] == "from a service"
    assert not {saved["access_token"], saved["refresh_token"]} & {
        old["access_token"],
        old["refresh_token"],
    }
    assert await house.has(after)
    assert await house.can_go_on()
    await house.renewed()


async def test_an_answer_outlives_a_database_that_cannot_store_it_yet(build, caplog):
    house = await build()
    gate, _, after = await hold(house)
    with failing(house.hub.app.db, "before_commit", 3) as failures:
        gate.open()
        await until(lambda: house.has(after))
        await until(lambda: len(failures) == 3)
    assert any("Could not store" in text and "alice" in text for text in caplog.messages)
    await until(house.can_go_on)
