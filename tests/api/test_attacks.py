"""Who must not get a token, and gets none."""

import asyncio
import gc
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from jupyterhub import orm
from jupyterhub.utils import hash_token
from tornado.simple_httpclient import HTTPStreamClosedError

from ..support.oauth import make_admin_token
from ..support.pulling import PULL, ask, restarted
from ..support.scripted import Provider, login, tokens
from ..support.spawners import VariablesOnly
from ..support.waiting import until
from ..tokens.test_selection import jwt

TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}


async def start_servers(hub, username, *names):
    """Servers of one user, and their own tokens by the servers' names."""
    user = await hub.user(username, login(username))
    for name in names:
        await hub.spawn(user, name)
    return user, {name: user.spawners[name].api_token for name in names}


async def test_only_a_servers_own_token_gets_a_token_and_only_its_own(start_hub):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    alice, own = await start_servers(hub, "alice", "", "stopped")
    hub.app.config.TokenSpawnerMixin.tokens = {"u": {"env": "U"}}
    bob, others = await start_servers(hub, "bob", "")
    _, named = await start_servers(hub, "alice", "named")
    await alice.stop("stopped")
    # each server has what it was started with, and of its own user
    for token, name, expected in (
        (own[""], "t", "alice-a0"),
        (others[""], "u", "bob-a0"),
        (named["named"], "u", "alice-a0"),
    ):
        assert (await ask(hub, token, name)).body["token"] == expected
        other = await ask(hub, token, {"t": "u", "u": "t"}[name])
        assert (other.code, other.body["reason"]) == (404, "unknown")
    browser = await hub.browser(alice)
    cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    client = alice.spawners[""].orm_spawner.oauth_client.identifier
    wrong = {
        "nothing": "",
        "garbage": "x" * 32,
        "long": "x" * 5000,
        "of-the-user": alice.new_api_token(),
        "of-another-user": bob.new_api_token(),
        "of-a-service": make_admin_token(hub),
        "of-a-browser": alice.new_api_token(client_id=client),
        "of-a-stopped-server": own["stopped"],
    }
    for kind, token in wrong.items():
        for name in ("", "t", "u"):
            found = await ask(hub, token, name, headers={"Cookie": cookies}, token=own[""])
            assert (found.code, found.body["reason"]) == (403, "not_a_server"), kind
    # a token that was revoked is nobody's
    hub.app.db.delete(orm.APIToken.find(hub.app.db, own[""]))
    hub.app.db.commit()
    assert (await ask(hub, own[""], "t")).code == 403


async def test_a_shared_server_gets_none_and_a_request_that_waits_is_refused_at_once(start_hub):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    alice, own = await start_servers(hub, "alice", "")
    bob = await hub.user("bob")
    known = (await ask(hub, own[""], "t")).body["renewed_at"]
    waiting = asyncio.ensure_future(ask(hub, own[""], "t", wait=60, renewed_at=known))
    await until(lambda: alice.spawners[""]._tokens_pulled._waiting)
    row = alice.spawners[""].orm_spawner
    share = orm.Share.grant(hub.app.db, row, bob.orm_user)
    # at this very moment, whatever has been seen by then
    for found in (await ask(hub, own[""], "t"), await asyncio.wait_for(waiting, 30)):
        assert (found.code, found.body["reason"]) == (403, "shared")
        assert "stop sharing" in found.body["message"]
    assert (await ask(hub, own[""])).body["t"]["status"] == "shared"
    hub.app.db.delete(share)
    hub.app.db.commit()

    async def is_given():
        return (await ask(hub, own[""], "t")).code == 200

    await until(is_given, pause=0.2)


async def test_a_share_that_is_made_in_the_moment_of_a_pull_wins(start_hub):
    def grant(username, n):  # while the Hub renews for the server that asks
        orm.Share.grant(hub.app.db, alice.spawners[""].orm_spawner, bob.orm_user)
        return tokens(username, n)

    provider = Provider(grant=grant)
    hub = await start_hub(VariablesOnly, {**provider.settings(), **TOKENS, **PULL})
    alice, own = await start_servers(hub, "alice", "")
    bob = await hub.user("bob")
    await alice.save_auth_state(login("alice", left=30))
    for _ in range(2):
        found = await ask(hub, own[""], "t")
        assert (found.code, found.body["reason"]) == (403, "shared")
    assert len(provider.grants["alice"]) == 1


async def test_a_server_that_asks_without_end_is_refused_and_costs_the_provider_one_request(
    start_hub,
):
    provider = Provider()
    hub = await start_hub(VariablesOnly, {**provider.settings(), **TOKENS, **PULL})
    user, own = await start_servers(hub, "alice", "", "other")
    await user.save_auth_state(login("alice", left=30))
    answers = await asyncio.gather(*(ask(hub, own[""], "t") for _ in range(150)))
    codes = [answer.code for answer in answers]
    assert set(codes) == {200, 429} and codes.count(200) < 100
    assert {answer.body["token"] for answer in answers if answer.code == 200} == {"alice-a1"}
    refused = next(answer for answer in answers if answer.code == 429)
    assert int(refused.headers["Retry-After"]) >= 1 and "too often" in refused.body["message"]
    assert len(provider.grants["alice"]) == 1
    assert (await ask(hub, own["other"], "t")).code == 200  # one server's bound is its own


