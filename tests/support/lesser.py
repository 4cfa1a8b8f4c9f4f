"""A Hub of root's without CAP_DAC_OVERRIDE, as in a container: ``python -m tests.support.lesser``.

Arguments: folder, memory, user, command of the server. It renews the files of the user's server,
whose user has closed the directory, and stops it.
"""

import asyncio
import os
import sys
from pathlib import Path

from .hub import launch


async def live(folder, memory, name, command):
    os.chdir(folder)
    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "Spawner.cmd": command}
    hub = await launch(
        folder, Path(memory), b"k" * 32, "spawner_tokens.TokenLocalProcessSpawner", settings
    )
    user = await hub.user(name, {"access_token": "the-token"})
    server = await hub.spawn(user)
    try:
        directory = user.spawners[""].tokens_directory
        try:
            os.listdir(directory)
        except PermissionError:
            print("no override")
        await server.run("chmod", "0500", directory)
        await user.save_auth_state({"access_token": "new"})
        await server.until(b"new")
        print((await server.token()).decode())
        await server.run("mkdir", "-p", f"{directory}/own/deeper")
        await server.run("chmod", "0", f"{directory}/own")
    finally:
        await hub.close()
    print("left:", list(Path(memory).rglob("*")))


folder, memory, name, *command = sys.argv[1:]
asyncio.run(live(folder, memory, name, command))
