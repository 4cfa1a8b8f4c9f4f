"""A Hub that is killed (-9) in the middle of a spawn: ``python -m tests.killed FOLDER MEMORY SPAWNER_CLASS``."""

import asyncio
import os
import sys

from .hub import launch


async def main(folder, memory, spawner_class):
    os.chdir(folder)
    hub = await launch(folder, memory, b"k" * 32, spawner_class, {"TokenSpawnerMixin.tokens": {"t": {}}})
    await hub.spawn(await hub.user("alice", {"access_token": "the-token"}))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
