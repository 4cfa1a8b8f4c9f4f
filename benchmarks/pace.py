"""Renewals that bring nothing, and users that are stuck, by simulation: who waits, who is asked.

``python -m benchmarks.pace [--users 5000] [--stuck 1000] [--lives 3]``, from the folder above. The
scenarios are configurations, clocks and faults that were met in the wild, each for so many lives of
a token. What is simulated: see ``benchmarks.renewal``.
"""

import argparse
import asyncio
import base64
import json
import secrets
import tempfile
from dataclasses import dataclass, field

from sqlalchemy import event
from sqlalchemy.exc import DataError

from .simulation import Figure
from .world import World, make_crypt_key


def make_jwt(signature="s", **claims):
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.{signature}"


@dataclass(frozen=True)
class Scenario:
    """``lifetime``: of the login's tokens, in seconds; ``shortest``: of all that are delivered.

    ``skew``: of the provider's clock. ``stuck``: what hangs or fails for all users but the last.

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
    stuck: str = ""

    def prepare(self, world, authenticator, config, session):
        """Have it hang, or fail."""
        last = [*world.provider.tokens][-1]

        async def hang(user, result):
            if user != last:
                await asyncio.Event().wait()
            return result

        def refuse(connection, cursor, statement, parameters, *args):
            if "encrypted_auth_state=" in statement and parameters[-1] != len(
                world.provider.tokens
            ):
                raise DataError("SQL", {}, Exception("value too long"))

        if self.stuck == "refresh_user_hook":
            authenticator.refresh_user_hook = lambda _, user, auth_state: hang(user.name, True)
        elif self.stuck == "tokens_hook":
            config.TokenSpawnerMixin.tokens_hook = lambda spawner, auth_state, tokens: hang(
                spawner.user.name, tokens
            )
        elif self.stuck == "database":
            event.listen(session.get_bind(), "before_cursor_execute", refuse)
        elif self.stuck == "provider":
            world.provider.hangs = lambda user: user != last


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


STUCK = [
    Scenario(f"stuck: {stuck}", 300, stuck=stuck)
    for stuck in ("refresh_user_hook", "tokens_hook", "database", "provider")
]


def run(scenario, lives):
    async def life(world, loop, spawners):
        if scenario.stuck:
            for spawner in spawners:
                spawner.start_polling()
        else:
            await world.start(spawners)
        await world.forget(loop)
        began, provider = world.clock(), world.provider
        await asyncio.sleep(lives * (scenario.shortest or scenario.lifetime))
        lived = (world.clock() - began) / (scenario.shortest or scenario.lifetime)
        last = [spawners[-1].orm_spawner.id] if scenario.stuck else []
        others = {**provider.asked}
        if scenario.stuck:
            grants = others.pop(spawners[-1].user.name, 0) / lived
            yield Figure(scenario.name, "grants per life", grants, "", "of the healthy user")
        grants = sum(others.values()) / len(provider.tokens) / lived
        yield Figure(
            scenario.name,
            "grants per life",
            grants,
            "",
            "of each of the others" if last else "and user",
        )
        dead = 100 * world.servers.dead_share(*last)
        words = "of the healthy user's time" if last else "of the time"
        yield Figure(scenario.name, "dead", dead, "%", f"{words}, the login's token in a file")

    return life


def measure(users, stuck, lives):
    """Yields :class:`Figure`."""
    for scenario in (*SCENARIOS, *STUCK):
        number = stuck + 1 if scenario.stuck else users
        with (
            make_crypt_key(),
            tempfile.TemporaryDirectory() as disk,
            tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
        ):
            world = World(number, number, scenario.lifetime, disk, memory, scenario)
            try:
                yield from world.live(run(scenario, lives))
            finally:
                world.close()


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pace", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--users", type=int, default=5000, metavar="N")
    parser.add_argument("--stuck", type=int, default=1000, metavar="N")
    parser.add_argument("--lives", type=float, default=3, help="of a token")
    for phase, name, value, unit, words in measure(**vars(parser.parse_args())):
        print(f"{phase:38}{name:18}{value:9.2f} {unit:3}{words}", flush=True)


if __name__ == "__main__":
    main()
