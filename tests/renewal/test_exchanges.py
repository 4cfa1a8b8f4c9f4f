"""Exchanges in simulated time: how often the provider is asked, and what there is meanwhile."""

import asyncio
import base64
import logging
import math
from contextlib import suppress
from functools import partial

import pytest
from jupyterhub.auth import DummyAuthenticator
from oauthenticator.azuread import AzureAdOAuthenticator
from oauthenticator.generic import GenericOAuthenticator
from pytest import param
from tornado.httpclient import HTTPClientError
from tornado.httputil import HTTPHeaders

from spawner_tokens.metrics import EXCHANGE_STATUSES, EXCHANGES
from spawner_tokens.renewal import Exchanges
from spawner_tokens.renewal.authenticators import Authenticators
from spawner_tokens.tokens.lifetime import Lifetime
from spawner_tokens.tokens.selection import Login, Reason
from spawner_tokens.tokens.spec import parse_tokens

from ..support.faults import Answer
from ..support.pages import blocks, load
from ..support.scripted import Provider, exchanged
from ..support.simulated import Clocks, Loop
from ..tokens.test_selection import jwt

EOS = {"eos": {"exchange": {"audience": "eos"}}}
FAILED, DENIED = Reason.EXCHANGE_FAILED, Reason.EXCHANGE_DENIED
LIFE = 3600


class User:
    def __init__(self, name="alice"):
        self.name, self.orm_user, self.id = name, self, 1


class World:
    """Exchanges of a Hub whose time a test's sleeps pass."""

    def __init__(self, provider, clocks, tokens, authenticator=None, **traits):
        self.provider, self.clocks, self.user, self.changes = provider, clocks, User(), []
        settings = provider.settings(**traits)
        authenticator = authenticator or settings["JupyterHub.authenticator_class"](
            **{name.partition(".")[2]: each for name, each in settings.items() if "OAuth" in name}
        )
        self.exchanges = Exchanges(
            Authenticators(authenticator), clocks.hub, logging.getLogger("exchanges")
        )
        self.changed = asyncio.Event()
        self.exchanges.on_change = self._see_change
        self.specs = parse_tokens(tokens, files=True)

    def _see_change(self, user, user_id):
        self.changes.append(user)
        self.changed.set()

    def login(self, n=0, **more):
        """With the token of this number, which lives for as long as a test runs."""
        return Login({"access_token": f"{self.user.name}-a{n}", **more}, digest=str(n).encode())

    async def ask(self, login=None, *, seconds=10, waits=True, user=None, find=Lifetime.short_at):
        """Name → what there is for the login's tokens."""
        specs = [spec for spec in self.specs if spec.exchange]
        filled = await self.exchanges.exchange(
            user or self.user,
            self.login() if login is None else login,
            specs,
            lambda spec, spread, life: find(life, 300),
            seconds if waits else None,
        )
        return filled.exchanged

    async def value(self, login=None, **options):
        """What there is for ``eos``: its value, or the reason why there is none."""
        found = (await self.ask(login, **options))["eos"]
        return found.value or found.reason

    async def poll(self, seconds, login=None):
        """The same, whenever it is due, for so many seconds."""
        ends_at, values = self.clocks.loop + seconds, []
        while self.clocks.loop < ends_at:
            found = (await self.ask(login, waits=False))["eos"]
            values.append(found.value or found.reason)
            self.changed.clear()
            left = max(min(found.due_at - self.clocks.hub(), ends_at - self.clocks.loop), 0.01)
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.changed.wait(), left)
        return values


@pytest.fixture
def run():
    """Run ``scenario(world)`` until it returns."""
    clocks = Clocks()
    loop = Loop(clocks)

    def run(scenario, provider=None, tokens=EOS, **traits):
        async def begin():
            return await scenario(World(provider or Provider(), clocks, tokens, **traits))

        return loop.run_until_complete(begin())

    yield run
    for task in (tasks := asyncio.all_tasks(loop)):
        task.cancel()
    loop.run_until_complete(asyncio.wait(tasks) if tasks else asyncio.sleep(0))
    loop.close()


def exchange_in(seconds):
    async def exchange(user, n):
        await asyncio.sleep(seconds)
        return exchanged(user, n)

    return exchange


