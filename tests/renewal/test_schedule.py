"""PrioritySemaphore: never more than its places, and the least priority first."""

import asyncio

from spawner_tokens.renewal.places import PrioritySemaphore


async def test_who_needs_it_most_is_next_and_who_gives_up_takes_no_place():
    semaphore, order, gate = PrioritySemaphore(2), [], asyncio.Event()
    inside = 0

    async def take(number):
        nonlocal inside
        async with semaphore.acquire(number):
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
    async with semaphore.acquire(0), semaphore.acquire(0):  # both places are free again
        pass


async def test_a_turn_that_is_given_to_who_gives_up_at_that_moment_is_passed_on():
    semaphore = PrioritySemaphore(1)

    async def take():
        async with semaphore.acquire(0):
            pass

    async with semaphore.acquire(0):
        first, second = asyncio.create_task(take()), asyncio.create_task(take())
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 1)
    assert first.cancelled() or first.done()
