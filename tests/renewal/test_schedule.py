"""Places: never more than its places, and the least priority first. What is delivered again."""

import asyncio
import logging
from types import SimpleNamespace

from spawner_tokens.renewal import restoring
from spawner_tokens.renewal.places import Places
from spawner_tokens.tokens.selection import Login


async def test_who_needs_it_most_is_next_and_who_gives_up_takes_no_place():
    places, order, gate = Places(2, 1), [], asyncio.Event()
    inside = 0

    async def take(number):
        nonlocal inside
        async with places.take((number,), is_retry=False):
            inside += 1
            assert inside <= 2
            order.append(number)
            await (gate.wait() if number < 0 else asyncio.sleep(0))
            inside -= 1

    tasks = {number: asyncio.create_task(take(number)) for number in (-2, -1, 7, 3, 9, 1, 5, 3)}
    await asyncio.sleep(0)
    tasks[9].cancel()
    gate.set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert sorted(order[:2]) == [-2, -1] and order[2:] == sorted(order[2:]) and 9 not in order
    async with (
        places.take(is_retry=False),
        places.take(is_retry=False),
    ):  # both places are free again
        pass


async def test_a_turn_that_is_given_to_who_gives_up_at_that_moment_is_passed_on():
    places = Places(1, 1)

    async def take():
        async with places.take(is_retry=False):
            pass

    async with places.take(is_retry=False):
        first, second = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 30)
    assert first.cancelled() or first.done()


async def test_a_place_is_given_back_once_when_its_time_is_over():
    places, order, over = Places(1, 1), [], asyncio.Event()

    async def hang():
        async with places.take(is_retry=True, seconds=0.01):
            await over.wait()

    hanging = asyncio.create_task(hang())
    await asyncio.sleep(0)
    async with places.take(is_retry=False):
        over.set()
        await hanging
        waiting = asyncio.create_task(places.take(is_retry=False).__aenter__())
        await asyncio.sleep(0)
        assert not waiting.done()
        order.append("first")
    await asyncio.wait_for(waiting, 30)
    assert order == ["first"]


async def test_what_a_server_has_lost_is_delivered_again_until_it_is_there_or_ends(
    monkeypatch, caplog
):
    monkeypatch.setattr(restoring, "backoff", lambda failures: 0)
    server, tries = SimpleNamespace(running=True), []

    async def read():
        return Login({"a": "b"})

    async def prepare(login, login_ended):
        tries.append(login)
        if len(tries) in (2, 3, 5):
            raise OSError("the-token")

    server.prepare = prepare
    for begun, ended in ((0, 1), (1, 4)):
        assert len(tries) == begun
        await restoring.restore(server, read, "alice", logging.getLogger())
        assert len(tries) == ended
    server.running = False
    await restoring.restore(server, read, "alice", logging.getLogger())
    assert len(tries) == 4 and tries[0] == await read()
    assert caplog.text.count("Cannot deliver to alice yet: OSError in prepare") == 1
    assert "the-token" not in caplog.text
