"""The contract of a backend, for our own: what custom spawners inherit is what ours inherit."""

import asyncio
import base64
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from docker.errors import APIError
from jupyterhub.utils import wait_for_http_server
from traitlets.config import Config

from spawner_tokens import TokenDockerSpawner, TokenKubeSpawner, TokenSimpleLocalProcessSpawner
from spawner_tokens.delivery import PUBLIC_FILE
from spawner_tokens.testing import DIFFICULT_VALUES, DeliveryContract

from .cluster import PATCH_RULES, Z2JH_RULES
from .hub import Server
from .test_readme import blocks
from .test_swarm import settings as swarm_settings
from .test_swarm import spawner_class as swarm_spawner_class  # noqa: F401
from .test_swarm import swarm, swarm_of_module  # noqa: F401

NOBODYS = {"nobodys": {"missing": "skip"}}  # without a token, there would be no place for files
WAIT = ["sh", "-c", "trap exit TERM; sleep 600 & wait"]  # it ends when it is told to


async def read_in_container(engine, container, path):
    try:
        read = await asyncio.to_thread(engine.run, container, "base64", path)
    except APIError:
        return None
    return base64.b64decode(read.out) if read.code == 0 else None


def handing_over(base):
    """A class of spawners that deliver, where they would the tokens in their start, the contract's ``files``."""

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
        config.LocalTokenMixin.token_mount_path = str(memory)
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
        hub = await start_hub(TokenDockerSpawner, {**settings, **engine.settings(token_volume_mode=self.mode)})
        self.engine = engine
        return partial(make_waiting, hub)

    async def start(self, spawner, files):
        await spawner.start()
        await spawner.deliver_files(files)

    async def stop(self, spawner):
        await spawner.stop()

    async def read_file(self, spawner, path):
        return await read_in_container(self.engine, spawner.container_id, path)


class TestDockerByVolume(TestDockerByBind):
    mode = "volume"
    rewrites = 50


@pytest.mark.xdist_group("swarm")
class TestSwarm(DeliveryContract):
    difficult_values = {name: value for name, value in DIFFICULT_VALUES.items() if value}  # a secret is never empty

    @pytest.fixture
    async def make_spawner(self, swarm, swarm_spawner_class, start_hub):  # noqa: F811
        settings = {**swarm_settings(swarm, cmd=WAIT), "TokenSpawnerMixin.tokens": NOBODYS}
        hub = await start_hub(handing_over(swarm_spawner_class), settings)
        self.swarm = swarm
        return partial(make_waiting, hub)

    async def start(self, spawner, files):
        spawner.files = files
        await spawner.start()

    async def stop(self, spawner):
        await spawner.stop()

    async def read_file(self, spawner, path):
        (task,) = self.swarm.tasks(spawner.object_name)
        return await read_in_container(self.swarm, task["Status"]["ContainerStatus"]["ContainerID"], path)


class TestKubeByPatch(DeliveryContract):
    rules = PATCH_RULES

    @pytest.fixture
    async def make_spawner(self, kube, start_hub):
        hub = await start_hub(handing_over(TokenKubeSpawner), kube(self.rules).settings())
        self.servers = {}

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

    async def stop(self, spawner):
        spawner.stop_polling()
        await spawner.stop()

    async def read_file(self, spawner, path):
        read = await self.servers[spawner].run("base64", path)
        return base64.b64decode(read.out) if read.code == 0 else None


class TestKubeByReplacing(TestKubeByPatch):
    rules = Z2JH_RULES