def test_all_who_wait_share_one_request_for_each_user_and_exchange(run):
    tokens = {**EOS, "graph": {"exchange": {"audience": "graph"}}}
    again = {
        "same": {"exchange": {"audience": "eos"}},
        "other": {"exchange": {"audience": "eos"}, "key": "id_token"},
    }

    async def scenario(world):
        bob, login = User("bob"), Login({"access_token": "bob-a0", "id_token": "bob-i0"})
        calls = [world.ask() for _ in range(50)]
        *found, bobs = await asyncio.gather(*calls, world.ask(login, user=bob))
        assert (
            await world.ask(login, user=bob) == bobs and len(world.provider.exchanges["bob"]) == 3
        )
        assert len(world.provider.exchanges["alice"]) == 2
        assert len({each["eos"].value for each in found}) == 1
        assert found[0]["eos"].value == found[0]["same"].value != found[0]["graph"].value
        assert found[0]["other"].reason is Reason.ABSENT
        assert {each.value for each in bobs.values()} == {"bob-x1", "bob-x2", "bob-x3"}

    run(scenario, Provider(exchange=exchange_in(1)), {**tokens, **again})


OWN = {
    "client_id": "mine",
    "client_secret": "s2",
    "token_url": "https://sso.example.org/token/?p=b2c",
}
OBO = {"type": "azure-obo", "scope": "https://graph.microsoft.com/Files.Read"}
STANDARD = (
    b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=alice-a0"
    b"&subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token"
    b"&requested_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&audience=eos"
)


@pytest.mark.parametrize(
    "exchange, basic_auth, url, body, pair",
    [
        param(
            {}, False, "http://provider/token", STANDARD + b"&client_id=id&client_secret=s", None
        ),
        param({}, True, "http://provider/token", STANDARD, b"id:s", id="basic-auth"),
        param(OWN, False, OWN["token_url"], STANDARD + b"&client_id=mine&client_secret=s2", None),
        param(OWN, True, OWN["token_url"], STANDARD, b"mine:s2", id="own-client-basic-auth"),
        param(
            {"client_id": "public"},
            True,
            "http://provider/token",
            STANDARD + b"&client_id=public",
            None,
            id="public-client",
        ),
        param(
            OBO,
            False,
            "http://provider/token",
            b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
            b"&requested_token_use=on_behalf_of&assertion=alice-a0"
            b"&scope=https%3A%2F%2Fgraph.microsoft.com%2FFiles.Read&client_id=id&client_secret=s",
            None,
            id="azure-obo",
        ),
    ],
)
def test_a_request_is_as_those_of_the_authenticator(run, exchange, basic_auth, url, body, pair):
    audience = {} if exchange is OBO else {"audience": "eos"}

    async def scenario(world):
        assert await world.value() == "alice-x1"
        [request] = world.provider.exchanges["alice"]
        assert (request.method, request.url, request.body) == ("POST", url, body)
        given = request.headers.get("Authorization")
        assert given == (pair and f"Basic {base64.b64encode(pair).decode()}")
        assert request.headers["Accept"] == "application/json"
        assert request.validate_cert is False and request.ca_certs == "/the/ca"
        assert request.follow_redirects is False and request.request_timeout == 10

    run(
        scenario,
        tokens={"eos": {"exchange": {**audience, **exchange}}},
        basic_auth=basic_auth,
        validate_server_cert=False,
        http_request_kwargs={"ca_certs": "/the/ca"},
    )


def test_it_is_exchanged_again_by_its_own_life_and_by_nothing_else(run):
    def exchange(user, n):
        return exchanged(user, n, expires_in=600, scope="eos.read", refresh_token="dropped")

    async def scenario(world):
        first = (await world.ask())["eos"]
        now = pytest.approx(world.clocks.hub(), abs=1e-3)
        assert first.lifetime == Lifetime(now, pytest.approx(world.clocks.hub() + 600), 600)
        assert first.scopes == ("eos.read",) and first.due_at == first.lifetime.expires_at - 300
        values = await world.poll(6000)
        requests = len(world.provider.exchanges["alice"])
        assert 19 <= requests <= 21 and values == [f"alice-x{n + 1}" for n in range(requests)]
        (known,) = world.exchanges._users[world.user].known.values()
        assert "dropped" not in str(vars(known._answer)) and "alice-x" in str(vars(known._answer))

    run(scenario, Provider(exchange=exchange))


