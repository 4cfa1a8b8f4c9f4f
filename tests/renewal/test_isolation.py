"""Each user by themselves: what hangs or fails for many users does not delay another one."""

import asyncio
from contextlib import contextmanager
from functools import partial

import pytest
from jupyterhub.auth import Authenticator
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.oauth2 import OAuthenticator
from sqlalchemy import event
from sqlalchemy.exc import DataError
from tornado.httpclient import AsyncHTTPClient
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.renewal import schedule
from spawner_tokens.renewal.places import Places

from ..support.faults import Answer
from ..support.scripted import Provider, login, shown, tokens
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner
OTHERS = [f"other{number}" for number in range(70)]


def short(user, n):
    return tokens(user, n, expires_in=4)


def held(user):
    """What the file of a user's server holds; ``None`` if it is not there yet."""
    try:
        return shown(user)
    except FileNotFoundError:
        return None


async def start_all(hub, auth_state, names):
    """Users with running servers, without processes of theirs."""
    users = {}
    for name in names:
        user = users[name] = await hub.user(name, auth_state(name))
        hub.spawner(user).start_polling()
    return users


async def test_hooks_of_the_login_that_hang_delay_nobody_else(start_hub):
    async def hook(authenticator, user, auth_state):
        if user.name != "alice":
            await asyncio.Event().wait()

    hub = await start_hub(SIMPLE, Provider(short).settings(refresh_user_hook=hook))
    await start_all(hub, lambda name: login(name, -10), OTHERS)
    await see_alice_renewed(hub)


async def see_alice_renewed(hub):
    users, seen = await start_all(hub, lambda name: login(name, -10), ["alice"]), []

    def is_renewed_thrice():
        if (token := held(users["alice"])) not in (None, *seen):
            seen.append(token)
        return len(seen) > 3

    await until(is_renewed_thrice, 60)


async def test_a_provider_that_does_not_answer_for_others_does_not_keep_a_user_waiting(start_hub):
    async def grant(user, n):
        return short(user, n) if user == "alice" else await asyncio.Event().wait()

    hub = await start_hub(SIMPLE, Provider(grant).settings())
    await start_all(hub, lambda name: login(name, -10), OTHERS[:20])
    await see_alice_renewed(hub)


async def test_a_provider_that_does_not_answer_delays_nobody_of_another_one(start_hub, monkeypatch):
    monkeypatch.setattr(schedule, "_RENEWAL_TIME", 3600.0)
    one, two = Provider(lambda user, n: asyncio.Event().wait()), Provider(short)
    classes = [each.settings()["JupyterHub.authenticator_class"] for each in (one, two)]
    classes[0].username_prefix, classes[1].username_prefix = "1:", "2:"

    class Both(Authenticator):
        def __init__(self, **arguments):
            super().__init__(**arguments)
            self.held = [provider_class(parent=self) for provider_class in classes]

    own = {"JupyterHub.authenticator_class": Both, "Authenticator.enable_auth_state": True}
    hub = await start_hub(SIMPLE, one.settings() | own)
    await start_all(hub, lambda name: login(name, -10), [f"1:{name}" for name in OTHERS[:30]])
    await until(lambda: len(one.grants) >= 20)
    users = await start_all(hub, lambda name: login(name, -10), ["2:alice"])
    await until(lambda: held(users["2:alice"]) == "2:alice-a1")


class Sharing(GenericOAuthenticator):
    """Uses the Hub's HTTP client, as all do but this one."""

    http_client = OAuthenticator.http_client
    _default_http_client = OAuthenticator._default_http_client


async def test_a_user_who_has_failed_once_is_renewed_though_all_other_retries_hang(start_hub):
    async def grant(user, n):
        if n == 1:
            return Answer(503)
        return short(user, n) if user == "alice" else await asyncio.Event().wait()

    hub = await start_hub(SIMPLE, Provider(grant).settings())
    await start_all(hub, lambda name: login(name, -10), OTHERS[:8])
    await see_alice_renewed(hub)


class Fixed(AsyncHTTPClient):
    """Its places are those of its start, as of the client by curl, which JupyterHub prefers."""

    def initialize(self, max_clients=10, defaults=None):
        super().initialize(defaults)
        self._client = SimpleAsyncHTTPClient(force_instance=True, max_clients=max_clients)

    def fetch_impl(self, request, callback):
        self._client.fetch_impl(request, callback)