async def test_a_server_that_asks_for_a_token_that_is_always_short_lived_costs_no_request(
    start_hub,
):
    def hook(authenticator, auth_state):
        return auth_state | {"nested": jwt(jti=auth_state["access_token"], exp=time.time() + 240)}

    provider = Provider()
    settings = {**provider.settings(modify_auth_state_hook=hook), **PULL}
    settings["TokenSpawnerMixin.tokens"] = {"t": {"env": "T", "key": "nested"}}
    hub = await start_hub(VariablesOnly, settings)
    user = await hub.user("alice", hook(None, login("alice")))
    await hub.spawn(user)
    assert len(provider.grants["alice"]) == 1  # the spawn's own need
    ends_at = time.monotonic() + 2.5  # after a second, the next one would be possible
    while time.monotonic() < ends_at:
        assert (await ask(hub, user.spawners[""].api_token, "t")).code == 200
        await asyncio.sleep(0.1)
    assert len(provider.grants["alice"]) == 1


@contextmanager
def timed_callbacks(monkeypatch):
    """The seconds on the CPU of each callback of the event loop, without the collector's."""
    run, seconds = asyncio.Handle._run, []

    def run_timed(handle):
        began = time.thread_time()
        run(handle)
        seconds.append(time.thread_time() - began)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", run_timed)
        gc.disable()
        try:
            yield seconds
        finally:
            gc.enable()


def ask_often(hub, token):
    """The codes of the answers to 60 requests by one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", hub.app.hub.port, timeout=60)
    path, codes = f"{hub.app.hub.base_url}api/spawner-tokens/t", []
    for _ in range(60):
        connection.request("GET", path, headers={"Authorization": token})
        with connection.getresponse() as answer:
            answer.read()
            codes.append(answer.status)
    connection.close()
    return codes


async def test_a_flood_keeps_the_event_loop_for_less_than_10_ms_at_a_time(start_hub, monkeypatch):
    provider, longest = Provider(), []
    hub = await start_hub(VariablesOnly, {**provider.settings(), **TOKENS, **PULL})
    user, own = await start_servers(hub, "alice", "", "b", "c")
    for name in map(str, range(20)):  # to compare a token with theirs takes long
        client = orm.OAuthClient(identifier=name, secret=hash_token("x" * 32))
        hub.app.db.add(orm.Spawner(name=name, user=user.orm_user, oauth_client=client))
    hub.app.db.commit()
    loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(4)
    await user.save_auth_state(login("alice", left=30))
    for name in own:
        floods = [own[name], own[name], user.new_api_token(), user.new_api_token()]
        with timed_callbacks(monkeypatch) as seconds:
            asking = [
                loop.run_in_executor(pool, ask_often, hub, f"token {each}") for each in floods
            ]
            first, second, *others = await asyncio.gather(*asking)
        assert {*first, *second} == {200, 429} and {*others[0], *others[1]} == {403}
        longest.append(max(seconds))
    pool.shutdown()
    assert len(provider.grants["alice"]) == 1
    assert min(longest) < 0.01  # in each flood, if it were our work


async def test_a_request_that_waits_at_a_hub_that_ends_is_answered_by_the_next_one(start_hub):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    user, own = await start_servers(hub, "alice", "")
    known = (await ask(hub, own[""], "t")).body["renewed_at"]
    waiting = asyncio.ensure_future(ask(hub, own[""], "t", wait=60, renewed_at=known))
    await until(lambda: user.spawners[""]._tokens_pulled._waiting)
    hub.http.stop()
    await hub.http.close_all_connections()
    with pytest.raises(HTTPStreamClosedError):
        await waiting
    await until(lambda: not user.spawners[""]._tokens_pulled._waiting)
    async with restarted(start_hub, user, VariablesOnly, {**TOKENS, **PULL}) as again:
        found = await ask(again, own[""], "t", wait=0.1, renewed_at=known)
        assert found.body["token"] == "alice-a0"


@pytest.mark.parametrize("stop", ["token-goes", "token-stays"])
async def test_a_request_that_waits_gets_nothing_more_when_its_server_stops(start_hub, stop):
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL})
    user, own = await start_servers(hub, "alice", "")
    known = (await ask(hub, own[""], "t")).body["renewed_at"]
    waiting = asyncio.ensure_future(ask(hub, own[""], "t", wait=60, renewed_at=known))
    spawner = user.spawners[""]
    await until(lambda: spawner._tokens_pulled._waiting)
    if stop == "token-stays":  # as of a container that is started again
        spawner.will_resume = True
        spawner._stop_pending = True
        assert (await ask(hub, own[""], "t")).body["reason"] == "stopped"
    await user.stop("")
    assert (await asyncio.wait_for(waiting, 30)).code == 403
    reason = {"token-goes": "not_a_server", "token-stays": "stopped"}[stop]
    assert (await ask(hub, own[""], "t")).body["reason"] == reason
