"""Spawner classes as an admin would write them, and some with a fault in them."""

import asyncio
import math
import os
import signal

from docker.errors import APIError
from dockerspawner import DockerSpawner
from jupyterhub.spawner import SimpleLocalProcessSpawner
from requests import Response
from traitlets import default

from spawner_tokens import (
    DockerTokenMixin,
    TokenDockerSpawner,
    TokenSimpleLocalProcessSpawner,
    TokenSpawnerMixin,
)

from .waiting import until


class VariablesOnly(TokenSpawnerMixin, SimpleLocalProcessSpawner):
    pass


class FilesAtStart(TokenSimpleLocalProcessSpawner):
    """As Docker Swarm: a server that runs sees no new file."""

    delivery_delay = math.inf


class KilledWhenAsked(VariablesOnly):
    """The Hub dies (-9) while its server waits there for a newer token."""

    def start_polling(self):
        super().start_polling()
        self._dying = asyncio.ensure_future(self._die())

    async def _die(self):
        await until(lambda: not self._waiting_for_response and self._tokens_pulled._waiting, 60)
        os.kill(os.getpid(), signal.SIGKILL)


class _Profile(SimpleLocalProcessSpawner):
    async def start(self):
        self.environment["T"] = "from the profile"
        return await super().start()


class WithProfile(TokenSpawnerMixin, _Profile):
    """Changes its environment during the start, as KubeSpawner's profiles do."""


class KilledBefore(TokenSimpleLocalProcessSpawner):
    """The Hub dies (-9) with the files in place, before the server's process begins."""

    def get_env(self):
        os.kill(os.getpid(), signal.SIGKILL)


class KilledAfter(TokenSimpleLocalProcessSpawner):
    """The Hub dies (-9) when the server's process has begun, before its state is saved."""

    async def start(self):
        await super().start()
        print(self.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class BothModes(TokenDockerSpawner):
    """The server that is called ``volume`` gets its files in that mode, the others by ``bind``."""

    @default("tokens_volume_mode")
    def _default_tokens_volume_mode(self):
        return "volume" if self.name == "volume" else "bind"


class KilledWhenCreated(TokenDockerSpawner):
    """The Hub dies (-9) when the container is created, with the files in place if they can be."""

    async def docker(self, method, *args, **kwargs):
        if method == "start":
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().docker(method, *args, **kwargs)


class KilledWhenStarted(TokenDockerSpawner):
    """The Hub dies (-9) when the container runs and has its files, before its state is saved."""

    async def start_object(self):
        await super().start_object()
        os.kill(os.getpid(), signal.SIGKILL)


class _BehindAProxy(DockerSpawner):
    """Its engine refuses what only finds something out, as a filter before it may."""

    async def docker(self, method, *args, **kwargs):
        is_probe = method == "create_container" and "invalid" in f"{args}"
        if is_probe or method in ("info", "inspect_image"):
            response = Response()
            response.status_code = 403
            raise APIError("refused", response)
        return await super().docker(method, *args, **kwargs)


class BehindAProxy(DockerTokenMixin, _BehindAProxy):
    pass
