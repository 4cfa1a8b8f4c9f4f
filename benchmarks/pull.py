"""Servers that ask a Hub for their tokens: what that takes of its core, its time and its memory.

``python -m benchmarks.pull [--asking 1000] [--waiting 10000] [--interval 30] [--seconds 60]
[--pace 1000]``, from the folder above, in real time. Each server is of a user of its own. They ask
a Hub that has just started, then some ask again and again, and then they wait as
``spawner_tokens.singleuser`` does while one of a hundred gets a new token. At last one of them asks
at a great pace for ten seconds, beginning with a token that has to be renewed. Real are the Hub,
its database (SQLite on disk), its handlers, its log, and HTTP with a connection for each request,
in the flood with 50 in all. The servers are tasks in a process of their own:
``benchmarks/asking.py``.
"""

import argparse
import asyncio
import gc
import json
import logging
import secrets
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from statistics import median
from subprocess import PIPE

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from jupyterhub.utils import hash_token

from tests.support.hub import launch
from tests.support.pulling import PULL
from tests.support.scripted import Provider, login
from tests.support.spawners import VariablesOnly

from .renewal import find_memory
from .simulation import Clock, Figure, Loop

TOKENS = {"t": {"env": "T"}}
FLOOD = 10  # seconds
STARTED = {
    **{"tokens": TOKENS, "tokens_hook": None, "tokens_renew": True},
    **{"tokens_shared": "withhold", "tokens_pull": True},
}


def add_servers(hub, count):
    """The Spawners of servers that run, and their API tokens."""
    api_tokens, users = [secrets.token_hex(16) for _ in range(count)], []
    for number, api_token in enumerate(api_tokens):
        auth_state = CryptKeeper.instance()._encrypt(login(f"user{number}"))
        user = orm.User(name=f"user{number}", encrypted_auth_state=auth_state)
        client = orm.OAuthClient(identifier=f"server{number}", secret=hash_token(api_token))
        own = orm.APIToken(user=user, client_id="jupyterhub", token=api_token)
        state, row = {"tokens_started": STARTED}, {"user": user, "oauth_client": client}
        hub.app.db.add_all([own, orm.Spawner(name="", state=state, server=orm.Server(), **row)])
        users.append(user)
    hub.app.db.commit()
    return [hub.app.users[user.id].spawners[""] for user in users], api_tokens


