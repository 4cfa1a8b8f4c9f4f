"""A ``tokens_hook`` that fails while its server runs: the server keeps what it has."""

import asyncio

import pytest
from prometheus_client import REGISTRY
from pytest import param

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.scripted import login, shown
from ..support.waiting import until


async def raises():
    raise ValueError("s3cret")


async def waits_for_what_was_cancelled():
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    await cancelled


async def returns_nothing():
    pass


def count_failures():
    labels = {"server": "running", "status": "failure"}
    return REGISTRY.get_sample_value("jupyterhub_token_deliveries_total", labels)


@pytest.mark.parametrize(
    "fail",
    [
        param(raises, id="raises"),
        param(waits_for_what_was_cancelled, id="cancelled"),
        param(returns_nothing, id="returns-nothing"),
    ],
)
async def test_a_server_keeps_its_token_until_the_hook_works_again(start_hub, caplog, fail):
    state = {"fails": False, "calls": 0}

    async def hook(spawner, auth_state, tokens):
        state["calls"] += 1
        if state["fails"]:
            return await fail()
        return {"t": auth_state["access_token"] + "-by-hook"}

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    assert shown(alice) == "alice-a0-by-hook"
    failures, calls, state["fails"] = count_failures(), state["calls"], True
    await alice.save_auth_state(login("alice", n=1))
    await until(lambda: state["calls"] > calls + 1)
    assert shown(alice) == "alice-a0-by-hook" and count_failures() > failures
    assert "tokens_hook failed" in caplog.text and "s3cret" not in caplog.text
    state["fails"] = False
    await until(lambda: shown(alice) == "alice-a1-by-hook")
