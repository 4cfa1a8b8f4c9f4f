"""A large auth_state, in real time: how long it keeps the Hub's event loop.

``python -m benchmarks.large [--size 1048576] [--specs 50] [--servers 10] [--rounds 5]``, from the
folder above. In each round, the user logs in with a token that is due, it is renewed, and all
servers get the new one. Printed are the medians of the rounds. What a callback takes is without the
commits of the Hub's database, which are JupyterHub's: it encrypts in a thread, and commits in the
loop. What is simulated: see ``benchmarks.renewal``, but for the time.
"""

import argparse
import asyncio
import gc
import tempfile
import time
from contextlib import contextmanager
from statistics import median

from tests.support.oauth import make_auth_state

from .pace import Scenario
from .simulation import Figure
from .world import World, make_crypt_key

LIFETIME = 3600


def make_groups(size):
    """About so many bytes of JSON, as GitHub's teams or a directory's groups are."""
    group = {"name": "x" * 60, "slug": "y" * 60, "parent": {"id": 7, "members": [1, 2, 3]}}
    return {f"group{number}": {"id": number, **group} for number in range(size // 220)}


def make_tokens(specs):
    return {
        f"token{number}": {
            "variables": {f"GROUP{number}": f"groups.group{number}.name"},
            "required_scopes": ["openid"],
        }
        for number in range(specs - 1)
    }


@contextmanager
def timed(session, loop):
    """The seconds on the CPU of each commit, which count for no callback."""
    commit, seconds = session.commit, []

    def take_time():
        began, busy = time.perf_counter(), time.thread_time()
        try:
            commit()
        finally:
            seconds.append(time.thread_time() - busy)
            loop.leave_out(time.perf_counter() - began, seconds[-1])

    session.commit = take_time
    try:
        yield seconds
    finally:
        del session.commit


def run(groups, rounds):
    async def live_once(world, loop, spawners):
        user, provider = spawners[0].user, world.provider
        answer = provider.log_in(user.name, 0.85 * LIFETIME)
        auth_state = make_auth_state(user.name, answer) | {"groups": groups}
        await world.forget(loop)
        with timed(user.db, loop) as commits:
            await user.save_auth_state(auth_state)
            while not provider.granted:
                await asyncio.sleep(0.01)
            while world.servers.seen[provider.granted[-1]] < len(spawners):
                await asyncio.sleep(0.01)
        words = "on the CPU, of the Hub's database, by JupyterHub or for it"
        longest = Figure("large", "commit, busiest", 1e3 * max(commits), "ms", words)
        return [*loop.figures("large"), longest]

    async def life(world, loop, spawners):
        await world.start(spawners)
        await asyncio.sleep(3)
        gc.disable()  # it takes its time in whatever runs
        lived = [await live_once(world, loop, spawners) for _ in range(rounds)]
        for same in zip(*lived, strict=True):
            middle = median(figure.value for figure in same)
            worst = max(same, key=lambda figure: figure.value)
            yield worst._replace(value=middle, words=f"worst {worst.value:.2f}: {worst.words}")
        gc.enable()

    return life


def measure(size, specs, servers, rounds):
    """Yields :class:`Figure`."""
    groups = make_groups(size)
    scenario = Scenario(
        "large",
        LIFETIME,
        lambda clock, answer: {"groups": groups},
        at_login=True,
        tokens=make_tokens(specs),
    )
    with (
        make_crypt_key(),
        tempfile.TemporaryDirectory() as disk,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        world = World(servers, 1, LIFETIME, disk, memory, scenario)
        world.skips = False
        try:
            yield from world.live(run(groups, rounds))
        finally:
            world.close()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.large", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--size", type=int, default=2**20, help="of the auth_state, in bytes")
    parser.add_argument("--specs", type=int, default=50, metavar="N")
    parser.add_argument("--servers", type=int, default=10, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    print(f"{'':22}    median of the rounds")
    for _, name, value, unit, words in measure(**vars(parser.parse_args())):
        print(f"{name:22}{value:10.2f} {unit:4}{words}", flush=True)


if __name__ == "__main__":
    main()
