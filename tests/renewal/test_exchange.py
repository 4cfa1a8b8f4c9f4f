"""Servers with tokens that are exchanged: what they hold, at a spawn, while they run, and again."""

import asyncio
import json
import time
from functools import partial

import pytest
from prometheus_client import REGISTRY

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.faults import Answer, Gate
from ..support.pulling import PULL, ask, restarted
from ..support.scripted import Provider, exchanged, login, shown
from ..support.spawners import VariablesOnly
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner
SECRET = "s3cret-of-the-client"
TOKENS = {"t": {"env": "T"}, "eos": {"env": "EOS", "exchange": {"audience": "eos"}}}
show = partial(shown, file="eos")


def settings(provider, specs=TOKENS, **more):
    more = {f"TokenSpawnerMixin.{name}": value for name, value in more.items()}
    return {**provider.settings(), "TokenSpawnerMixin.tokens": specs, **more}


def status(user, name="", file="eos"):
    return json.loads(shown(user, name, f"{file}.json"))


async def idle(user):
    """Wait until a user's only server has what there is for it."""
    renewal = user.spawners[""].tokens_hub.renewal
    (progress,) = renewal._users[user.id].servers._servers.values()
    await until(lambda: progress.task is None)
    return progress


def count(status):
    return REGISTRY.get_sample_value("jupyterhub_token_exchanges_total", {"status": status})


async def test_a_server_gets_what_its_login_is_exchanged_for_and_all_servers_what_is_next(
    start_hub, debug_log
):
    lives, before = [3600], count("success")
    provider = Provider(exchange=lambda user, n: exchanged(user, n, expires_in=lives[0]))
    own = {"audience": "eos", "client_id": "mine", "client_secret": SECRET}
    specs = {**TOKENS, "own": {"exchange": own}}
    log = {"JupyterHub.log_level": 10}
    hub = await start_hub(SIMPLE, {**settings(provider, specs), **log})
    alice = await hub.user("alice", login("alice"))
    first, _ = await asyncio.gather(hub.spawn(alice), hub.spawn(alice, "second"))
    env = await first.texts()
    assert env["T"] == "alice-a0" and env["EOS"] in ("alice-x1", "alice-x2")
    assert len(provider.exchanges["alice"]) == 2 and count("success") == before + 2
    assert show(alice) == show(alice, "second") == env["EOS"] != shown(alice, file="own")
    assert status(alice)["status"] == "ok"
    lives[0], seen = 4, set()
    provider.exchanges.clear()
    await alice.save_auth_state(login("alice", n=1))

    def is_newer():
        both = show(alice), show(alice, "second")
        seen.update(both)
        return len({*both}) == 1 and len(seen) > 4

    await until(is_newer, 60)
    asked = [each for each in provider.exchanges["alice"] if b"client_id=id" in each.body]
    assert len(asked) <= len(seen) + 1  # one for both servers
    assert not provider.grants["alice"] and {*provider.subjects("alice")} == {"alice-a1"}
    state = json.dumps(alice.spawners[""].orm_spawner.state)
    assert "eos" in state and "DEBUG" in debug_log.text
    for text in (state, debug_log.text, repr(alice.spawners[""]._tokens_delivery.started)):
        assert SECRET not in text and "alice-x" not in text and "alice-a" not in text


async def test_another_login_is_exchanged_once_for_all_servers(start_hub):
    provider = Provider()
    hub = await start_hub(SIMPLE, settings(provider))
    alice = await hub.user("alice", login("alice"))
    await asyncio.gather(hub.spawn(alice), hub.spawn(alice, "second"))
    assert show(alice) == show(alice, "second") == "alice-x1"
    await alice.save_auth_state(login("alice", n=1))
    for name in ("", "second"):
        await until(lambda name=name: show(alice, name) == "alice-x2")
    assert provider.subjects("alice") == ["alice-a0", "alice-a1"]
    alice.orm_user.encrypted_auth_state = None
    hub.app.db.commit()
    await until(lambda: status(alice)["status"] == "never_stored")


async def test_a_subject_that_is_denied_since_there_is_a_newer_one_takes_nothing_away(start_hub):
    given = []

    class Recording(SIMPLE):
        async def deliver_files(self, files):
            given.append(files.get("eos"))
            await super().deliver_files(files)

    async def exchange(user, n):
        if n == 2:  # the login is renewed meanwhile, and the provider ends its old token
            await alice.save_auth_state(login("alice", n=2))
            return Answer(400, b'{"error": "invalid_grant"}')
        return exchanged(user, n)

    provider = Provider(exchange=exchange)
    hub = await start_hub(Recording, settings(provider))
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    await alice.save_auth_state(login("alice", n=1))
    await until(lambda: show(alice) == "alice-x3" and shown(alice) == "alice-a2")
    assert given[0] == b"alice-x1" and None not in given