@pytest.mark.parametrize(
    ("authenticator", "client"),
    [(GenericOAuthenticator, None), (GenericOAuthenticator, Fixed), (Sharing, None)],
)
async def test_requests_without_an_answer_take_no_place_of_the_hubs_client(
    start_hub, request, authenticator, client
):
    request.addfinalizer(partial(AsyncHTTPClient.configure, None))
    AsyncHTTPClient.configure(client)
    asked, over = [], asyncio.Event()

    async def hang(reader, writer):
        try:
            asked.append(await reader.readline())
            await over.wait()
        finally:
            writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1") as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/token"
        own = {"JupyterHub.authenticator_class": authenticator}
        hub = await start_hub(SIMPLE, Provider().settings(token_url=url) | own)
        await start_all(hub, lambda name: login(name, -10), OTHERS[:12])
        await until(lambda: len(asked) == 12, 30)
        await asyncio.wait_for(AsyncHTTPClient().fetch(hub.api), 30)
        over.set()


async def test_tokens_hooks_that_hang_delay_no_other_delivery(start_hub):
    hangs = set()

    async def hook(spawner, auth_state, tokens):
        if spawner.user.name in hangs:
            await asyncio.Event().wait()
        return tokens

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(SIMPLE, settings)
    users = await start_all(hub, login, [*OTHERS, "alice"])
    await until(lambda: held(users["alice"]) == "alice-a0")
    hangs.update(OTHERS)
    for name in OTHERS:
        await users[name].save_auth_state(login(name, n=1))
    await asyncio.sleep(0)
    await users["alice"].save_auth_state(login("alice", n=1))
    await until(lambda: held(users["alice"]) == "alice-a1", 20)  # a delivery may take 30 seconds


async def test_deliveries_that_hang_delay_no_other(start_hub):
    hangs = set()

    class Spawner(SIMPLE):
        async def deliver_files(self, files):
            if self.user.name in hangs:
                await asyncio.Event().wait()
            await super().deliver_files(files)

    hub = await start_hub(Spawner, {"TokenSpawnerMixin.tokens": {"t": {}}})
    users = await start_all(hub, login, [*OTHERS[:40], "alice"])
    await until(lambda: all(map(held, users.values())))
    hangs.update(OTHERS)
    for name in users:  # she is the last
        await users[name].save_auth_state(login(name, n=1))
    await until(lambda: held(users["alice"]) == "alice-a1", 20)


@contextmanager
def refusing(engine, names):
    """The database refuses what is stored for these users, as a column does that is too short."""
    refused = []

    def refuse(connection, cursor, statement, parameters, context, many):
        if (
            statement.startswith("UPDATE users SET encrypted_auth_state")
            and parameters[-1] in names
        ):
            refused.append(parameters[-1])
            raise DataError("SQL", {}, Exception("value too long"))

    event.listen(engine, "before_cursor_execute", refuse)
    try:
        yield refused
    finally:
        event.remove(engine, "before_cursor_execute", refuse)


async def test_what_the_database_cannot_store_is_not_tried_for_ever(start_hub, caplog):
    provider = Provider(short)
    hub = await start_hub(SIMPLE, provider.settings())
    others = await start_all(hub, lambda name: login(name, 3600), OTHERS[:10])
    users = await start_all(hub, lambda name: login(name, 3600), ["alice"])
    ids = {user.orm_user.id for user in others.values()}
    for name, user in others.items():
        await user.save_auth_state(login(name, -10))
    with refusing(hub.app.db.get_bind(), ids) as refused:
        await users["alice"].save_auth_state(login("alice", -10))
        await until(lambda: held(users["alice"]) == "alice-a1")
        await until(lambda: len(set(refused)) == len(others))
    assert "(MISCONFIGURED" not in caplog.text and "DataError" in caplog.text


async def test_work_that_failed_before_has_only_some_of_the_places():
    places, begun, over = Places(3, 2), [], asyncio.Event()

    async def work(name, is_retry):
        async with places.take(is_retry=is_retry):
            begun.append(name)
            await over.wait()

    tasks = [asyncio.create_task(work("failing", True)) for _ in range(9)]
    await until(lambda: len(begun) == 2)
    tasks.append(asyncio.create_task(work("healthy", False)))
    await until(lambda: begun == ["failing", "failing", "healthy"])
    over.set()
    await asyncio.gather(*tasks)
    assert len(begun) == 10


pytestmark = pytest.mark.timeout(100)
