"""Servers that ask a Hub for a token: tasks in this process, which ``benchmarks.pull`` starts.

It reads a function's name and arguments from a line, and writes each answer in a line: JSON.
"""

import asyncio
import json
import math
import random
import re
import sys
import time
from collections import Counter

AT_ONCE = 20  # first requests
CONNECTIONS = 50  # of a flood
LONGEST_WAIT, PATIENCE = 60, 60  # seconds of a request, and until a token is lost


async def ask(port, path, api_token, query=""):
    """The seconds that it took, and the answer."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**14)
    words = f"GET {path}?{query} HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n"
    writer.write(f"{words}Authorization: token {api_token}\r\n\r\n".encode())
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert b" 200 " in head.partition(b"\r\n")[0], head
    return time.monotonic() - began, json.loads(body)


async def ask_first(address, api_tokens):
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask_once(api_token):
        async with turns:
            return (await ask(*address, api_token))[0]

    yield await asyncio.gather(*map(ask_once, api_tokens))


async def ask_again(address, api_tokens, interval, times):
    async def keep_asking(api_token):
        begins_at = time.monotonic() + random.uniform(0, interval)
        found = []
        for number in range(times):
            await asyncio.sleep(begins_at + number * interval - time.monotonic())
            found.append((await ask(*address, api_token))[0])
        return found

    yield sum(await asyncio.gather(*map(keep_asking, api_tokens)), [])


async def wait_for_new(address, api_tokens, interval, seconds, expected):
    """That all wait; then when each new token came, once there are as many as expected."""
    waiting, came, ends_at = 0, {}, math.inf

    def goes_on():
        now = time.monotonic()
        return now < ends_at or (len(came) < expected and now < ends_at + PATIENCE)

    async def keep_waiting(api_token):
        nonlocal waiting
        await asyncio.sleep(random.uniform(0, interval))
        known = (await ask(*address, api_token))[1]
        waiting += 1
        while goes_on():
            wait = min(random.uniform(interval, 2 * interval), LONGEST_WAIT)
            query = f"wait={wait}&renewed_at={known['renewed_at']}&version={known['version']}"
            newer = (await ask(*address, api_token, query))[1]
            if newer["token"] != known["token"]:
                came[newer["token"]] = time.monotonic()
            known = newer

    tasks = [asyncio.ensure_future(keep_waiting(each)) for each in api_tokens]
    while waiting < len(tasks):
        await asyncio.sleep(0.05)
    ends_at = time.monotonic() + seconds
    yield "all wait"
    await asyncio.gather(*tasks)
    yield came


async def flood(address, api_token, pace, seconds):
    """So many requests a second, if the Hub answers so many. Status → number of such answers."""
    port, path = address
    request = f"GET {path} HTTP/1.1\r\nHost: hub\r\nAuthorization: token {api_token}\r\n\r\n"
    statuses, interval, begins_at = Counter(), CONNECTIONS / pace, time.monotonic()

    async def keep_asking(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        asks_at = begins_at + number / pace
        while asks_at < begins_at + seconds:
            await asyncio.sleep(asks_at - time.monotonic())
            writer.write(request.encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            await reader.readexactly(int(re.search(r"Content-Length: (\d+)", head)[1]))
            statuses[head.split()[1]] += 1
            asks_at += interval
        writer.close()

    await asyncio.gather(*map(keep_asking, range(CONNECTIONS)))
    yield statuses


async def work(name, *arguments):
    async for answer in globals()[name](*arguments):
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    for line in sys.stdin:
        asyncio.run(work(*json.loads(line)))
