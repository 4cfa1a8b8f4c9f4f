"""Spawns of DockerSpawner with and without tokens, and how long a new token takes into a container.

``python -m benchmarks.docker [--rounds 15]``, from the folder above, with ``DOCKER_HOST`` set. Each
round has one spawn of every way, one after the other, so that other load on the machine meets all
of them. The server answers at once: what is measured is the engine's and the Hub's time.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from dockerspawner import DockerSpawner

from spawner_tokens import TokenDockerSpawner
from tests.support.engine import Engine
from tests.support.hub import launch

DIRECTORY = "/var/run/secrets/spawner-tokens"
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {}}}


async def snippet(spawner):
    auth_state = await spawner.user.get_auth_state()
    spawner.environment["TOKEN"] = auth_state["access_token"]


# Its spawner class, and its settings.
WAYS = {
    "DockerSpawner": (DockerSpawner, {}),
    "with a pre_spawn_hook": (DockerSpawner, {"Spawner.pre_spawn_hook": snippet}),
    "tokens, bind": (TokenDockerSpawner, {**TOKENS, "DockerTokenMixin.tokens_volume_mode": "bind"}),
    "tokens, volume": (
        TokenDockerSpawner,
        {**TOKENS, "DockerTokenMixin.tokens_volume_mode": "volume"},
    ),
}

WAIT = """
import sys, time
open("/tmp/ready", "w").close()
while open(sys.argv[1]).read() != sys.argv[2]:
    pass
print(time.time())
"""


@asynccontextmanager
async def start_hub(engine, way):
    spawner_class, settings = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        settings = {**engine.settings(remove=True), **settings}
        hub = await launch(Path(folder), Path("/dev/shm"), b"k" * 32, spawner_class, settings)
        hub.app.log.setLevel("ERROR")
        try:
            yield hub
        finally:
            await hub.close()


async def measure_spawns(engine, hubs, rounds):
    """Way → seconds of each spawn."""
    seconds = {way: [] for way in WAYS}
    users = {
        way: await hub.user("alice", {"access_token": "the-token"}) for way, hub in hubs.items()
    }
    for round in range(rounds + 1):
        for way, user in users.items():
            began = time.monotonic()
            await user.spawn("")
            if round:  # the first is for the caches
                seconds[way].append(time.monotonic() - began)
            await user.stop("")
            while engine.containers():
                await asyncio.sleep(0.01)
    return seconds


async def measure_delivery(engine, hub, rounds):
    """Seconds from a saved auth_state to the new token in the container, of each round."""
    seconds = []
    user = await hub.user("alice", {"access_token": "the-token"})
    await user.spawn("")
    [name] = engine.containers()
    for number in range(rounds):
        command = [sys.executable, "-c", WAIT, f"{DIRECTORY}/t", f"token-{number}"]
        waiting = asyncio.ensure_future(asyncio.to_thread(engine.run, name, *command))
        while engine.run(name, "rm", "/tmp/ready").code:
            await asyncio.sleep(0.01)
        began = time.time()
        await user.save_auth_state({"access_token": f"token-{number}"})
        seconds.append(float((await waiting).out) - began)
    await user.stop("")
    while engine.containers():
        await asyncio.sleep(0.01)
    return seconds


async def main(rounds):
    engine = Engine()
    async with AsyncExitStack() as stack:
        stack.callback(engine.clean)
        hubs = {way: await stack.enter_async_context(start_hub(engine, way)) for way in WAYS}
        spawns = await measure_spawns(engine, hubs, rounds)
        plain = spawns["DockerSpawner"]
        print(
            f"{rounds} spawns each, in turn: median, and median of the difference to DockerSpawner"
        )
        for way, seconds in spawns.items():
            more = median(each - base for each, base in zip(seconds, plain, strict=True))
            print(f"  {way:24}{1000 * median(seconds):7.0f} ms  {1000 * more:+6.0f} ms")
        print("from a saved auth_state to the new token in the container: median, and the longest")
        for way in list(WAYS)[2:]:
            seconds = await measure_delivery(engine, hubs[way], rounds)
            print(f"  {way:24}{1000 * median(seconds):7.1f} ms  {1000 * max(seconds):6.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.docker", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--rounds", type=int, default=15, metavar="N", help="spawns of each way, and deliveries"
    )
    asyncio.run(main(parser.parse_args().rounds))
