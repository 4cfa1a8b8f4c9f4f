"""Exchanged tokens, no browser: what a provider that nobody here wrote says of the servers' tokens.

``python -m benchmarks.exchange [--login 20] [--exchanged 7] [--lives 10]``, from the folder above.
npm's oidc-provider exchanges the login's token of alice, who has two servers, for two others. Each
fifth of a second it is asked about each token in each server's files.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from spawner_tokens.demo.processes import end_processes, find_processes
from tests.support.crashing import HubProcess, keep_looking, log_in
from tests.support.oidc import find_oidc_provider, oidc_settings, start_oidc_provider

EXCHANGED = "eos", "api"


async def run(module, login, exchanged, lives):
    """Yields each figure's name and value."""
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        folder = Path(name)
        Path(memory).chmod(0o711)
        async with start_oidc_provider(module, folder, login, exchanged) as provider:
            tokens = {"t": {}, **{name: {"exchange": {"audience": name}} for name in EXCHANGED}}
            settings = oidc_settings(provider) | {"TokenSpawnerMixin.tokens": tokens}
            logins = {"alice": (await log_in(provider, "alice"), ["", "b"])}
            hub = HubProcess(folder, memory, settings, logins)
            try:
                directories = [file.parent for file in await hub.ready()]
                before, began = await provider.grants(), time.monotonic()
                looks = await look_at(provider, directories, tokens, lives * login)
                seconds = time.monotonic() - began
                after = await provider.grants()
            finally:
                hub.kill()
                await hub.died()
                end_processes(find_processes(folder))
    yield "seconds", seconds
    for name, found in looks.items():
        life = login if name == "t" else exchanged
        user = "alice" if name == "t" else f"alice {name}"
        yield f"{name}: looks", len(found)
        yield f"{name}: looks at a dead token", sum(each.dead > 0 for each in found)
        yield f"{name}: lives", seconds / life
        yield f"{name}: answers with a new one", after[user] - before[user]


async def look_at(provider, directories, names, seconds):
    """Token name → the looks at it, in all servers."""
    looks = {name: [] for name in names}
    tasks = [
        asyncio.ensure_future(keep_looking(provider, directory / name, 0.2, looks[name]))
        for directory in directories
        for name in names
    ]
    done, _ = await asyncio.wait(tasks, timeout=seconds)
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*done, *tasks)  # an error, if one has ended
    return looks


async def main(**arguments):
    module = find_oidc_provider() or sys.exit("npm install --global oidc-provider")
    async for name, value in run(module, **arguments):
        print(f"{name:36}{value:10,.{0 if isinstance(value, int) else 1}f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.exchange", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--login", type=int, default=20, help="life of the login's token, seconds")
    parser.add_argument("--exchanged", type=int, default=7, help="life of the others, seconds")
    parser.add_argument("--lives", type=int, default=10, help="of the login's token")
    asyncio.run(main(**vars(parser.parse_args())))