# A repository of somebody else's: backends that are right, and that have each a fault.
THEIRS = '''
import os, pathlib, shutil, time
from jupyterhub.spawner import SimpleLocalProcessSpawner
from spawner_tokens import TokenSpawnerMixin
from spawner_tokens.testing import DeliveryContract

ROOT = pathlib.Path(__file__).parent / "files"

class Right(TokenSpawnerMixin, SimpleLocalProcessSpawner):
    @property
    def token_directory(self):
        return f"{ROOT}/{type(self).__name__}/{self.orm_spawner.id}"

    @property
    def token_public_path(self):
        return f"{self.token_directory}/.gitconfig"

    async def deliver_files(self, files):
        os.makedirs(self.token_directory, exist_ok=True)
        for name, contents in files.items():
            path = pathlib.Path(self.token_directory, name)
            if contents is None:
                self.remove(path)
            else:
                self.write(path, contents)

    def remove(self, path):
        path.unlink(missing_ok=True)

    def write(self, path, contents):
        path.with_name(f".{path.name}.new").write_bytes(contents)
        path.with_name(f".{path.name}.new").replace(path)

    async def withdraw_files(self):
        shutil.rmtree(self.token_directory, ignore_errors=True)

class WritesInPlace(Right):
    def write(self, path, contents):
        path.write_bytes(contents)
        with path.open("wb") as file:
            for part in (contents[:9], contents[9:]):
                file.write(part)
                file.flush()
                time.sleep(0.002)

class LosesPublicFile(Right):
    def write(self, path, contents):
        if path.name != ".gitconfig":
            super().write(path, contents)

class KeepsWhatIsNone(Right):
    def remove(self, path):
        pass

class AddsNewline(Right):
    def write(self, path, contents):
        super().write(path, contents.rstrip() + b"\\n")

class ExpandsVariables(Right):
    def write(self, path, contents):
        super().write(path, os.path.expandvars(contents.replace(b"$X", b"$HOME")))

class Strips(Right):
    def write(self, path, contents):
        super().write(path, contents.strip())

class CutsNames(Right):
    def write(self, path, contents):
        super().write(path.with_suffix(""), contents)

class ForgetsToWithdraw(Right):
    async def withdraw_files(self):
        pass

class WithdrawsFromMemory(Right):
    delivered = False

    async def deliver_files(self, files):
        await super().deliver_files(files)
        self.delivered = True

    async def withdraw_files(self):
        if self.delivered:
            await super().withdraw_files()

class WithdrawsOnce(Right):
    async def withdraw_files(self):
        shutil.rmtree(self.token_directory)

class MixesServersOfAUser(Right):
    @property
    def token_directory(self):
        return f"{ROOT}/mixed/{self.user.name}"

class MixesUsers(Right):
    @property
    def token_directory(self):
        return f"{ROOT}/mixed-users/{self.user.name[:5]}{self.name}"

class SweepsAll(Right):
    async def sweep_files(self):
        shutil.rmtree(ROOT / "SweepsAll", ignore_errors=True)

class WritesOnlyOnce(Right):
    async def deliver_files(self, files):
        if not os.path.exists(self.token_directory):
            await super().deliver_files(files)

class SeesNothingNew(WritesOnlyOnce):
    delivery_delay = float("inf")

for fault in list(globals().values()):
    if isinstance(fault, type) and issubclass(fault, Right):
        name = f"Test{fault.__name__}"
        globals()[name] = type(name, (DeliveryContract,), {"spawner_class": fault})
'''


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    """Spawner class → which tests of its contract fail, in a repository with nothing but pytest and pytest-asyncio."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "test_theirs.py").write_text(THEIRS)
    for name, block in zip(("my_spawner.py", "test_my_spawner.py"), blocks("python3"), strict=True):
        (folder / name).write_text(block.values[0])
    command = [sys.executable, "-m", "pytest", "-q", "-rfEsp", "-p", "no:cacheprovider"]
    env = {"PYTHONPATH": str(Path(__file__).parent.parent), "PATH": "/usr/bin:/bin", "HOME": str(folder)}
    said = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True).stdout
    assert " error" not in said.splitlines()[-1], said
    found = {name: [] for name in re.findall(r"^class (\w+)\(", THEIRS, re.MULTILINE)}
    for name, test in re.findall(r"^FAILED test_theirs.py::Test(\w+)::test_(\w+)", said, re.MULTILINE):
        found[name].append(test)
    found["README"] = re.findall(r"^(\w+) test_my_spawner.py::", said, re.MULTILINE)
    found["skipped"] = re.findall(r"^SKIPPED \[(\d+)\].*infinite", said, re.MULTILINE)
    return found


@pytest.mark.parametrize("right", ["Right", "SeesNothingNew"])
def test_a_backend_of_somebody_else_that_is_right_passes(failures, right):
    assert failures[right] == []
    assert failures["skipped"] == ["2"]  # what only a running server could see


def test_the_readmes_example_passes(failures):
    assert failures["README"] == ["PASSED"] * 10  # it has no public file


@pytest.mark.parametrize(
    "fault, caught_by",
    [
        ("WritesInPlace", "a_reader_sees_the_old_file_or_the_new_one_and_never_a_part"),
        ("LosesPublicFile", "the_file_that_is_no_secret_is_at_its_own_path"),
        ("KeepsWhatIsNone", "a_running_server_sees_what_changed_and_keeps_the_rest"),
        ("AddsNewline", "a_server_finds_all_of_its_files_whole"),
        ("ExpandsVariables", "difficult_contents_arrive_byte_for_byte"),
        ("Strips", "difficult_contents_arrive_byte_for_byte"),
        ("CutsNames", "every_name_that_a_token_can_have_is_a_file"),
        ("ForgetsToWithdraw", "what_was_withdrawn_is_not_there_when_the_server_starts_again"),
        ("WithdrawsFromMemory", "what_was_withdrawn_is_not_there_when_the_server_starts_again"),
        ("WithdrawsOnce", "withdrawing_twice_or_nothing_is_no_error"),
        ("MixesServersOfAUser", "servers_have_nothing_of_each_other"),
        ("MixesUsers", "servers_have_nothing_of_each_other"),
        ("SweepsAll", "a_sweep_leaves_the_files_of_running_servers_alone"),
        ("WritesOnlyOnce", "a_running_server_sees_what_changed_and_keeps_the_rest"),
    ],
)
def test_the_contract_catches_a_backend_that(failures, fault, caught_by):
    assert caught_by in failures[fault]
