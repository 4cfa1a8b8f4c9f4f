"""The contract of a backend, for our own: what custom spawners inherit is what ours inherit."""

import asyncio
import base64
import stat
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import pytest
from docker import APIClient
from docker.errors import APIError
from jupyterhub.utils import wait_for_http_server
from traitlets.config import Config

from spawner_tokens import TokenDockerSpawner, TokenKubeSpawner, TokenSimpleLocalProcessSpawner
from spawner_tokens.testing import DIFFICULT_VALUES, DeliveryContract
from spawner_tokens.testing.checks import Checks
from spawner_tokens.tokens.files import PUBLIC_FILE

from ..support.cluster import PATCH_RULES, Z2JH_RULES
from ..support.hub import Server
from .test_swarm import settings as swarm_settings

NOBODYS = {"nobodys": {"missing": "skip"}}  # without a token, there would be no place for files
OTHERS = "4321:4321"  # some user of a container
WAIT = ["sh", "-c", "trap exit TERM; sleep 600 & wait"]  # it ends when it is told to


async def read_in_container(engine, container, path, user=""):
    try:
        read = await asyncio.to_thread(engine.run, container, "base64", path, user=user)
    except APIError:
        return None
    return base64.b64decode(read.out) if read.code == 0 else None


def handing_over(base):
    """A spawner class that delivers the contract's ``files`` in its start, in place of tokens."""

    class HandsOver(base):
        files = {}

        async def deliver_tokens(self):
            await self.deliver_files(self.files)
            return True

    return HandsOver


class TestLocal(DeliveryContract):
    spawner_class = TokenSimpleLocalProcessSpawner
    rewrites = 1000

    @pytest.fixture
    def config(self, memory):
        config = Config()
        config.LocalTokenMixin.tokens_mount_path = str(memory)
        return config


async def make_waiting(hub, user, server):
    """The Spawner of a server that does nothing: its command has no arguments."""
    spawner = hub.spawner(await hub.user(user), server)
    spawner.args = []
    return spawner


class TestDockerByBind(DeliveryContract):
    mode = "bind"

    @pytest.fixture
    async def make_spawner(self, engine, start_hub):
        settings = {"TokenSpawnerMixin.tokens": NOBODYS, "Spawner.cmd": WAIT}
        hub = await start_hub(
            TokenDockerSpawner, {**settings, **engine.settings(tokens_volume_mode=self.mode)}
        )
        self.engine = engine
        return partial(make_waiting, hub)

    async def start(self, spawner, files):
        await spawner.start()
        await spawner.deliver_files(files)

    async def stop(self, spawner):
        await spawner.stop()

    async def read_file(self, spawner, path):
        return await read_in_container(self.engine, spawner.container_id, path)

    async def can_others_read(self, spawner, path):
        return await read_in_container(self.engine, spawner.container_id, path, OTHERS) is not None

    async def list_stored(self, spawner):
        return {
            str(path) for path in Path("/run/spawner-tokens", spawner.tokens_hub_name).rglob("*")
        }

    @asynccontextmanager
    async def obstructed(self, spawner):
        directory = Path("/run/spawner-tokens", spawner.tokens_hub_name, spawner.object_name)
        directory.rename(f"{directory}.aside")
        directory.touch()
        try:
            yield
        finally:
            directory.unlink()
            Path(f"{directory}.aside").rename(directory)


class TestDockerByVolume(TestDockerByBind):
    mode = "volume"
    rewrites = 20

    async def list_stored(self, spawner):
        # A container that has stopped keeps its volume, which is empty by then.
        stopped = self.engine.client.containers(all=True, filters={"status": ["created", "exited"]})
        kept = {mount.get("Name") for container in stopped for mount in container["Mounts"]}
        return {volume["Name"] for volume in self.engine.volumes()} - kept

    @asynccontextmanager
    async def obstructed(self, spawner):
        self.engine.client.pause(spawner.container_id)
        try:
            yield
        finally:
            self.engine.client.unpause(spawner.container_id)


