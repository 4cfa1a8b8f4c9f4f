"""The renewal at scale, by simulation: what it asks of a provider, and of the Hub's event loop.

``python -m benchmarks.renewal [--servers 10000] [--users 5000] [--hours 8] [--lifetime 7200]
[--exchanged 2]``, from the folder above.

Simulated are the provider, which rotates refresh tokens and rejects spent ones, and waiting: when
nothing is ready to run, the clock jumps to the next timer. All else is real and takes its time:
OAuthenticator, JupyterHub's Users and Spawners, its database (SQLite on disk) and its encryption,
and the servers' files, which are in memory. There are no server processes, so the Hub does not
poll them.
"""

import argparse
import asyncio
import gc
import os
import tempfile
import time
from itertools import groupby
from pathlib import Path

from .simulation import Figure
from .world import World, find_end, make_crypt_key

DOWN = OUTAGE = 1800  # seconds without the Hub, and without the provider
SETTLING = 600  # seconds after each that we look at


# -- what is measured ----------------------------------------------------------------------------


def steady(hours, lifetime):
    async def life(world, loop, spawners):
        provider, servers, users = world.provider, world.servers, len(world.provider.tokens)
        before = find_memory()
        await world.start(spawners)
        await asyncio.sleep(lifetime)
        memory = (find_memory() - before) / len(spawners)

        await provider.calm()
        await world.forget(loop)
        began = world.clock()
        await asyncio.sleep(3600 * hours)
        await provider.calm()
        seconds, requests, exchanges, granted = (
            world.clock() - began,
            len(provider.requests),
            provider.exchanges,
            list(provider.granted),
        )
        figures = [*provider.figures("steady"), *loop.figures("steady")]
        await asyncio.sleep(10)  # for the last deliveries
        cycles = sum(servers.seen[token] >= world.servers_each for token in granted) / users
        dead = 100 * servers.dead_share()

        words = "from one renewal of a user that reached all servers to the next"
        yield Figure("steady", "cycle", seconds / cycles / 60, "min", words)
        yield Figure(
            "steady",
            "requests per cycle",
            requests / users / cycles,
            "",
            "of a user, to the token endpoint",
        )
        words = "of these, for tokens that live half as long"
        yield Figure("steady", "exchanges per cycle", exchanges / users / cycles, "", words)
        yield Figure(
            "steady",
            "requests per lifetime",
            requests / users * lifetime / seconds,
            "",
            "of a user",
        )
        yield Figure(
            "steady", "dead", dead, "%", "of the servers' time, with a dead token in the file"
        )
        yield Figure(
            "steady",
            "memory",
            memory / 1024,
            "KiB",
            "per server: what the process grew in the first cycle",
        )
        for figure in [*figures, *find_exchanged(world, "steady")]:
            yield figure

    return life


def find_exchanged(world, phase):
    """Figures of the tokens for which the users' were exchanged."""
    exchanged = world.exchanged
    if exchanged.names:
        words = "of the time, in which a file has a dead exchanged token"
        yield Figure(phase, "exchanged, dead share", 100 * exchanged.dead_share(), "%", words)
        dead_for = max(0.0, exchanged.last_revived - exchanged.since)
        yield Figure(phase, "exchanged, dead for", dead_for, "s", "until no file had a dead one")


async def restart_and_outage(world, loop, spawners):
    provider, servers, users = world.provider, world.servers, len(world.provider.tokens)
    await world.forget(loop)
    yield Figure(
        "restart",
        "overdue",
        provider.count_overdue(),
        "users",
        f"of {users:,}, after {DOWN // 60} minutes",
    )
    yield Figure(
        "restart",
        "dead",
        servers.count_dead(),
        "servers",
        f"of {len(spawners):,} have a dead token by then",
    )
    words = f"of {len(spawners) * len(world.exchanged.names):,} are dead by then"
    yield Figure("restart", "exchanged, dead", world.exchanged.count_dead(), "files", words)
    began, wall, busy = world.clock(), time.perf_counter(), time.process_time()
    await world.start(spawners)
    wall, busy = time.perf_counter() - wall, time.process_time() - busy
    words = f"until all servers have their files again; {busy:.1f} s of it on the CPU"
    yield Figure("restart", "start", wall, "s", words)
    await asyncio.sleep(SETTLING)
    yield Figure(
        "restart", "overdue for", provider.last_overdue - began, "s", "until no renewal was overdue"
    )
    yield Figure(
        "restart",
        "dead for",
        max(0.0, servers.last_revived - began),
        "s",
        "until no server had a dead token",
    )
    for figure in [
        *provider.figures("restart"),
        *loop.figures("restart"),
        *find_exchanged(world, "restart"),
    ]:
        yield figure

    await provider.calm()
    await world.forget(loop)
    provider.is_down = True
    await asyncio.sleep(OUTAGE)
    provider.is_down = False
    end, mean = world.clock(), len(provider.requests) / OUTAGE
    yield Figure("outage", "requests", mean, "1/s", f"in {OUTAGE // 60} minutes of HTTP 503")
    yield Figure(
        "outage", "overdue", provider.count_overdue(), "users", f"of {users:,}, at its end"
    )
    yield Figure(
        "outage",
        "dead",
        servers.count_dead(),
        "servers",
        f"of {len(spawners):,} have a dead token by then",
    )
    await asyncio.sleep(SETTLING)
    yield Figure(
        "outage",
        "overdue for",
        max(0.0, provider.last_overdue - end),
        "s",
        "until no renewal was overdue",
    )
    yield Figure(
        "outage",
        "dead for",
        max(0.0, servers.last_revived - end),
        "s",
        "until no server had a dead token",
    )
    for figure in [*provider.figures("outage"), *loop.figures("outage")]:
        yield figure

    newest = dict(provider.tokens)
    await asyncio.sleep(10)  # for the last answers and deliveries
    files = (
        (newest[each.user.name], Path(each.tokens_directory, "login").read_text())
        for each in spawners
    )
    wrong = sum(find_end(token) < find_end(wanted) for wanted, token in files)
    yield Figure(
        "outage",
        "old files",
        wrong,
        "servers",
        "whose file has not the user's newest token in the end",
    )


def find_memory():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def measure(servers, users, hours, lifetime, exchanged=0):
    """Yields :class:`Figure`."""
    with (
        make_crypt_key(),
        tempfile.TemporaryDirectory() as disk,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        world = World(servers, users, lifetime, disk, memory, exchanged=exchanged)
        try:
            yield from world.live(steady(hours, lifetime))
            world.clock.skipped += DOWN
            yield from world.live(restart_and_outage)
        finally:
            world.close()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.renewal", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--servers", type=int, default=10000, metavar="N")
    parser.add_argument("--users", type=int, default=5000, metavar="N")
    parser.add_argument(
        "--hours", type=float, default=8, help="of the steady state, after the first lifetime"
    )
    parser.add_argument(
        "--lifetime", type=int, default=7200, help="of the provider's tokens, in seconds"
    )
    parser.add_argument(
        "--exchanged", type=int, default=0, metavar="N", help="tokens by exchange for each user"
    )
    for phase, figures in groupby(
        measure(**vars(parser.parse_args())), key=lambda figure: figure.phase
    ):
        print(phase)
        for _, name, value, unit, words in figures:
            text = f"{value:,}" if isinstance(value, int) else f"{value:,.3f}"
            print(f"    {name:25}{text:>10} {unit:8}{words}", flush=True)


if __name__ == "__main__":
    main()