async def test_a_login_that_ends_soon_is_renewed_first(start_hub):
    provider = Provider()
    hub = await start_hub(SIMPLE, settings(provider))
    alice = await hub.user("alice", login("alice", left=20))
    await hub.spawn(alice)
    assert provider.subjects("alice") == ["alice-a1"] and show(alice) == "alice-x1"


async def test_a_hub_that_starts_again_leaves_what_there_is_until_it_has_another(start_hub):
    def hook(spawner, auth_state, tokens):
        return {**tokens, "made": f"of {tokens['eos']}"} if "eos" in tokens else tokens

    provider = Provider()
    given = settings(provider, {**TOKENS, "made": {"key": "nothing"}}, tokens_hook=hook)
    hub = await start_hub(SIMPLE, given)
    alice = await hub.user("alice", login("alice"))
    server = await hub.spawn(alice)
    provider.exchange, works = lambda user, n: Answer(503), provider.exchange
    async with restarted(start_hub, alice, SIMPLE, given) as again:
        found = await again.user("alice")
        await until(lambda: len(provider.exchanges["alice"]) >= 2)
        await found.save_auth_state(login("alice", n=1))
        assert await server.until(b"alice-a1") is None
        assert await server.token("eos") == b"alice-x1" and status(found)["status"] == "ok"
        assert await server.token("made") == b"of alice-x1"
        provider.exchange = works
        await until(lambda: show(found) not in ("alice-x1", None))
        await until(lambda: shown(found, file="made") == f"of {show(found)}")
        assert status(found)["status"] == "ok"
        provider.exchange = lambda user, n: Answer(400, b'{"error": "access_denied"}')
        await found.save_auth_state(login("alice", n=2))
        await server.until(None, "eos")
        await server.until(None, "made")
        await until(lambda: status(found)["status"] == "exchange_denied")


async def test_what_has_ended_is_withdrawn_though_that_fails_at_first(start_hub):
    failures = []

    class Failing(SIMPLE):
        async def deliver_files(self, files):
            if files["eos"] is None and not failures:
                failures.append(files)
                raise OSError
            await super().deliver_files(files)

    provider = Provider(exchange=partial(exchanged, expires_in=2))
    hub = await start_hub(Failing, settings(provider))
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    provider.exchange = lambda user, n: Answer(503)
    await until(lambda: status(alice)["status"] == "exchange_failed")
    assert failures


async def test_a_provider_that_does_not_answer_keeps_no_spawn_and_its_answer_is_delivered(
    start_hub,
):
    gate = Gate()

    async def exchange(user, n):
        await gate.wait()
        return exchanged(user, n)

    provider = Provider(exchange=exchange)
    hub = await start_hub(SIMPLE, settings(provider, tokens_renew_timeout=0.2))
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    assert status(alice)["status"] == "exchange_failed" and shown(alice) == "alice-a0"
    await idle(alice)  # the server that runs does not wait either
    gate.open()
    await until(lambda: status(alice)["status"] == "ok")
    assert show(alice) == "alice-x1" and len(provider.exchanges["alice"]) == 1


async def test_a_server_that_asks_gets_a_token_that_is_not_short_lived(start_hub):
    provider = Provider(exchange=partial(exchanged, expires_in=4))
    hub = await start_hub(VariablesOnly, {**settings(provider), **PULL})
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    progress = await idle(alice)
    progress.recall_timer.cancel()  # as long as nobody asks
    token = alice.spawners[""]._tokens_delivery.current.tokens[1]
    await until(lambda: token.lifetime.short_at(300) <= time.time())
    assert (await ask(hub, alice.spawners[""].api_token, "eos")).body["token"] != token.value


async def test_a_server_that_asks_for_another_token_does_not_wait_for_an_exchange(start_hub):
    provider, gate, ended = Provider(), Gate(), []

    async def exchange(user, n):
        try:
            await gate.wait()
        finally:
            ended.append(n)
        return exchanged(user, n)

    hub = await start_hub(VariablesOnly, {**settings(provider, tokens_renew=False), **PULL})
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    provider.exchange, token = exchange, alice.spawners[""].api_token
    await alice.save_auth_state(login("alice", n=1))
    found = await ask(hub, token, "t")
    assert found.body["token"] == "alice-a1" and gate.reached.is_set() and not ended
    waiting = asyncio.ensure_future(ask(hub, token, "eos"))
    gate.open()
    assert (await waiting).body["token"] in ("alice-x1", "alice-x2")


async def test_an_exchange_that_is_not_answered_keeps_no_login_token_from_a_running_server(
    start_hub,
):
    provider = Provider()
    hub = await start_hub(SIMPLE, settings(provider, tokens_renew_timeout=100))
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    gate, works = Gate(), provider.exchange

    async def hold(user, n):
        await gate.wait()
        return works(user, n)

    provider.exchange = hold
    await alice.save_auth_state(login("alice", n=1))
    await gate.reached.wait()
    await until(lambda: shown(alice) == "alice-a1")
    assert show(alice) == "alice-x1"
    gate.open()
    await until(lambda: show(alice) == "alice-x2")


