"""Users who start at once: while the sweep fails and orphans wait, and without.

``python -m benchmarks.sweep [--users 50] [--orphans 100] [--rounds 3]``, from the folder above:
with processes; with containers, where ``DOCKER_HOST`` is set; with pods, where ``KUBECONFIG`` is. A
removal takes two seconds, and each sweep fails at its end.
"""

import argparse
import asyncio
import logging
import os
import secrets
import shutil
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from spawner_tokens import (
    TokenDockerSpawner,
    TokenKubeSpawner,
    TokenSimpleLocalProcessSpawner,
)
from tests.support.cluster import Cluster, Namespace, clean, stop_clients
from tests.support.engine import Engine
from tests.support.hub import launch

FILES = {"t": b"left"}
PATIENT = {
    "TokenSpawnerMixin.tokens": {"t": {}},
    "JupyterHub.log_level": logging.CRITICAL,
    "Spawner.start_timeout": 300,
    "Spawner.http_timeout": 300,
}


async def remove_slowly(remove):
    await asyncio.sleep(2)
    await remove()


def make_failing(spawner_class):
    class Failing(spawner_class):
        async def sweep_files(self):
            async for left in super().sweep_files():
                yield replace(left, remove=partial(remove_slowly, left.remove))
            raise OSError("403")

    return Failing


async def leave(hub, number):
    """An orphan, as a Hub leaves it that is killed before there is a server."""
    spawner = hub.spawner(await hub.user(f"orphan{number}"))
    await spawner.keep_location()
    if isinstance(spawner, TokenDockerSpawner):
        spawner._shared.write(spawner._directory, FILES, None, True)
    else:
        await spawner.deliver_files(FILES)


async def start(hub, user):
    """The seconds of a start; ``None`` if it fails."""
    began = time.perf_counter()
    try:
        await hub.spawn(user)
    except Exception:
        return None
    return time.perf_counter() - began


async def run(spawner_class, settings, users, orphans):
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        memory = Path("/dev/shm", f"spawner-tokens-benchmark-{secrets.token_hex(4)}")
        stack.callback(shutil.rmtree, memory, ignore_errors=True)
        begin = partial(launch, folder, memory, b"k" * 32)
        settings = {**PATIENT, **settings(folder, stack)}
        hub = await begin(spawner_class, settings)
        for number in range(orphans):
            await leave(hub, number)
        await hub.close()
        hub = await begin(make_failing(spawner_class) if orphans else spawner_class, settings)
        starting = [await hub.user(f"user{each}", {"access_token": "x"}) for each in range(users)]
        try:
            return await asyncio.gather(*(start(hub, user) for user in starting))
        finally:
            await hub.close()
            await stop_clients()


def use_engine(folder, stack):
    engine = Engine()
    stack.callback(engine.clean)
    return engine.settings(remove=True, tokens_volume_mode="bind")


def use_cluster(folder, stack):
    cluster = Cluster(os.environ["KUBECONFIG"])
    namespace = Namespace(cluster, folder)
    stack.callback(clean, cluster, [namespace.name])
    return namespace.settings(start_timeout=300)


BACKENDS = {
    "processes": (TokenSimpleLocalProcessSpawner, lambda folder, stack: {}, "PATH"),
    "containers": (TokenDockerSpawner, use_engine, "DOCKER_HOST"),
    "pods": (TokenKubeSpawner, use_cluster, "KUBECONFIG"),
}


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sweep", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--users", type=int, default=50)
    parser.add_argument("--orphans", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    row = "{:12}{:>8}{:>8}{:>16}{:>16}"
    print(row.format("", "orphans", "failed", "median start", "slowest start"))
    for name, (spawner_class, settings, variable) in BACKENDS.items():
        if variable not in os.environ:
            continue
        for orphans in (0, options.orphans) * options.rounds:
            found = asyncio.run(run(spawner_class, settings, options.users, orphans))
            seconds = [each for each in found if each is not None] or [0]
            texts = (f"{each:.1f} s" for each in (statistics.median(seconds), max(seconds)))
            print(row.format(name, orphans, found.count(None), *texts), flush=True)


if __name__ == "__main__":
    main()
