"""Renewals that bring nothing, by simulation: how often the provider is asked all the same.

``python -m benchmarks.pace [--users 5000] [--hours 8]``, from the folder above. The scenarios are
configurations and clocks that were met in the wild. What is simulated: see ``benchmarks.renewal``.
"""

import argparse
import asyncio
import base64
import json
import secrets
import tempfile
from dataclasses import dataclass, field

from .simulation import Figure
from .world import World, make_crypt_key


def make_jwt(signature="s", **claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.{signature}"


@dataclass(frozen=True)
class Scenario:
    """``lifetime``: of the login's tokens, in seconds; ``shortest``: of all that are delivered.

    ``skew``: of the provider's clock.

    ``more(clock, answer)`` is what hooks add to an auth_state for an answer of the provider, and
    ``at_login`` says whether that is done at a login alone.
    """

    name: str
    lifetime: int
    more: object = lambda clock, answer: {}
    at_login: bool = False
    tokens: dict = field(default_factory=dict)
    skew: float = 0.0
    shortest: int | None = None
    make_token: object = None


def add_opaque(clock, answer):
    return {"exchanged_tokens": {"storage": secrets.token_hex(20)}}


def add_end(clock, answer):
    return {"expires_at": answer["created_at"] + answer["expires_in"]}


def add_short(clock, answer):
    return {"nested": make_jwt(secrets.token_hex(4), exp=int(clock()) + 240)}


SCENARIOS = (
    Scenario(
        "an opaque token from a hook",
        3600,
        add_opaque,
        tokens={"storage": {"key": "exchanged_tokens.storage"}},
    ),
    Scenario("a login's expires_at that stays", 1200, add_end, at_login=True),
    Scenario("a provider 200 s behind, with JWTs", 300, skew=-200, make_token=make_jwt),
    Scenario(
        "a JWT from a hook for 240 s",
        3600,
        add_short,
        tokens={"nested": {"key": "nested"}},
        shortest=240,
    ),
)


def run(scenario, hours):
    async def life(world, loop, spawners):
        await world.start(spawners)
        await world.forget(loop)
        began, seconds = world.clock(), 3600 * hours
        await asyncio.sleep(seconds)
        users = len(world.provider.tokens)
        lives = (world.clock() - began) / (scenario.shortest or scenario.lifetime)
        grants = len(world.provider.requests) / users / lives
        yield Figure(scenario.name, "grants per life", grants, "", "and user")
        dead = 100 * world.servers.dead_share()
        yield Figure(scenario.name, "dead", dead, "%", "of the time, the login's token in a file")

    return life


def measure(users, hours):
    """Yields :class:`Figure`."""
    for scenario in SCENARIOS:
        with (
            make_crypt_key(),
            tempfile.TemporaryDirectory() as disk,
            tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        ):
            world = World(users, users, scenario.lifetime, disk, memory, scenario)
            try:
                yield from world.live(run(scenario, hours))
            finally:
                world.close()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pace", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--users", type=int, default=5000, metavar="N")
    parser.add_argument("--hours", type=float, default=8)
    for phase, name, value, unit, words in measure(**vars(parser.parse_args())):
        print(f"{phase:38}{name:18}{value:9.2f} {unit:3}{words}", flush=True)


if __name__ == "__main__":
    main()