def test_another_subject_is_exchanged_at_once_and_the_same_one_no_sooner_than_a_fifth_of_a_life(
    run,
):
    always_due = lambda life, asked: -math.inf  # noqa: E731

    async def scenario(world):
        for n in range(5):
            assert await world.value(world.login(n)) == f"alice-x{n + 1}"
            assert world.provider.subjects("alice")[-1] == f"alice-a{n}"
        for _ in range(100):
            assert await world.value(world.login(4), find=always_due)
            await asyncio.sleep(LIFE / 100)
        assert 5 + 4 <= len(world.provider.exchanges["alice"]) <= 5 + 5

    run(scenario)


def test_a_key_that_finds_another_subject_at_each_look_is_exchanged_ever_later(run):
    async def scenario(world):
        def mint(auth_state):
            return f"alice-{world.clocks.loop}"

        world.specs = parse_tokens({"eos": {**EOS["eos"], "key": mint}}, files=True)
        await world.poll(LIFE)
        assert 6 <= len(world.provider.exchanges["alice"]) <= 6 + 18
        assert await world.value() is not FAILED

    run(scenario, Provider(exchange=exchange_in(1)))


async def hang(user, n):
    await asyncio.sleep(1e6)


async def refuse(user, n):
    raise ConnectionRefusedError


async def time_out(user, n):
    await asyncio.sleep(10)
    raise HTTPClientError(599)


HTML = Answer(body=b"<html>Please log in</html>")
TRANSIENT = [
    param(lambda user, n: Answer(503), id="503"),
    param(lambda user, n: Answer(429, headers=HTTPHeaders({"Retry-After": "20"})), id="429"),
    param(time_out, id="timeout"),
    param(hang, id="hang"),
    param(refuse, id="refused"),
    param(lambda user, n: HTML, id="html"),
    param(lambda user, n: Answer(body=b'{"access_token": "gar'), id="garbage"),
    param(lambda user, n: {"access_token": None}, id="no-token"),
    param(lambda user, n: [], id="no-object"),
    param(lambda user, n: exchanged("x" * 10**6, n), id="large"),
    param(
        lambda user, n: Answer(400, b'{"error": "invalid_grant"}' + b" " * 10**6), id="large-400"
    ),
    param(lambda user, n: Answer(500, b'{"error": "invalid_target"}'), id="500-with-an-error"),
    param(lambda user, n: Answer(404, b"{}"), id="404"),
    param(lambda user, n: Answer(401, b'{"error": "invalid_client"}'), id="invalid-client"),
    param(
        lambda user, n: Answer(400, b'{"error": "unauthorized_client"}'), id="unauthorized-client"
    ),
    param(lambda user, n: Answer(302, headers=HTTPHeaders({"Location": "http://x"})), id="302"),
    param(
        partial(exchanged, issued_token_type="urn:ietf:params:oauth:token-type:refresh_token"),
        id="refresh-token",
    ),
]


@pytest.mark.parametrize("rotates", [False, True])
@pytest.mark.parametrize("failing", TRANSIENT)
def test_while_the_provider_gives_nothing_what_there_is_stays_as_long_as_it_lives(
    run, failing, rotates
):
    async def scenario(world):
        provider, works = world.provider, world.provider.exchange
        assert await world.value() == "alice-x1"
        provider.exchange = failing
        login = world.login(1) if rotates else None
        await asyncio.sleep(LIFE - 300)
        values = await world.poll(299, login)
        assert {*values} == {"alice-x1"}
        await asyncio.sleep(2)
        asked = len(provider.exchanges["alice"])
        assert {*await world.poll(600, login)} == {FAILED}
        assert 6 <= len(provider.exchanges["alice"]) - asked <= 22
        provider.exchange = works
        n = len(provider.exchanges["alice"]) + 1
        assert (await world.poll(90, login))[-1] == f"alice-x{n}"
        counted = {sample.labels["status"] for sample in EXCHANGES.collect()[0].samples}
        assert counted == {*EXCHANGE_STATUSES}

    run(scenario)


