"""A Hub that is killed (-9) in the middle of a spawn, or of a renewal.

``python -m tests.support.killed FOLDER MEMORY SPAWNER_CLASS [SETTINGS]``, the settings as JSON.
"""

import asyncio
import json
import os
import sys

from .hub import launch


async def main(folder, memory, spawner_class, settings="{}"):
    os.chdir(folder)
    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, **json.loads(settings)}
    hub = await launch(folder, memory, b"k" * 32, spawner_class, settings)
    user = await hub.user("alice", {"access_token": "the-token"})
    await hub.spawn(user)
    await user.save_auth_state({"access_token": "new-token"})
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