async def test_a_server_that_asks_gets_a_token_that_lives(start_hub):
    lives = [3600]
    provider = Provider(exchange=lambda user, n: exchanged(user, n, expires_in=lives[0]))
    hub = await start_hub(VariablesOnly, {**settings(provider), **PULL})
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    token = alice.spawners[""].api_token
    assert (await ask(hub, token, "eos")).body["token"] == "alice-x1"
    lives[0] = 5
    await alice.save_auth_state(login("alice", n=1))
    known = await ask(hub, token, "eos")
    waiting = ask(hub, token, "eos", wait=20, renewed_at=known.body["renewed_at"])
    newer = (await waiting).body
    assert newer["token"] != known.body["token"] and newer["status"] == "ok"
    provider.exchange = lambda user, n: Answer(400, b'{"error": "invalid_target"}')
    await alice.save_auth_state(login("alice", n=2))
    await until(lambda: alice.spawners[""]._tokens_delivery.current.tokens[1].value is None)
    found = await ask(hub, token, "eos")
    assert (found.code, found.body["reason"]) == (404, "exchange_denied")


async def test_the_policies_are_those_of_any_token_and_the_hook_has_the_last_word(start_hub):
    def hook(spawner, auth_state, tokens):
        seen.append(dict(tokens))
        return {**tokens, "hooked": tokens["wide"]}

    seen, provider = [], Provider(exchange=partial(exchanged, scope="read write"))
    wide = {"exchange": {"audience": "wide"}}
    specs = {
        "wide": {**wide, "required_scopes": ["read"], "shared": "deliver"},
        "narrow": {**wide, "forbidden_scopes": ["write"]},
        "hooked": {"key": "nothing"},
    }
    hub = await start_hub(SIMPLE, settings(provider, specs, tokens_hook=hook))
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    assert len(provider.exchanges["alice"]) == 1
    assert shown(alice, file="hooked") == shown(alice, file="wide") == "alice-x1"
    assert status(alice, file="narrow")["status"] == "scope_forbidden"
    assert status(alice, file="wide")["scopes"] == ["read", "write"]
    assert seen[0] == {"wide": "alice-x1", "narrow": "alice-x1"}


async def test_where_tokens_are_not_renewed_one_is_exchanged_at_the_spawn_alone(start_hub):
    provider = Provider(exchange=partial(exchanged, expires_in=2))
    hub = await start_hub(SIMPLE, settings(provider, tokens_renew=False))
    alice, authenticator = await hub.user("alice", login("alice")), hub.app.authenticator
    await hub.spawn(alice)
    assert show(alice) == "alice-x1" and "refresh_user" not in vars(authenticator)
    ends_at = time.time() + 3
    await until(lambda: time.time() > ends_at)
    alice.spawners[""].redeliver_tokens()
    await alice.spawners[""]._tokens_restoring
    assert show(alice) == "alice-x1" and len(provider.exchanges["alice"]) == 1


@pytest.mark.parametrize("missing", ["refuse", "warn"])
async def test_what_is_denied_at_a_spawn_is_a_matter_of_its_policy(start_hub, missing):
    denied = Answer(400, b'{"error": "invalid_target"}')
    provider = Provider(exchange=lambda user, n: denied)
    specs = {"eos": {**TOKENS["eos"], "missing": missing}}
    hub = await start_hub(SIMPLE, settings(provider, specs))
    alice = await hub.user("alice", login("alice"))
    if missing == "refuse":
        with pytest.raises(Exception, match="the provider does not give it for your login"):
            await hub.spawn(alice)
    else:
        assert "EOS" not in await (await hub.spawn(alice)).texts()
        assert status(alice)["status"] == "exchange_denied"


def go_down(user, n):
    raise ConnectionRefusedError


async def test_a_running_server_keeps_what_lives_whatever_the_provider_says_but_a_denial(start_hub):
    failures = {
        "down": go_down,
        "broken": lambda user, n: Answer(503),
        "garbage": lambda user, n: Answer(body=b'{"access_token": "gar'),
        "elsewhere": lambda user, n: Answer(404, b"<html>"),
        "denied": lambda user, n: Answer(400, b'{"error": "invalid_target"}'),
    }
    provider = Provider(exchange=lambda user, n: (exchanged if n == 1 else failures[user])(user, n))
    hub = await start_hub(SIMPLE, settings(provider))
    users = {name: await hub.user(name, login(name)) for name in failures}
    await asyncio.gather(*map(hub.spawn, users.values()))
    for name, user in users.items():
        await user.save_auth_state(login(name, n=1))
        await until(lambda name=name: len(provider.exchanges[name]) > 1)
        await until(lambda user=user, name=name: shown(user) == f"{name}-a1")
    await until(lambda: status(users["denied"])["status"] == "exchange_denied")
    with pytest.raises(FileNotFoundError):
        show(users.pop("denied"))
    for name, user in users.items():
        assert (show(user), status(user)["status"]) == (f"{name}-x1", "ok")