@pytest.mark.parametrize("status", [200, 400, 403])
@pytest.mark.parametrize(
    "code",
    [
        *("invalid_target", "invalid_scope", "access_denied", "invalid_request", "invalid_grant"),
        *("interaction_required", "invalid_token"),
    ],
)
def test_what_the_provider_denies_is_withheld_at_once_and_asked_for_ever_later(run, code, status):
    denied = Answer(status, f'{{"error": "{code}"}}'.encode())

    async def scenario(world):
        provider, works = world.provider, world.provider.exchange
        assert await world.value() == "alice-x1"
        provider.exchange = lambda user, n: denied
        await asyncio.sleep(LIFE - 300)
        found = (await world.ask())["eos"]
        assert (found.value, found.reason, found.detail) == (None, DENIED, code)
        provider.exchange = lambda user, n: Answer(503)
        assert await world.value(world.login(1)) is FAILED  # the old one does not come back
        provider.exchange = lambda user, n: denied
        await asyncio.sleep(61)
        assert {*await world.poll(LIFE)} == {DENIED}
        assert 10 <= len(provider.exchanges["alice"]) <= 26
        asked = len(provider.exchanges["alice"])
        assert await world.value(world.login(1)) is DENIED  # another subject, at once
        assert len(provider.exchanges["alice"]) == asked + 1
        provider.exchange = works
        assert (await world.poll(700, world.login(1)))[-1].startswith("alice-x")

    run(scenario)


def test_a_denial_for_a_subject_that_was_rotated_meanwhile_takes_nothing_away(run):
    async def exchange(user, n):
        await asyncio.sleep(1)
        return Answer(400, b'{"error": "invalid_request"}') if n == 2 else exchanged(user, n)

    async def scenario(world):
        assert await world.value() == "alice-x1"
        await asyncio.sleep(LIFE - 300)
        assert await world.value(waits=False) == "alice-x1"  # it is asked for
        await asyncio.sleep(0.5)
        values = await world.poll(60, world.login(1))
        assert world.provider.subjects("alice") == ["alice-a0", "alice-a0", "alice-a1"]
        assert [*dict.fromkeys(values)] == ["alice-x1", "alice-x3"]

    run(scenario, Provider(exchange=exchange))


def test_a_request_goes_on_though_those_who_wait_are_cancelled_or_wait_no_longer(run):
    async def scenario(world):
        first = asyncio.ensure_future(world.ask())
        second = asyncio.ensure_future(world.ask())
        await asyncio.sleep(0.5)
        first.cancel()
        found = (await world.ask(seconds=1))["eos"]
        assert (found.reason, found.detail, found.due_at) == (FAILED, "no answer yet", math.inf)
        assert world.changes == [] and first.cancelled()
        assert (await second)["eos"].value == "alice-x1"
        assert await world.value() == "alice-x1" and world.changes == [world.user]
        assert len(world.provider.exchanges["alice"]) == 1

    run(scenario, Provider(exchange=exchange_in(5)))


def test_a_request_for_the_last_subject_is_waited_for_before_the_next_one(run):
    async def scenario(world):
        first = asyncio.ensure_future(world.value())
        await asyncio.sleep(0.5)
        assert await world.value(world.login(1)) == "alice-x2"
        assert await first in ("alice-x1", "alice-x2")
        assert world.provider.subjects("alice") == ["alice-a0", "alice-a1"]

    run(scenario, Provider(exchange=exchange_in(2)))


def test_after_the_clock_was_set_back_it_is_exchanged_again(run):
    async def scenario(world):
        await world.ask()
        await asyncio.sleep(LIFE / 2)
        world.clocks.set_by = -LIFE / 2
        assert await world.value() == "alice-x2"
        assert await world.value() == "alice-x2"

    run(scenario)


def test_a_subject_that_has_ended_is_not_sent(run):
    async def scenario(world):
        now = int(world.clocks.hub())
        answer = {"access_token": "alice-a0", "expires_in": 100, "created_at": now}
        login = world.login(token_response=answer)
        assert await world.value(login) == "alice-x1"
        await asyncio.sleep(LIFE - 1)
        found = (await world.ask(login))["eos"]
        assert found.value == "alice-x1" and found.due_at == found.lifetime.expires_at
        await asyncio.sleep(2)
        found = (await world.ask(login))["eos"]
        assert (found.reason, found.due_at) == (FAILED, math.inf) and "has expired" in found.detail
        assert len(world.provider.exchanges["alice"]) == 1

    run(scenario)


CHAIN = {
    "first": {"exchange": {"audience": "a"}},
    "eos": {"exchange": {"audience": "b", "of": "first"}},
}


