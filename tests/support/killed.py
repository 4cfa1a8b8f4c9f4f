"""A Hub that is killed (-9) in the middle of a spawn, or of a renewal.

``python -m tests.support.killed FOLDER MEMORY SPAWNER_CLASS [SETTINGS]``, the settings as JSON.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from .hub import launch


async def run_killed(folder, memory, spawner_class, settings=None, **env):
    """Run it until it is killed: a Hub with its database in ``folder``. Returns what it printed."""
    command = [sys.executable, "-m", __name__, str(folder), str(memory), spawner_class]
    log = Path(folder, "killed.log")
    with log.open("w") as output:  # not a pipe: the servers run on, and hold it open
        killed = await asyncio.to_thread(
            subprocess.run,
            [*command, json.dumps(settings or {})],
            cwd=Path(__file__).parents[2],
            env={**os.environ, **env},
            stdout=output,
        )
    assert killed.returncode == -signal.SIGKILL, log.read_text()
    return log.read_text()


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
