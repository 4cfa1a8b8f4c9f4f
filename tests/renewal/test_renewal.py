"""Renewal in a real Hub with a real provider: at spawns, in servers, and when the Hub asks."""

import asyncio
import json
import math
import os
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from tornado.httpclient import AsyncHTTPClient

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.tokens.lifetime import Lifetime

from ..support import faults
from ..support.browser import Browser
from ..support.hub import Server
from ..support.oauth import (
    hub_settings,
    log_in,
    make_admin_token,
    make_auth_state,
    start_by_cookie,
    start_by_token,
    wait_for_server,
)
from ..support.provider import start_provider
from ..support.scripted import Provider, login, tokens
from ..support.spawners import VariablesOnly
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}


def token_file(spawner):
    return Path(spawner.tokens_directory, "t")


async def change_auth_state(hub, token, name, auth_state):
    """As a service may, by the Hub's API."""
    await AsyncHTTPClient().fetch(
        f"{hub.url}/hub/api/users/{name}",
        method="PATCH",
        headers={"Authorization": f"token {token}"},
        body=json.dumps({"auth_state": auth_state}),
    )


@pytest.fixture
async def make_provider(tmp_path):
    async with AsyncExitStack() as stack:
        yield lambda *options: stack.enter_async_context(start_provider(tmp_path, *options))


async def differs(file, text):
    return file.read_text() != text


@pytest.mark.parametrize(
    "way, options",
    [
        ("cookie", []),
        ("own API token", ["--single-threaded", "--reuse-protection"]),
        ("admin's API token", ["--single-threaded", "--reuse-protection"]),
    ],
    ids=["cookie", "own API token", "admin's API token"],
)
async def test_spawns_at_once_after_the_end_of_a_token_make_one_request(
    start_hub, make_provider, way, options
):
    provider = await make_provider("--token-lifetime", "3600", *options)
    hub = await start_hub(
        SIMPLE, hub_settings(provider) | TOKENS | {"JupyterHub.concurrent_spawn_limit": 0}
    )
    hub.spawner(await hub.user("somebody"))  # from here on, a login's token gets its time
    browser = Browser(hub.url)
    alice = await log_in(hub, browser, provider, "alice")
    auth_state = await alice.get_auth_state()
    old = auth_state["access_token"]
    auth_state["token_response"]["created_at"] -= 3600
    await alice.save_auth_state(auth_state)

    names = [f"s{i}" for i in range(5)]
    start = {
        "cookie": lambda: partial(start_by_cookie, hub, browser),
        "own API token": lambda: partial(start_by_token, hub, alice.new_api_token()),
        "admin's API token": lambda: partial(start_by_token, hub, make_admin_token(hub)),
    }[way]()
    asked = await asyncio.gather(*(start("alice", name) for name in names))
    assert {status for status, _ in asked} <= {201, 202, 302}
    assert all(await asyncio.gather(*(wait_for_server(hub, "alice", name) for name in names)))
    servers = [Server(alice.spawners[name]) for name in names]
    held = {(await server.files())["t"] for server in servers} | {
        (await server.env())["T"] for server in servers
    }
    [token] = held
    assert token.decode() != old and await provider.is_live(token.decode())
    assert provider.grants() == 1
    auth_state = await alice.get_auth_state()
    assert provider.knows_refresh_token(auth_state["refresh_token"])
    home = await browser.fetch("/hub/home")
    assert home.code == 200 and home.effective_url == f"{hub.url}/hub/home"


async def test_checks_at_once_are_one_request(start_hub, make_provider):
    provider = await make_provider()
    async with faults.FaultyProxy(provider.url) as proxy:
        hub = await start_hub(SIMPLE, hub_settings(provider, proxy.url) | TOKENS)
        alice = await hub.user("alice")
        hub.spawner(alice)  # from here on, logins are seen
        await log_in(hub, Browser(hub.url), provider, "alice")
        before = len(proxy.requests)
        gate = faults.Gate()
        proxy.on("/userinfo/", faults.hold_after(gate))
        checks = [asyncio.create_task(hub.app.authenticator.refresh_user(alice)) for _ in range(10)]
        await gate.reached.wait()
        gate.open()
        assert await asyncio.gather(*checks) == [True] * 10
        assert proxy.requests[before:] == [("GET", "/userinfo/", "hold_after")]


@pytest.mark.parametrize(
    "settings",
    [{}, {"Authenticator.auth_refresh_age": 0}, {"Authenticator.refresh_pre_spawn": False}],
    ids=["defaults", "auth_refresh_age = 0", "refresh_pre_spawn = False"],
)
async def test_a_token_that_would_end_soon_is_renewed_before_it_is_handed_over(start_hub, settings):
    provider = Provider(lambda user, n: tokens(user, n, expires_in=500))
    hub = await start_hub(SIMPLE, provider.settings() | settings)
    alice = await hub.user("alice")
    hub.spawner(alice)
    # 300 are asked for, but never more than half of its life.
    for left, token in ((270, "alice-a0"), (249, "alice-a1")):
        answer = tokens("alice", 0, expires_in=500, created_at=time.time() - 500 + left)
        await alice.save_auth_state(make_auth_state("alice", answer))
        assert await (await hub.spawn(alice)).token() == token.encode()
        assert len(provider.grants["alice"]) == (token != "alice-a0")
        await alice.stop("")


