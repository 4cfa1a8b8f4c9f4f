"""A ``tokens_hook`` that fails while its server runs: the server keeps what it has."""

import asyncio
import json
import math
import re
import time
from collections import Counter

import pytest
from prometheus_client import REGISTRY

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.hook import HookFailed, run_tokens_hook
from spawner_tokens.renewal import recall, schedule
from spawner_tokens.tokens.selection import Login, Token
from spawner_tokens.tokens.spec import parse_tokens

from ..support.scripted import login, shown
from ..support.waiting import until
from ..tokens.test_selection import jwt


async def raises():
    raise ValueError("s3cret")


async def waits_for_what_was_cancelled():
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()
    await cancelled


async def stops():
    raise Stopped("s3cret")


class Stopped(BaseException):
    """As func_timeout.FunctionTimedOut."""


async def returns_nothing():
    pass


def count_failures():
    labels = {"server": "running", "status": "failure"}
    return REGISTRY.get_sample_value("jupyterhub_token_deliveries_total", labels)


FAILING = {
    "raises": raises,
    "cancelled": waits_for_what_was_cancelled,
    "stops": stops,
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
    assert show(0) and count_failures() >= failures + len(FAILING)
    assert "tokens_hook failed" in caplog.text and "s3cret" not in caplog.text
    fails = False
    await until(lambda: show(1))


async def test_a_hook_without_a_token_whose_spec_is_lost_fails_by_name(start_hub, caplog):
    def hook(spawner, auth_state, tokens):
        token = auth_state["access_token"]
        return {"new": tokens["t"]} if token == "alice-a1" else {"t": f"own-{token}", "new": token}

    settings = {"TokenSpawnerMixin.tokens": {"t": {}, "new": {}}}
    settings["TokenSpawnerMixin.tokens_hook"] = hook
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    alice = await hub.user("alice", login("alice"))
    await hub.spawn(alice)
    spawner = alice.spawners[""]
    state = spawner.get_state()
    state["tokens_started"]["tokens"]["t"] = {"field_of_a_later_version": 1}
    spawner.load_state(state)  # as after a restart
    await alice.save_auth_state(login("alice", n=1))
    words = "was called without t, whose spec is not known any more"
    await until(lambda: words in caplog.text)
    await alice.save_auth_state(login("alice", n=2))
    await until(lambda: shown(alice, file="new") == "alice-a2")
    assert shown(alice) == "own-alice-a0" and "not declared" not in caplog.text


async def test_a_hook_that_saves_an_auth_state_at_each_call_is_called_ever_later(
    start_hub, caplog, monkeypatch
):
    pauses, calls = [], []
    monkeypatch.setattr(schedule, "backoff", lambda failures, *_: pauses.append(failures) or 3600)

    async def hook(spawner, auth_state, tokens):
        calls.append(spawner)
        await spawner.user.save_auth_state(auth_state | {"of_the_hooks": len(calls)})
        return tokens

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    user = await hub.user("alice", login("alice"))
    hub.spawner(user).start_polling()
    await until(lambda: pauses)
    assert (pauses, len(calls)) == ([1], 6)
    assert "does a hook save it?" in caplog.text and shown(user) == "alice-a0"


async def test_nothing_is_delivered_of_what_was_withdrawn_while_a_hook_ran(start_hub):
    delivered, has_begun, is_over = [], asyncio.Event(), asyncio.Event()

    class Spawner(TokenSimpleLocalProcessSpawner):
        async def deliver_files(self, files):
            delivered.append(files.get("t"))
            await super().deliver_files(files)

    async def hook(spawner, auth_state, tokens):
        if auth_state and auth_state["own"] == "two":
            has_begun.set()
            await is_over.wait()
        return tokens

    settings = {"TokenSpawnerMixin.tokens": {"t": {"key": "own"}}}
    hub = await start_hub(Spawner, settings | {"TokenSpawnerMixin.tokens_hook": hook})
    user = await hub.user("alice", {"own": "one"})
    hub.spawner(user).start_polling()
    await until(lambda: delivered)
    await user.save_auth_state({"own": "two"})
    await has_begun.wait()
    await user.save_auth_state(None)
    is_over.set()
    await until(lambda: len(delivered) > 1)
    assert delivered == [b"one", None]


async def test_a_hook_is_called_again_before_its_value_ends_and_again_if_it_fails(start_hub):
    given, seen = [], set()

    def hook(spawner, auth_state, tokens):
        given.append(f"v{len(given)}")
        if len(given) == 2:
            raise ValueError
        return {"t": {"token": given[-1], "expires_at": time.time() + 4}}

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    user = await hub.user("alice", login("alice"))
    await hub.spawn(user)

    def renewed(value):
        seen.add(shown(user))
        return value in seen

    await until(lambda: renewed("v3"), 60)
    assert seen <= {"v0", "v2", "v3"}  # while it failed, what there was


async def test_a_dead_token_of_the_hooks_is_said_once_with_its_name_and_who_gave_it(
    start_hub, caplog, monkeypatch
):
    monkeypatch.setattr(recall, "FIRST_PAUSE", 0.1)
    calls, dead = [], jwt(exp=1)

    def hook(spawner, auth_state, tokens):
        calls.append(spawner)
        return {"jwt": dead, "key": {"token": "s3cret", "expires_at": 1}, "live": "x"}

    settings = {"TokenSpawnerMixin.tokens": {"jwt": {}, "key": {}, "live": {}}}
    settings["TokenSpawnerMixin.tokens_hook"] = hook
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    user = await hub.user("alice", login("alice"))
    await hub.spawn(user)
    await until(lambda: len(calls) > 2)  # it is called again for the running server
    said = [text for text in caplog.messages if ": token " in text]
    words = r"alice: token (jwt|key): expired \(what tokens_hook gave expired \d+ seconds ago\)"
    assert sorted(re.fullmatch(words, text)[1] for text in said) == ["jwt", "key"]
    assert json.loads(shown(user, file="key.json"))["status"] == "expired"
    assert "s3cret" not in caplog.text and dead not in caplog.text


async def test_an_end_that_is_no_time_is_a_failure_of_the_hook_that_names_no_value():
    specs = parse_tokens({"t": {}}, files=True)

    def hook(*_):
        return {"t": {"token": "s3cret", "expires_at": "s3cret-too"}}

    with pytest.raises(HookFailed, match="the expires_at of t is not") as failed:
        await run_tokens_hook(hook, None, Login({"a": "b"}), [Token(specs[0])], set())
    assert "s3cret" not in str(failed.value)


async def test_values_that_are_due_at_once_are_asked_for_ever_later(monkeypatch):
    monkeypatch.setattr(recall, "backoff", lambda failures, *_: pauses.append(failures) or 0)
    pauses, calls, due, now = [], [], [0.0], [100.0]
    timer = recall.RecallTimer(
        lambda: due[0], lambda: math.inf, lambda: calls.append(now[0]), lambda: now[0]
    )
    for _ in range(3):
        timer.set()
    assert (pauses, len(calls)) == ([1, 2, 3], 3)
    due[0] = 200.0
    timer.set()
    assert (pauses[3:], len(calls)) == ([1], 3)
    now[0] = 50.0  # the clock was set back
    timer._wait()
    assert len(calls) == 4
    due[0] = math.inf
    timer.set()
    assert len(calls) == 4 and timer._timer is None


async def test_values_of_a_hook_that_are_due_at_once_delay_no_exchange(monkeypatch):
    monkeypatch.setattr(recall, "backoff", lambda failures, *_: 2.0**failures)
    calls, due = [], [time.time() + 7]
    timer = recall.RecallTimer(lambda: 0.0, lambda: due[0], lambda: calls.append(1), time.time)
    for _ in range(10):
        timer.set()
    left = timer._timer.when() - asyncio.get_running_loop().time()
    assert left == pytest.approx(7, abs=1)
    due[0] = 0.0
    timer.set()
    left = timer._timer.when() - asyncio.get_running_loop().time()
    assert left == pytest.approx(recall.FIRST_PAUSE, abs=1) and not calls  # not at once, either
    timer.cancel()
