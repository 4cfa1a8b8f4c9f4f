"""What a server that asks its Hub for its tokens is given, and when."""

import asyncio
import json
import time

import pytest
from pytest import param
from wrapspawner import WrapSpawner

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..hub.test_metrics import login_with, read
from ..support.hub import Server
from ..support.pulling import ASK, PULL, ask, restarted
from ..support.scripted import Provider, login, tokens
from ..support.spawners import FilesAtStart, VariablesOnly
from ..support.waiting import until

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}, "u": {"env": "U", "key": "other"}}}


@pytest.fixture
def start_server(start_hub):
    """Start a Hub and a server: ``hub, user, token``, which is the server's own."""

    async def start(auth_state, settings=None, spawner_class=VariablesOnly):
        hub = await start_hub(spawner_class, {**TOKENS, **PULL, **(settings or {})})
        user = await hub.user("alice", auth_state)
        await hub.spawn(user)
        return hub, user, user.spawners[""].api_token

    return start


async def test_a_server_without_files_gets_its_tokens_by_the_address_in_its_environment(start_hub):
    no_scope = {"JupyterHub.load_roles": [{"name": "server", "scopes": []}]}
    base = {"JupyterHub.base_url": "/base"}
    admins = {"Spawner.environment": {"U": "admins", "T_TOKEN_FILE": "admins"}}
    hub = await start_hub(VariablesOnly, {**TOKENS, **PULL, **base, **no_scope, **admins})
    server = await hub.spawn(await hub.user("alice", {**login_with("a", 500), "other": "b"}))
    env = await server.texts()
    assert env["SPAWNER_TOKENS_URL"] == f"{env['JUPYTERHUB_API_URL']}/spawner-tokens"
    assert "/base/hub/api/" in env["SPAWNER_TOKENS_URL"]
    assert json.loads(env["SPAWNER_TOKENS_VARIABLES"]) == {  # what the admin sets is not for them
        "t": {"env": ["T"], "file_env": None},
        "u": {"env": [], "file_env": "U_TOKEN_FILE"},
    }
    done = await server.run("python3", "-c", ASK, "u")
    assert '"token": "b"' in done.out, done.error


async def test_the_answer_is_json_or_the_token_alone_and_the_list_has_no_value(start_server):
    open_to_all = {"headers": {"Access-Control-Allow-Origin": "*"}}  # the Hub's other answers
    hub, _, token = await start_server(
        {**login_with("a", 500), "other": "b"}, {"JupyterHub.tornado_settings": open_to_all}
    )
    found = await ask(hub, token, "t")
    assert found.code == 200 and set(found.body) == {
        *("token", "version", "expires_at", "renewed_at", "scopes", "status")
    }
    assert (found.body["token"], found.body["status"]) == ("a", "ok")
    plain = await ask(hub, token, "t", headers={"Accept": "text/plain"})
    assert (plain.code, plain.body) == (200, "a")
    listed = await ask(hub, token)
    assert set(listed.body) == {"t", "u"} and listed.body["t"]["status"] == "ok"
    assert "token" not in listed.body["t"] and listed.body["t"]["expires_at"]
    for answer in (found, plain, listed):
        assert answer.headers["Cache-Control"] == "no-store" and "Etag" not in answer.headers
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


async def test_what_is_not_there_is_told_with_its_reason(start_server):
    hub, _, token = await start_server(login_with("a", 500))
    found = await ask(hub, token, "u")
    assert (found.code, found.body["reason"]) == (404, "absent")
    assert "did not give it" in found.body["message"] and "/hub/logout" in found.body["message"]
    found = await ask(hub, token, "..%2Ft")
    assert (found.code, found.body["reason"]) == (404, "unknown")
    assert "It has: t, u" in found.body["message"]
    assert (await ask(hub, token, "../../users")).code in (403, 404)
    for wait in ("x", "-1", "61", "nan", "inf"):
        assert (await ask(hub, token, "t", wait=wait)).code == 400
    assert (await ask(hub, token, "t", method="OPTIONS")).code == 405


