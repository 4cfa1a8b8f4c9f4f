"""A ``tokens_hook`` that fails while its server runs: the server keeps what it has."""

import asyncio
from collections import Counter

from prometheus_client import REGISTRY

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


FAILING = {
    "raises": raises,
    "cancelled": waits_for_what_was_cancelled,
    "returns-nothing": returns_nothing,
}


async def test_a_server_keeps_its_token_until_the_hook_works_again(start_hub, caplog):
    fails, calls = False, Counter()

    async def hook(spawner, auth_state, tokens):
        calls[spawner.user.name] += 1
        if fails:
            return await FAILING[spawner.user.name]()
        return {"t": auth_state["access_token"] + "-by-hook"}

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    users = {name: await hub.user(name, login(name)) for name in FAILING}
    await asyncio.gather(*map(hub.spawn, users.values()))

    def show(n):
        return all(shown(user) == f"{name}-a{n}-by-hook" for name, user in users.items())

    assert show(0)
    failures, fails = count_failures(), True
    calls.clear()
    for name, user in users.items():
        await user.save_auth_state(login(name, n=1))
    await until(lambda: all(calls[name] > 1 for name in users))
    assert show(0) and count_failures() >= failures + 3
    assert "tokens_hook failed" in caplog.text and "s3cret" not in caplog.text
    fails = False
    await until(lambda: show(1))