async def test_whoever_saves_the_auth_state_all_running_servers_see_it(start_hub):
    hub = await start_hub(SIMPLE, TOKENS)
    alice = await hub.user("alice", {"access_token": "one", "n": 1})
    files = []
    for name in ("a", "b"):
        await hub.spawn(alice, name)
        files.append(token_file(alice.spawners[name]))
    bob = await hub.user("bob", {"access_token": "bob's"})
    await hub.spawn(bob)

    async def shows(text):
        return [file.read_text() for file in files] == [text] * 2

    await alice.save_auth_state({"access_token": "two"})
    await until(partial(shows, "two"))
    await change_auth_state(hub, make_admin_token(hub), "alice", {"access_token": "three"})
    await until(partial(shows, "three"))
    assert token_file(bob.spawners[""]).read_text() == "bob's"


async def test_nothing_is_written_when_nothing_changed_and_what_the_login_no_longer_gives_goes(
    start_hub, caplog
):
    hub = await start_hub(SIMPLE, TOKENS)
    alice = await hub.user("alice", {"access_token": "one"})
    server = await hub.spawn(alice)
    file = token_file(alice.spawners[""])
    inode = os.stat(file).st_ino
    for _ in range(3):
        await alice.save_auth_state({"access_token": "one"})
    await alice.save_auth_state({"access_token": "one", "groups": ["g"]})
    await hub.spawn(alice, "later")  # and so all that was to be done has been done
    assert os.stat(file).st_ino == inode
    await alice.save_auth_state({"access_token": "two"})

    await until(partial(differs, file, "one"))
    assert os.stat(file).st_ino != inode
    await alice.save_auth_state({"other": "x"})
    await until(lambda: "alice: token t: not in auth_state" in caplog.text)  # at last
    assert await server.token() is None
    assert b'"status": "absent"' in await server.token("t.json")


async def test_without_token_renew_nothing_is_wrapped_and_nothing_is_renewed(start_hub):
    provider = Provider()
    hub = await start_hub(SIMPLE, provider.settings() | {"TokenSpawnerMixin.tokens_renew": False})
    alice = await hub.user("alice", login("alice", left=-10))
    server = await hub.spawn(alice)
    assert not {"refresh_user", "get_token_info", "httpfetch"} & vars(hub.app.authenticator).keys()
    await alice.save_auth_state(login("alice", n=5))
    assert await server.token() == b"alice-a0" and not provider.grants


async def test_a_server_with_variables_alone_is_renewed_for_at_its_start_and_no_more(start_hub):
    provider = Provider(lambda user, n: tokens(user, n, expires_in=1))
    hub = await start_hub(VariablesOnly, provider.settings() | TOKENS)
    alice = await hub.user("alice", login("alice", left=-10))
    assert (await (await hub.spawn(alice)).env())["T"] == b"alice-a1"
    end = time.monotonic() + 1.5
    await until(lambda: time.monotonic() > end)
    assert len(provider.grants["alice"]) == 1
    await alice.stop("")
    assert (await (await hub.spawn(alice)).env())["T"] == b"alice-a2"
    assert len(provider.grants["alice"]) == 2


async def test_a_restarted_hub_renews_what_an_override_asked_for(start_hub, make_provider):
    provider = await make_provider("--token-lifetime", "3")

    def add(spawner):
        spawner.tokens = {"t": {}}

    settings = hub_settings(provider) | {"TokenSpawnerMixin.tokens": {}}
    hub = await start_hub(SIMPLE, settings | {"Spawner.pre_spawn_hook": add})
    alice = await hub.user("alice")
    await alice.save_auth_state(make_auth_state("alice", await provider.log_in("alice")))
    await hub.spawn(alice)
    file = token_file(alice.spawners[""])
    hub.http.stop()
    alice.spawners[""].stop_polling()  # this Hub is no more
    token = file.read_text()
    await start_hub(SIMPLE, settings | hub_settings(provider, callback=1))

    await until(partial(differs, file, token))
    await until(lambda: provider.is_live(file.read_text()))  # just now, it may be renewed again
    await alice.stop("")  # its process is a child of ours


@pytest.mark.parametrize("spread", [0, 0.5, 1])
@pytest.mark.parametrize(
    "total, min_lifetime, delay, begin",
    [
        pytest.param(7200, 300, 0, 5040, id="GitLab"),
        pytest.param(300, 300, 0, 150, id="Keycloak"),
        pytest.param(20, 300, 0, 10, id="very short"),
        pytest.param(300, 60, 90, 180, id="the kubelet's pace"),
        pytest.param(86400, 300, 0, 60480, id="a day"),
    ],
)
def test_a_token_is_renewed_in_its_last_part_but_not_in_its_first_half(
    total, min_lifetime, delay, begin, spread
):
    at = Lifetime(0, total, total).stale_at(min_lifetime, delay, spread)
    assert at == pytest.approx(begin + spread * total / 10)
    assert total / 2 <= at <= total * 0.8


def test_a_token_of_unknown_age_is_stale_and_one_without_an_end_never():
    unknown = Lifetime(total=60)
    assert unknown.stale_at(300, 0, 1) == unknown.short_at(300) == -math.inf
    for endless in (Lifetime(), Lifetime(issued_at=1)):
        assert endless.stale_at(300, 0, 1) == endless.short_at(300) == math.inf
    ending = Lifetime(expires_at=1000)
    assert ending.stale_at(300, 90, 0) == ending.short_at(300) == 700
