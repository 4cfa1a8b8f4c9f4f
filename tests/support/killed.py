"""A Hub that is killed (-9) in the middle of a spawn, or of a renewal, by its Spawner's class."""

import asyncio
import os
import signal
from pathlib import Path

from .cluster import use
from .forking import log_to, processes, start_forkserver
from .hub import launch

KEY = b"k" * 32


async def run_killed(folder, memory, spawner_class, settings=(), kubeconfig=None):
    """Run it until it is killed, with its database in ``folder``. Returns what it printed."""
    start_forkserver()
    arguments = (folder, memory, spawner_class, dict(settings), kubeconfig)
    process = processes.Process(target=_run, args=arguments)
    process.start()
    await asyncio.to_thread(process.join, 60)
    log = Path(folder, "killed.log").read_text()
    assert process.exitcode == -signal.SIGKILL, log
    return log


def _run(*arguments):
    asyncio.run(_live(*arguments))


async def _live(folder, memory, spawner_class, settings, kubeconfig):
    os.chdir(folder)
    log_to("killed.log")
    if kubeconfig:
        use(kubeconfig)
    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, **settings}
    hub = await launch(folder, memory, KEY, spawner_class, settings)
    user = await hub.user("alice", {"access_token": "the-token"})
    await hub.spawn(user)
    await user.save_auth_state({"access_token": "new-token"})
    await asyncio.Event().wait()