def test_a_chain_exchanges_what_the_first_exchange_gave_and_outlives_its_failures(run):
    async def scenario(world):
        found = await world.ask()
        assert (found["first"].value, found["eos"].value) == ("alice-x1", "alice-x2")
        assert world.provider.subjects("alice") == ["alice-a0", "alice-x1"]
        world.provider.exchange = lambda user, n: Answer(503)
        await asyncio.sleep(LIFE - 301)
        assert await world.value(world.login(1)) == "alice-x2"
        await asyncio.sleep(302)
        found = (await world.ask(world.login(1)))["eos"]
        assert found.reason is FAILED and found.due_at < world.clocks.hub() + 61
        world.provider.exchange = lambda user, n: Answer(400, b'{"error": "invalid_target"}')
        await asyncio.sleep(61)
        assert await world.value(world.login(1)) is DENIED

    run(scenario, tokens=CHAIN)


@pytest.mark.parametrize("tokens", [EOS, CHAIN])
def test_what_was_exchanged_for_another_user_or_a_login_that_is_gone_is_not_given(run, tokens):
    works = [True]

    def exchange(user, n):
        return exchanged("alice", n) if works[0] else Answer(503)

    async def scenario(world):
        logins = [Login({"access_token": jwt(sub=each)}) for each in ("1", "2")]
        first = await world.value(logins[0])
        works[0] = False
        assert await world.value(logins[1]) is FAILED
        assert await world.value(logins[0]) == first
        gone = Login(reason=Reason.NEVER_STORED)
        assert await world.ask(gone) == {}
        assert await world.value(logins[0]) is FAILED

    run(scenario, Provider(exchange=exchange), tokens)


@pytest.mark.parametrize("authenticator", [DummyAuthenticator, GenericOAuthenticator])
def test_where_nobody_can_be_asked_the_words_say_so(run, authenticator, caplog):
    async def scenario(world):
        found = (await world.ask())["eos"]
        assert found.reason is FAILED and "is not an OAuthenticator" in found.detail
        assert caplog.text.count("Could not exchange the token eos of alice: the auth") == 1
        await asyncio.sleep(60)
        await world.ask()
        assert caplog.text.count("Could not exchange") == 1

    run(scenario, authenticator=authenticator())


@pytest.mark.parametrize("code", [*blocks("python", "howto/exchange")])
def test_each_example_of_the_documentation_asks_its_provider(run, code, tmp_path):
    config = load(code, tmp_path)
    name = config.JupyterHub.get("authenticator_class", GenericOAuthenticator)
    config.OAuthenticator.token_url = "http://provider/token"  # of the example that has no login
    authenticator = {"azuread": AzureAdOAuthenticator}.get(name, name)(config=config)

    async def scenario(world):
        authenticator.http_client = world.provider
        found = await world.ask()
        assert {*found} == {*config.TokenSpawnerMixin.tokens}
        requests = world.provider.exchanges["alice"]
        assert {each.url for each in requests} == {authenticator.token_url}
        assert len({each.value for each in found.values()}) == len(requests) == len(found)

    run(scenario, tokens=config.TokenSpawnerMixin.tokens, authenticator=authenticator)


def test_few_are_asked_for_at_a_time_a_spawn_first_and_another_provider_delays_none(run):
    order, asking, most = [], set(), []

    async def exchange(user, n):
        order.append(user)
        asking.add(user)
        most.append(len(asking))
        await asyncio.sleep(1e6 if user.startswith("slow") else 0.9)
        asking.discard(user)
        return exchanged(user, n)

    def ask_for_all(world, names):
        """All but the last one while they run, and the last one for a spawn."""
        for name in names:
            login = Login({"access_token": f"{name}-a0"})
            asking = world.ask(login, user=User(name), waits=name is names[-1])
            yield asyncio.ensure_future(asking)

    async def scenario(world):
        names = [f"user{n}" for n in range(32)]
        *_, last = ask_for_all(world, names)
        assert (await last)["eos"].value == "user31-x1" and order.index("user31") == 20
        await asyncio.sleep(3)
        assert {*order} == {*names} and max(most) == 20

        *_, last = ask_for_all(world, [*(f"slow{n}" for n in range(40)), "quick"])
        assert (await asyncio.wait_for(last, 2.1))["eos"].value == "quick-x1"

        await asyncio.sleep(2)
        elsewhere = {"eos": {"exchange": {"audience": "a", "token_url": "http://slow/token"}}}
        slow = World(world.provider, world.clocks, elsewhere)
        slow.exchanges = world.exchanges
        tasks = [*ask_for_all(slow, [f"slow{n}" for n in range(20, 60)])]
        assert await asyncio.wait_for(world.value(), 1) == "alice-x1"
        tasks[-1].cancel()

    run(scenario, Provider(exchange=exchange))