def describe(phase, name, found):
    found = sorted(found)
    yield Figure(phase, f"{name}, median", 1e3 * median(found), "ms", f"of {len(found):,}")
    yield Figure(phase, f"{name}, p99", 1e3 * found[len(found) * 99 // 100], "ms")


async def measure_start(loop, tell, address, spawners, api_tokens):
    await loop.forget()
    busy = time.process_time()
    for spawner in spawners:
        spawner.start_polling()
        await asyncio.sleep(0)
    found = await tell("ask_first", address, api_tokens)
    busy = 1e3 * (time.process_time() - busy) / len(spawners)
    words = "per server, with what it takes to watch it"
    yield Figure("start", "CPU, each", busy, "ms", words)
    for figure in [*loop.figures("start"), *describe("start", "request", found)]:
        yield figure


async def measure_waiting(loop, tell, servers, spawners, interval, seconds):
    """``servers``: their address and API tokens."""
    renewed, saved, before = spawners[::100], {}, find_memory()
    await tell("wait_for_new", *servers, interval, seconds, len(renewed))
    memory = (find_memory() - before) / len(spawners) / 1024
    yield Figure("waiting", "memory", memory, "KiB", "per server: what the Hub grew by its request")
    await loop.forget()
    for spawner in renewed:
        name = spawner.user.name
        saved[f"{name}-a1"] = time.monotonic()
        await spawner.user.save_auth_state(login(name, left=3100, n=1))
    await asyncio.sleep(seconds)
    for figure in loop.figures("waiting"):
        yield figure
    came = await tell()
    yield Figure("waiting", "lost", len(saved.keys() - came.keys()), "", f"of {len(saved):,}")
    for figure in describe("waiting", "new token", [came[each] - saved[each] for each in came]):
        yield figure


async def measure_flood(loop, tell, provider, spawner, arguments):
    """``arguments``: of :func:`.asking.flood`."""
    name = spawner.user.name
    await spawner.user.save_auth_state(login(name, left=30, n=2))
    await loop.forget()
    began = time.monotonic()
    statuses = await tell("flood", *arguments)
    took = time.monotonic() - began
    for figure in loop.figures("flood"):
        yield figure
    count, refused = sum(statuses.values()), statuses.get("429", 0)
    yield Figure("flood", "requests", count / took, "/s", f"{count:,} in {took:.1f} s")
    yield Figure("flood", "refused", refused, "", "with the status 429")
    yield Figure("flood", "given", statuses.get("200", 0), "", "with the token")
    yield Figure("flood", "provider", len(provider.grants[name]), "", "requests to it")


async def live(loop, folder, servers, asking, waiting, interval, seconds, pace):
    async def tell(*work):
        """Give the servers work, if there is any. Returns their next answer."""
        if work:
            print(json.dumps(work), file=servers.stdin, flush=True)
        return json.loads(await asyncio.to_thread(servers.stdout.readline))

    provider = Provider()
    settings = {**provider.settings(), **PULL, "TokenSpawnerMixin.tokens": TOKENS}
    settings["JupyterHub.log_level"] = logging.WARNING
    hub = await launch(folder, folder, b"k" * 32, VariablesOnly, settings)
    hub.app.log.handlers[:], hub.app.log.propagate = [logging.FileHandler(folder / "log")], False
    hub.app.log.setLevel(logging.INFO)
    try:
        address = hub.app.hub.port, f"{hub.app.hub.base_url}api/spawner-tokens/t"
        spawners, api_tokens = add_servers(hub, max(asking, waiting))
        async for figure in measure_start(loop, tell, address, spawners, api_tokens):
            yield figure
        await loop.forget()
        times = max(1, round(seconds / interval))
        found = await tell("ask_again", address, api_tokens[:asking], interval, times)
        for figure in [*loop.figures("asking"), *describe("asking", "request", found)]:
            yield figure
        waits = loop, tell, (address, api_tokens[:waiting]), spawners[:waiting], interval, seconds
        async for figure in measure_waiting(*waits):
            yield figure
        arguments = address, api_tokens[-1], pace, min(seconds, FLOOD)
        async for figure in measure_flood(loop, tell, provider, spawners[-1], arguments):
            yield figure
    finally:
        hub.app.users.clear()  # no server has a process
        await hub.close()


async def go_on(figures):
    return await anext(figures, None)


def measure(asking, waiting, interval, seconds, pace):
    """Yields :class:`Figure`."""
    command = [sys.executable, Path(__file__).with_name("asking.py")]
    servers = subprocess.Popen(command, stdin=PIPE, stdout=PIPE, text=True)
    loop = Loop(Clock(), skips=False)
    gc.callbacks.append(loop.see_collector)
    try:
        with servers, tempfile.TemporaryDirectory() as folder:
            numbers = asking, waiting, interval, seconds, pace
            figures = live(loop, Path(folder), servers, *numbers)
            while (figure := loop.run_until_complete(go_on(figures))) is not None:
                yield figure
    finally:
        gc.callbacks.remove(loop.see_collector)
        loop.close()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pull", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--asking", type=int, default=1000, metavar="N", help="servers")
    parser.add_argument("--waiting", type=int, default=10000, metavar="N", help="servers")
    parser.add_argument("--interval", type=float, default=30, help="seconds, of those that ask")
    parser.add_argument("--seconds", type=float, default=60, help="of each phase")
    parser.add_argument("--pace", type=float, default=1000, help="requests a second, of a flood")
    options = vars(parser.parse_args())
    for phase, figures in groupby(measure(**options), key=lambda figure: figure.phase):
        print(phase)
        for _, name, value, unit, words in figures:
            print(f"    {name:20}{value:10.2f} {unit:5}{words}", flush=True)


if __name__ == "__main__":
    main()