@pytest.mark.xdist_group("swarm")
class TestSwarm(DeliveryContract):
    difficult_values = {
        name: value for name, value in DIFFICULT_VALUES.items() if value
    }  # a secret is never empty

    @pytest.fixture
    async def make_spawner(self, swarm, swarm_spawner_class, start_hub):
        settings = {**swarm_settings(swarm, cmd=WAIT), "TokenSpawnerMixin.tokens": NOBODYS}
        hub = await start_hub(handing_over(swarm_spawner_class), settings)
        self.swarm = swarm
        return partial(make_waiting, hub)

    async def start(self, spawner, files):
        spawner.files = files
        await spawner.start()

    async def stop(self, spawner):
        await spawner.stop()

    async def read_file(self, spawner, path, user=""):
        (task,) = self.swarm.tasks(spawner.object_name)
        return await read_in_container(
            self.swarm, task["Status"]["ContainerStatus"]["ContainerID"], path, user
        )

    async def can_others_read(self, spawner, path):
        return await self.read_file(spawner, path, OTHERS) is not None

    async def list_stored(self, spawner):
        return set(self.swarm.secrets())

    @asynccontextmanager
    async def obstructed(self, spawner):
        client, there = APIClient("http://127.0.0.1:1", version="1.41"), type(spawner)._client
        with closing(client):
            type(spawner)._client = client
            try:
                yield
            finally:
                type(spawner)._client = there


class KubeServers:
    rules = PATCH_RULES
    rewrites = 50

    @pytest.fixture
    async def make_spawner(self, kube, start_hub):
        self.namespace, self.servers = kube(self.rules), {}
        settings = self.namespace.settings(
            uid=1000, fs_gid=100
        )  # else all users in a pod can read its files
        hub = await start_hub(handing_over(TokenKubeSpawner), settings)

        async def make_spawner(user, server):
            return hub.spawner(await hub.user(user), server)

        return make_spawner

    async def start(self, spawner, files):
        spawner.files = files
        # The public file, who the user is, has a place only for a token that knows it.
        identity = {"name": "name"} if PUBLIC_FILE in files else False
        spawner.tokens = {"nobodys": {**NOBODYS["nobodys"], "git_identity": identity}}
        url = await spawner.start()
        await wait_for_http_server(url, timeout=20)
        self.servers[spawner] = Server(spawner, url)
        spawner.start_polling()  # from here on, it is delivered to as a server that runs
        # Its files are the contract's: its user has no tokens.
        spawner.tokens_hub.renewal.unwatch(spawner.user, spawner._tokens_delivery)

    async def stop(self, spawner):
        spawner.stop_polling()
        await spawner.stop()

    async def read_file(self, spawner, path):
        read = await self.servers[spawner].run("base64", path)
        return base64.b64decode(read.out) if read.code == 0 else None

    async def can_others_read(self, spawner, path):
        mode = await self.servers[spawner].run("stat", "-L", "-c", "%a", path)
        return bool(int(mode.out, 8) & stat.S_IROTH)

    async def list_stored(self, spawner):
        return set(self.namespace.secrets())

    @asynccontextmanager
    async def obstructed(self, spawner):
        kept = spawner.tokens_location
        spawner._tokens_location = {**kept, "namespace": "kube-system"}  # where it has no rights
        try:
            yield
        finally:
            spawner._tokens_location = kept


class TestKubeByPatch(KubeServers, DeliveryContract):
    pass


class TestKubeByReplacing(KubeServers, Checks):
    """Only a change is not made in the same way."""

    rules = Z2JH_RULES
    test_changes = DeliveryContract.test_a_running_server_sees_what_changed_and_keeps_the_rest
    test_reader = DeliveryContract.test_a_reader_sees_the_old_file_or_the_new_one_and_never_a_part