async def test_a_token_that_ends_soon_is_renewed_first_once_for_all_who_ask(start_hub):
    provider = Provider()
    hub = await start_hub(VariablesOnly, {**provider.settings(), **TOKENS, **PULL})
    user = await hub.user("alice", login("alice"))
    await hub.spawn(user)
    assert not provider.grants["alice"]
    await user.save_auth_state(login("alice", left=30))
    token = user.spawners[""].api_token
    found = await asyncio.gather(*(ask(hub, token, "t") for _ in range(20)))
    assert {answer.body["token"] for answer in found} == {"alice-a1"}
    assert len(provider.grants["alice"]) == 1


async def test_a_request_that_waits_is_answered_when_there_is_a_newer_token(start_server):
    hub, user, token = await start_server(login("alice"))
    known = (await ask(hub, token, "t")).body["renewed_at"]
    assert known
    begun = time.monotonic()
    same = await ask(hub, token, "t", wait=0.3, renewed_at=known)
    assert same.body["token"] == "alice-a0" and time.monotonic() - begun >= 0.3
    waiting = asyncio.ensure_future(ask(hub, token, "t", wait=60, renewed_at=known))
    delivery = user.spawners[""]._tokens_delivery
    await until(lambda: user.spawners[""]._tokens_pulled._waiting)
    begun = time.monotonic()
    await user.save_auth_state(login("alice", left=3500, n=5))
    assert (await waiting).body["token"] == "alice-a5"
    assert time.monotonic() - begun < 30 and delivery.running
    at_once = await ask(hub, token, "t", wait=60, renewed_at=known)
    assert at_once.body["token"] == "alice-a5"


async def test_the_hub_renews_in_time_for_a_server_that_only_waits(start_hub):
    provider = Provider(grant=lambda user, n: tokens(user, n, expires_in=4))
    settings = {"TokenSpawnerMixin.tokens_min_lifetime": 1}
    hub = await start_hub(VariablesOnly, {**provider.settings(), **TOKENS, **PULL, **settings})
    user = await hub.user("alice", login("alice", left=3, expires_in=4))
    await hub.spawn(user)
    token = user.spawners[""].api_token
    known = (await ask(hub, token, "t")).body
    found = (await ask(hub, token, "t", wait=20, renewed_at=known["renewed_at"])).body
    assert found["token"] != known["token"] and found["status"] == "ok"


@pytest.mark.parametrize(
    "spawner_class, settings",
    [
        param(VariablesOnly, {}, id="variables"),
        param(SIMPLE, {}, id="files"),
        param(VariablesOnly, {"TokenSpawnerMixin.tokens_renew": False}, id="not-renewed"),
    ],
)
async def test_a_server_gets_its_tokens_from_a_hub_that_was_started_again(
    start_server, start_hub, spawner_class, settings
):
    hub, user, token = await start_server(login("alice"), settings, spawner_class)
    assert (await ask(hub, token, "t")).body["token"] == "alice-a0"
    row = user.spawners[""].orm_spawner  # as a hook of its start would have it
    started = row.state["tokens_started"]
    lost = {"lost": {"env": "L", "key": {"<function>": None}}}
    started = {**started, "tokens": {**started["tokens"], **lost}}
    row.state = {**row.state, "tokens_started": started}
    hub.app.db.commit()
    more = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}, "new": {"env": "N"}}}
    more = {**TOKENS, **PULL, **settings, **more}
    async with restarted(start_hub, user, spawner_class, more) as again:
        assert (await ask(again, token, "t")).body["token"] == "alice-a0"
        found = await ask(again, token, "lost")
        assert (found.code, found.body["reason"]) == (403, "not_known")
        # only what it was started with
        assert set((await ask(again, token)).body) == {"t", "u"}
        await again.user("alice", login("alice", n=3))
        await until(lambda: _gives(again, token, "alice-a3"))


