"""The tests' own tools: a Hub with logins, a provider that counts, a network with faults."""

import asyncio
import json

import pytest
from tornado.httpclient import HTTPError

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support import faults
from ..support.browser import Browser
from ..support.hub import Server
from ..support.oauth import (
    hub_settings,
    log_in,
    make_admin_token,
    start_by_cookie,
    start_by_token,
    wait_for_server,
)
from ..support.provider import request, start_provider


@pytest.fixture
async def provider(tmp_path):
    async with start_provider(tmp_path) as provider:
        yield provider


@pytest.fixture
async def proxy(provider):
    async with faults.FaultyProxy(provider.url) as proxy:
        yield proxy


async def test_a_login_and_the_three_ways_to_start_a_server(provider, proxy, start_hub):
    settings = hub_settings(provider, proxy.url) | {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    browser = Browser(hub.url)
    alice = await log_in(hub, browser, provider, "alice")
    auth_state = await alice.get_auth_state()
    assert provider.knows_refresh_token(auth_state["refresh_token"])
    assert await provider.is_live(auth_state["access_token"])
    assert proxy.requests == [("POST", "/o/token/", 200), ("GET", "/userinfo/", 200)]

    assert await start_by_cookie(hub, browser, "alice", "a") == (302, "/hub/spawn-pending/alice/a")
    assert await start_by_token(hub, alice.new_api_token(), "alice", "b") == (201, None)
    assert await start_by_token(hub, make_admin_token(hub), "alice", "c") == (201, None)
    for name in "abc":
        assert await wait_for_server(hub, "alice", name)
        env = await Server(alice.spawners[name]).env()
        assert await provider.is_live(env["T"].decode())


async def test_a_login_without_a_hub_and_what_becomes_of_its_tokens(tmp_path):
    async with start_provider(tmp_path, "--token-lifetime", "2", "--reuse-protection") as provider:
        first = await provider.log_in("alice")
        assert await provider.is_live(first["access_token"])
        while await provider.is_live(first["access_token"]):
            await asyncio.sleep(0.05)
        second = json.loads((await provider.refresh(first["refresh_token"])).body)
        assert await provider.is_live(second["access_token"])
        assert not provider.knows_refresh_token(first["refresh_token"])
        assert provider.knows_refresh_token(second["refresh_token"])
        assert provider.grants() == 1
        assert (await provider.refresh(first["refresh_token"])).code == 400
        assert not provider.knows_refresh_token(second["refresh_token"])
        third = await provider.log_in("alice")
        await provider.revoke(third["refresh_token"])
        assert not await provider.is_live(third["access_token"])
        assert await provider.token_requests() == {200: 3, 400: 1}
        assert provider.grants() == 1


@pytest.fixture
def refresh(provider, proxy):
    """Refresh through the proxy."""

    async def refresh(refresh_token):
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        credentials = {"auth_username": provider.client_id, "auth_password": provider.client_secret}
        return await request(f"{proxy.url}/o/token/", form=form, **credentials)

    return refresh


async def test_faults_that_keep_a_request_from_the_provider(provider, proxy, refresh):
    token = (await provider.log_in("alice"))["refresh_token"]
    proxy.on("/userinfo/", faults.drop_before)
    proxy.on("/o/token/", faults.drop_before)
    proxy.on("/o/", faults.status(503, b"later", {"Retry-After": "7"}))
    proxy.on("/o/token/", faults.garbage_before)
    with pytest.raises(HTTPError):
        await refresh(token)
    answer = await refresh(token)
    assert (answer.code, answer.body, answer.headers["Retry-After"]) == (503, b"later", "7")
    with pytest.raises(ValueError):
        json.loads((await refresh(token)).body)
    assert provider.knows_refresh_token(token)
    assert (await refresh(token)).code == 200
    assert [result for _, _, result in proxy.requests] == [
        "drop_before",
        "status",
        "garbage_before",
        200,
    ]
    assert proxy.count("/o/token/") == 4


async def test_faults_after_the_provider_has_answered(provider, proxy, refresh):
    lost, garbled, altered, held = [
        (await provider.log_in("alice"))["refresh_token"] for _ in range(4)
    ]
    proxy.on("/o/token/", faults.drop_after)
    with pytest.raises(HTTPError):
        await refresh(lost)
    proxy.on("/o/token/", faults.garbage_after)
    with pytest.raises(ValueError):
        json.loads((await refresh(garbled)).body)
    proxy.on("/o/token/", faults.replace_answer(lambda answer: {"error": "bad_refresh_token"}))
    assert json.loads((await refresh(altered)).body) == {"error": "bad_refresh_token"}

    gate = faults.Gate()
    proxy.on("/o/token/", faults.hold_after(gate))
    waiting = asyncio.create_task(refresh(held))
    await gate.reached.wait()
    assert provider.grants() == 4
    assert not any(map(provider.knows_refresh_token, (lost, garbled, altered, held)))
    assert not waiting.done()
    gate.open()
    assert provider.knows_refresh_token(json.loads((await waiting).body)["refresh_token"])


async def test_a_provider_that_is_down_and_comes_back(tmp_path):
    async with start_provider(tmp_path) as before:
        token = (await before.log_in("alice"))["refresh_token"]
    async with faults.FaultyProxy(before.url) as proxy:
        with pytest.raises(HTTPError):
            await request(proxy.url)
    assert before.knows_refresh_token(token)
    async with start_provider(tmp_path) as after:
        assert after.callbacks == before.callbacks
        assert (await after.refresh(token)).code == 200