def test_a_provider_of_several_that_does_not_answer_delays_the_retries_of_no_other(run):
    async def exchange(user, n):
        if "slow" in user:
            await asyncio.sleep(1e6)
        return Answer(503) if n == 1 else exchanged(user, n)

    several, provider = DummyAuthenticator(), Provider(exchange=exchange)
    several.held = []
    for name in ("slow", "quick"):
        each = provider.settings(token_url=f"http://{name}/token")
        base = each["JupyterHub.authenticator_class"]
        base.username_prefix = f"{name}:"
        traits = {key.partition(".")[2]: value for key, value in each.items() if "OAuth" in key}
        several.held.append(base(**traits))

    async def scenario(world):
        names = [f"slow:{n}" for n in range(9)]
        slow = [(Login({"access_token": f"{name}-a0"}), User(name)) for name in names]
        await asyncio.gather(*(world.ask(login, user=user, seconds=22) for login, user in slow))
        await asyncio.sleep(2)
        tasks = [asyncio.ensure_future(world.ask(login, user=user)) for login, user in slow]
        quick, login = User("quick:bob"), Login({"access_token": "quick:bob-a0"})
        assert await world.value(login, user=quick) is FAILED
        await asyncio.sleep(2)
        assert await world.value(login, user=quick, seconds=1) == "quick:bob-x2"
        assert len(tasks) == len([each for each in tasks if not each.done()])

    run(scenario, provider, authenticator=several)


def test_what_is_dead_when_it_comes_is_asked_for_ever_later(run):
    async def scenario(world):
        await world.poll(LIFE)
        assert 10 <= len(world.provider.exchanges["alice"]) <= 24

    run(scenario, Provider(exchange=partial(exchanged, expires_at=1.0, expires_in=None)))


def test_a_life_is_never_shorter_than_a_second_for_the_provider(run):
    async def scenario(world):
        await world.poll(100)
        assert len(world.provider.exchanges["alice"]) <= 101

    run(scenario, Provider(exchange=partial(exchanged, expires_in=0.5)))


def test_an_end_that_is_too_late_for_a_date_is_no_reason_to_ask_again(run):
    async def scenario(world):
        await asyncio.sleep(0.5)
        until_9999 = jwt(iat=int(world.clocks.hub()), exp=253402300799)
        world.provider.exchange = partial(exchanged, expires_in=None, access_token=until_9999)
        assert {*await world.poll(100)} == {until_9999}
        assert len(world.provider.exchanges["alice"]) == 1

    run(scenario)


def test_what_nobody_asks_for_any_more_is_forgotten(run):
    async def scenario(world):
        for n in range(150):
            world.specs = parse_tokens({"eos": {"exchange": {"audience": str(n)}}}, files=True)
            await world.ask()
        assert len(world.exchanges._users[world.user].known) == 100
        many = {f"t{n}": {"exchange": {"audience": str(n)}} for n in range(120)}
        world.specs = parse_tokens(many, files=True)
        await world.ask()
        asked = len(world.provider.exchanges["alice"])
        await world.ask()
        assert len(world.provider.exchanges["alice"]) == asked

    run(scenario)


def test_neither_the_tokens_nor_the_secret_are_in_the_log(run, debug_log):
    tokens = {"eos": {"exchange": {"audience": "eos", **OWN, "client_secret": "s3cret"}}}
    echoes = b'{"error": "invalid_%s", "error_description": "alice-a0 and s3cret"}'
    answers = [
        Answer(400, echoes % b"alice-a0"),
        Answer(400, echoes % b"grant"),
        Answer(500, b"alice-a0 s3cret"),
        Answer(200, b"alice-a0 s3cret"),
        Answer(200, echoes % b"x"),
        Answer(200, b'{"access_token": "alice-x1", "expires_in": 1000}'),
    ]

    async def scenario(world):
        found = []
        for n, answer in enumerate(answers):
            world.provider.exchange = lambda user, n, answer=answer: answer
            found += (await world.ask(world.login(n))).values()
            await asyncio.sleep(700)
        assert found[-1].value == "alice-x1"
        for each in (debug_log.text, repr(found), repr(world.specs), repr(world.login())):
            assert "s3cret" not in each and "alice-" not in each
        assert debug_log.text.count("Could not exchange the token eos of alice") >= 3

    run(scenario, tokens=tokens)