class FilesBeside(TokenSimpleLocalProcessSpawner):
    """As a pod with ``tokens_notebook_mount = False``: only what runs beside it sees files."""

    shows_files = False


async def test_a_server_whose_files_are_those_of_its_start_gets_the_tokens_of_now(start_server):
    hub, user, token = await start_server(login("alice"), {}, FilesAtStart)
    file = await Server(user.spawners[""]).token()
    await user.save_auth_state(login("alice", n=2))
    known = (await ask(hub, token, "t")).body["renewed_at"]
    await until(lambda: _gives(hub, token, "alice-a2"))
    assert known and await Server(user.spawners[""]).token() == file == b"alice-a0"


async def test_a_token_that_is_kept_from_the_server_itself_is_not_given_to_it(start_server):
    specs = {"TokenSpawnerMixin.tokens": {"t": {}, "u": {"env": "U"}}}
    hub, user, token = await start_server(login("alice"), specs, FilesBeside)
    assert set((await ask(hub, token)).body) == {"u"}
    assert (await ask(hub, token, "t")).body["reason"] == "unknown"
    assert (await ask(hub, token, "u")).body["token"] == "alice-a0"


# WrapSpawner's own
@pytest.mark.filterwarnings("ignore:Passing unrecognized arguments:DeprecationWarning")
async def test_a_server_that_nobody_renews_for_in_time_has_a_fresh_token_when_it_asks(start_hub):
    provider = Provider()
    wrapped = {"WrapSpawner.child_class": VariablesOnly}
    hub = await start_hub(WrapSpawner, {**provider.settings(), **TOKENS, **PULL, **wrapped})
    user = await hub.user("alice", login("alice"))
    await hub.spawn(user)
    token = user.spawners[""].api_token
    assert (await ask(hub, token, "t")).body["token"] == "alice-a0"
    await user.save_auth_state(login("alice", left=30))
    assert (await ask(hub, token, "t")).body["token"] == "alice-a1"
    await user.stop("")
    assert (await ask(hub, token, "t")).code == 403


async def _gives(hub, token, expected):
    return (await ask(hub, token, "t")).body["token"] == expected


async def test_a_server_that_was_started_without_it_is_not_answered_though_it_is_on_now(
    start_hub, start_server
):
    hub, user, token = await start_server(login("alice"), {"TokenSpawnerMixin.tokens_pull": False})
    assert "SPAWNER_TOKENS_URL" not in await Server(user.spawners[""]).texts()

    async def expect_refusal(hub):
        found = await ask(hub, token, "t")
        assert (found.code, found.body["reason"]) == (403, "pull_is_off")
        assert "tokens_pull = True" in found.body["message"]

    await expect_refusal(hub)
    async with restarted(start_hub, user, VariablesOnly, {**TOKENS, **PULL}) as again:
        await expect_refusal(again)


async def test_pulls_are_counted_by_their_status(start_server):
    from prometheus_client import REGISTRY, generate_latest

    def count():
        found = read(generate_latest(REGISTRY).decode())
        prefix = "jupyterhub_token_pulls_total status="
        return {name: n for name, n in found.items() if name.startswith(prefix)}

    hub, _, token = await start_server(login("alice"))
    before = count()
    known = (await ask(hub, token, "t")).body["renewed_at"]
    await ask(hub, token, "t", wait=0.01, renewed_at=known)
    for given, name in ((token, "u"), (token, "x"), ("wrong", "t")):
        await ask(hub, given, name)
    changed = {name.split("=")[1]: n - before[name] for name, n in count().items()}
    assert changed == {
        **{"success": 1, "unchanged": 1, "withheld": 1, "unknown": 1, "refused": 1},
        **{"too_many": 0, "failure": 0},
    }
