"""What a refresh stores and returns, where the login, the authenticator or its code are unusual."""

import asyncio
import logging
from contextlib import ExitStack
from functools import reduce

import pytest
from jupyterhub.auth import DummyAuthenticator
from oauthenticator.generic import GenericOAuthenticator

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.faults import Answer, Gate
from ..support.scripted import Provider, failing, login, shown, tokens
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner


@pytest.fixture
def begin(start_hub):
    """Start a Hub whose authenticator's ``refresh_user`` is ``refresh(user)``: it and alice."""

    async def begin(refresh, auth_state=None, **traits):
        class Own(DummyAuthenticator):
            async def refresh_user(self, user, handler=None, **kwargs):
                return await refresh(user)

        traits = {f"TokenSpawnerMixin.{name}": value for name, value in traits.items()}
        settings = {"JupyterHub.authenticator_class": Own, "TokenSpawnerMixin.tokens": {"t": {}}}
        hub = await start_hub(SIMPLE, settings | traits)
        alice = await hub.user("alice", auth_state)
        hub.spawner(alice)
        return hub, alice

    return begin


async def test_a_login_while_hooks_derive_an_auth_state_keeps_its_tokens(start_hub):
    gate = Gate()

    async def hook(authenticator, auth_state):
        await gate.wait()
        return auth_state

    provider = Provider(tokens, lambda user, n: Answer(401, b"{}"))
    hub = await start_hub(SIMPLE, provider.settings(modify_auth_state_hook=hook))
    alice = await hub.user("alice", login("alice", left=-10))
    hub.spawner(alice)
    check = asyncio.create_task(hub.app.authenticator.refresh_user(alice))
    await gate.reached.wait()
    await alice.save_auth_state(login("alice", n=7))
    gate.open()
    await check
    assert (await alice.get_auth_state())["refresh_token"] == "alice-r7"


async def test_an_auth_state_too_deep_for_hooks_is_renewed_and_checked(start_hub):
    deep = reduce(lambda inner, _: [inner], range(550), [])  # JSON can hold more, pickle less
    provider = Provider()
    hub = await start_hub(SIMPLE, provider.settings())
    alice = await hub.user("alice", login("alice", left=-10) | {"deep": deep})
    hub.spawner(alice)
    assert await hub.app.authenticator.refresh_user(alice)
    assert (await alice.get_auth_state())["refresh_token"] == "alice-r1"
    assert provider.checks["alice"]


@pytest.mark.parametrize("stored", [None, b"of another key"], ids=["none", "undecryptable"])
async def test_an_auth_state_is_stored_where_none_could_be_read(begin, stored):
    async def refresh(user):
        return {"name": user.name, "auth_state": login("alice", n=5)}

    hub, alice = await begin(refresh)
    alice.orm_user.encrypted_auth_state = stored
    hub.app.db.commit()
    await hub.app.authenticator.refresh_user(alice)
    assert (await alice.get_auth_state())["access_token"] == "alice-a5"


async def test_a_cancellation_by_the_authenticators_own_code_is_tried_again(begin):
    calls = []

    async def refresh(user):
        calls.append(user)
        if len(calls) == 1:
            cancelled = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            await cancelled
        return {"name": user.name, "auth_state": login("alice", n=len(calls))}

    hub, alice = await begin(refresh, login("alice", left=3600))
    await hub.spawn(alice)
    await alice.save_auth_state(login("alice", left=-10, n=0))
    await until(lambda: shown(alice) == "alice-a2")


async def test_what_others_save_without_tokens_is_stored_as_it_is(begin):
    async def refresh(user):
        return True

    first, second = {"scope": ["a"], "who": 1}, {"scope": ["b"], "who": 2}
    _, alice = await begin(refresh, first)
    for auth_state in (second, first, {}):
        await alice.save_auth_state(auth_state)
        assert await alice.get_auth_state() == auth_state


async def test_another_auth_state_without_tokens_is_not_a_renewal(begin, caplog):
    caplog.set_level(logging.INFO)
    seen = []

    async def refresh(user):
        seen.append(user)
        return {"name": user.name, "auth_state": {"info": len(seen)}}

    hub, alice = await begin(refresh, {"info": 0})
    for _ in range(2):
        await hub.app.authenticator.refresh_user(alice)
    assert await alice.get_auth_state() == {"info": 2}
    assert "Renewed the tokens" not in caplog.text


async def test_a_result_that_comes_after_the_timeout_is_the_next_callers(begin):
    gate, calls = Gate(), []

    async def refresh(user):
        calls.append(user)
        await gate.wait()
        return {"name": user.name, "groups": ["g"], "auth_state": login("alice", n=1)}

    hub, alice = await begin(refresh, login("alice", left=10), tokens_renew_timeout=0.1)
    assert await hub.app.authenticator.refresh_user(alice) is True
    gate.open()

    async def is_stored():
        return (await alice.get_auth_state())["access_token"] == "alice-a1"

    await until(is_stored)
    found = await hub.app.authenticator.refresh_user(alice)
    assert found["groups"] == ["g"] and len(calls) == 1


async def test_a_database_that_is_down_after_a_false_ends_no_login(start_hub, caplog):
    class Own(GenericOAuthenticator):
        async def refresh_user(self, user, handler=None, **kwargs):
            if is_down:
                stack.enter_context(failing(hub.app.db.get_bind(), "before_cursor_execute"))
                hub.app.db.expire(user.orm_user)
            return False

    provider, is_down = Provider(), True
    hub = await start_hub(SIMPLE, provider.settings(Own))
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    with ExitStack() as stack:
        assert await hub.app.authenticator.refresh_user(alice) is True
    assert not provider.grants and "which stays: OperationalError" in caplog.text
    assert "Exception in callback" not in caplog.text
    is_down = False  # and no grant was lost, so that the next one is not put off
    await alice.save_auth_state(login("alice", left=-10))
    await until(lambda: shown(alice) == "alice-a1")
