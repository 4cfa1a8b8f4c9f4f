"""A large auth_state, in real time: how long it keeps the Hub's event loop.

``python -m benchmarks.large [--size 1048576] [--specs 50] [--servers 10] [--rounds 5]``, from the
folder above. In each round, the user logs in with a token that is due, it is renewed, and all
servers get the new one. What is simulated: see ``benchmarks.renewal``, but for the time.
"""

import argparse
import asyncio
import gc
import tempfile

from jupyterhub.crypto import CryptKeeper

from tests.support.oauth import make_auth_state

from .pace import Scenario
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


def run(groups, rounds):
    async def life(world, loop, spawners):
        await world.start(spawners)
        user, provider, logins = spawners[0].user, world.provider, []
        for _ in range(rounds):
            answer = provider.log_in(user.name, 0.75 * LIFETIME)
            auth_state = make_auth_state(user.name, answer) | {"groups": groups}
            logins.append(CryptKeeper.instance()._encrypt(auth_state))
        await asyncio.sleep(3)
        gc.disable()  # it takes its time in whatever runs
        await world.forget(loop)
        for number, encrypted in enumerate(logins, 1):
            user.encrypted_auth_state = encrypted
            user.db.commit()
            while len(provider.granted) < number:
                await asyncio.sleep(0.01)
            while world.servers.seen[provider.granted[-1]] < len(spawners):
                await asyncio.sleep(0.01)
        gc.enable()
        for figure in loop.figures("large"):
            yield figure

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
    for _, name, value, unit, words in measure(**vars(parser.parse_args())):
        print(f"{name:22}{value:10.2f} {unit:4}{words}", flush=True)


if __name__ == "__main__":
    main()
