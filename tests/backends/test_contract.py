"""The contract of a backend, for our own: what custom spawners inherit is what ours inherit."""

import asyncio
import base64
import re
import stat
import subprocess
import sys
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
from spawner_tokens.tokens.files import PUBLIC_FILE

from ..project.test_readme import blocks
from ..support.cluster import PATCH_RULES, Z2JH_RULES
from ..support.hub import Server
from .test_swarm import settings as swarm_settings
from .test_swarm import spawner_class as swarm_spawner_class  # noqa: F401
from .test_swarm import swarm, swarm_of_module  # noqa: F401

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
    rewrites = 50

    async def list_stored(self, spawner):
        # A container that has stopped keeps its volume, and the engine's memory has nothing of it any more.
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


class TestKubeByPatch(DeliveryContract):
    rules = PATCH_RULES

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
        spawner.namespace = "kube-system"  # where it has no rights
        try:
            yield
        finally:
            spawner.namespace = self.namespace.name


class TestKubeByReplacing(TestKubeByPatch):
    rules = Z2JH_RULES


# A repository of somebody else's: backends that are right, and that have each a fault.
THEIRS = """
import asyncio, base64, os, pathlib, shutil, tempfile, time, warnings
from jupyterhub import orm
from jupyterhub.spawner import SimpleLocalProcessSpawner
from spawner_tokens import TokenSpawnerMixin
from spawner_tokens.testing import DeliveryContract

ROOT = pathlib.Path(__file__).parent / "files"

class Right(TokenSpawnerMixin, SimpleLocalProcessSpawner):
    @property
    def root(self):
        return ROOT / type(self).__name__

    @property
    def place(self):
        return pathlib.Path(self.tokens_directory)

    @property
    def tokens_directory(self):
        return str(self.root / str(self.orm_spawner.id))

    @property
    def tokens_public_path(self):
        return f"{self.tokens_directory}/.gitconfig"

    async def deliver_files(self, files):
        self.root.mkdir(parents=True, exist_ok=True)
        self.place.mkdir(mode=0o711, exist_ok=True)
        for name, contents in files.items():
            path = self.place / name
            if contents is None:
                self.remove(path)
            else:
                self.write(path, contents)

    def remove(self, path):
        path.unlink(missing_ok=True)

    def write(self, path, contents):
        new = path.with_name(f".{path.name}.new")
        new.touch(mode=0o600)
        new.write_bytes(contents)
        new.chmod(self.find_mode(path))
        new.replace(path)

    def find_mode(self, path):
        return 0o644 if path.name == ".gitconfig" else 0o600

    async def withdraw_files(self):
        shutil.rmtree(self.place, ignore_errors=True)

    async def sweep_files(self):
        running = {str(row.id) for row in self.find_running()}
        for directory in self.root.glob("*"):
            if directory.name not in running:
                shutil.rmtree(directory)

    def find_running(self):
        return self.user.db.query(orm.Spawner).filter(orm.Spawner.server != None)

class IsNamedByUser(Right):
    @property
    def tokens_directory(self):
        return str(self.root / self.name_of(self.orm_spawner))

    def name_of(self, row):
        return f"{row.user.name}--{row.name}" if row.name else row.user.name

    async def sweep_files(self):
        running = {self.name_of(row) for row in self.find_running()}
        for directory in self.root.glob("*"):
            if directory.name not in running:
                shutil.rmtree(directory)

class IsNested(Right):
    @property
    def tokens_directory(self):
        return f"{self.root}/{self.user.name}/server-{self.name}"

    async def deliver_files(self, files):
        self.place.parent.mkdir(parents=True, exist_ok=True)
        await super().deliver_files(files)

    async def sweep_files(self):
        running = {(row.user.name, f"server-{row.name}") for row in self.find_running()}
        for directory in self.root.glob("*/*"):
            if directory.parts[-2:] not in running:
                shutil.rmtree(directory)

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

class WritesPublicFileOnce(Right):
    def write(self, path, contents):
        if path.name != ".gitconfig" or not path.exists():
            super().write(path, contents)

class KeepsPublicFile(Right):
    def remove(self, path):
        if path.name != ".gitconfig":
            super().remove(path)

class MeasuresPublicFile(Right):
    async def deliver_files(self, files):
        self.public_size = len(files.get(".gitconfig", b""))
        await super().deliver_files(files)

class ClosesPublicFileLater(Right):
    def find_mode(self, path):
        return 0o600 if path.exists() else super().find_mode(path)

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
        shutil.rmtree(self.tokens_directory)

class WithdrawsByPrefix(IsNamedByUser):
    async def withdraw_files(self):
        for directory in self.root.glob(f"{self.place.name}*"):
            shutil.rmtree(directory)

class WithdrawsWhatWasWhole(Right):
    @property
    def mark(self):
        return self.root / f"{self.place.name}.whole"

    async def deliver_files(self, files):
        self.mark.unlink(missing_ok=True)
        await super().deliver_files(files)
        self.mark.touch()

    async def withdraw_files(self):
        if self.mark.exists():
            await super().withdraw_files()
            self.mark.unlink()

class MixesServersOfAUser(Right):
    @property
    def tokens_directory(self):
        return f"{ROOT}/mixed/{self.user.name}"

class MixesUsers(Right):
    @property
    def tokens_directory(self):
        return f"{ROOT}/mixed-users/{self.user.name[:5]}{self.name}"

class SweepsAll(Right):
    def find_running(self):
        return []

class SweepsOtherUsers(Right):
    def find_running(self):
        return [row for row in super().find_running() if row.user_id == self.orm_spawner.user_id]

class SweepsNamedServers(Right):
    def find_running(self):
        return [row for row in super().find_running() if not row.name]

class SweepsNothing(Right):
    def find_running(self):
        return self.user.db.query(orm.Spawner)

class SweepsEmptyDirectories(Right):
    async def sweep_files(self):
        for directory in self.root.glob("*"):
            if not os.listdir(directory):
                directory.rmdir()

class SweepsNothingNested(IsNested):
    async def sweep_files(self):
        pass

class SweepsByUser(IsNamedByUser):
    async def sweep_files(self):
        running = tuple(row.user.name for row in self.find_running())
        for directory in self.root.glob("*"):
            if not directory.name.startswith(running):
                shutil.rmtree(directory)

class SweepsByPrefix(IsNamedByUser):
    async def sweep_files(self):
        running = tuple(self.name_of(row) for row in self.find_running())
        for directory in self.root.glob("*"):
            if not directory.name.startswith(running):
                shutil.rmtree(directory)

class SaysNothing(Right):
    async def deliver_files(self, files):
        try:
            await super().deliver_files(files)
        except OSError:
            self.log.error("Could not deliver")

class SaysNothingBeforeTheStart(Right):
    async def deliver_files(self, files):
        try:
            await super().deliver_files(files)
        except OSError:
            if self.orm_spawner.server:
                raise

class RaisesAnErrorOfItsOwn(Right):
    async def deliver_files(self, files):
        try:
            await super().deliver_files(files)
        except OSError as error:
            raise RuntimeError("could not deliver") from error

class GivesUp(Right):
    async def deliver_files(self, files):
        if not hasattr(self, "failed"):
            try:
                await super().deliver_files(files)
            except OSError:
                self.failed = True
                raise

class IsOpenToAll(Right):
    def find_mode(self, path):
        return 0o644

class IsOpenToItsGroup(Right):
    def find_mode(self, path):
        return 0o644 if path.name == ".gitconfig" else 0o640

class OpensWhatItRenews(Right):
    def find_mode(self, path):
        return 0o644 if path.exists() else super().find_mode(path)

class ClosesWhatItHasShown(Right):
    def write(self, path, contents):
        path.with_name(f".{path.name}.new").write_bytes(contents)
        path.with_name(f".{path.name}.new").replace(path)
        time.sleep(0.002)
        path.chmod(self.find_mode(path))

class LeavesItToTheUmask(Right):
    def write(self, path, contents):
        path.with_name(f".{path.name}.new").write_bytes(contents)
        path.with_name(f".{path.name}.new").replace(path)

class ClosesPublicFile(Right):
    def find_mode(self, path):
        return 0o600

class LogsContents(Right):
    def write(self, path, contents):
        self.log.debug("Writing %s: %s", path, contents)
        super().write(path, contents)

class LogsCommands(Right):
    def write(self, path, contents):
        self.log.debug("Running: echo '%s' | base64 -d", base64.b64encode(b"x=" + contents).decode())
        super().write(path, contents)

class LogsLinesOfBase64(Right):
    def write(self, path, contents):
        self.log.debug("Archive: %r", base64.encodebytes(b"header" * 9 + contents))
        super().write(path, contents)

class LogsTheBeginning(Right):
    def write(self, path, contents):
        self.log.debug("Writing %s: %.20s", path, contents.decode())
        super().write(path, contents)

class WarnsWithContents(Right):
    def write(self, path, contents):
        warnings.warn(f"writing {contents}")
        super().write(path, contents)

class KeepsContentsInOptions(Right):
    async def deliver_files(self, files):
        await super().deliver_files(files)
        self.orm_spawner.user_options = {name: contents.decode() for name, contents in files.items() if contents}

class PrintsContents(Right):
    def write(self, path, contents):
        os.write(2, contents)
        super().write(path, contents)

class KeepsContentsInState(Right):
    async def deliver_files(self, files):
        await super().deliver_files(files)
        self.delivered = {name: contents.hex() for name, contents in files.items() if contents}

    def get_state(self):
        return {**super().get_state(), "files": self.delivered}

class RaisesWithContents(Right):
    async def deliver_files(self, files):
        try:
            await super().deliver_files(files)
        except OSError as error:
            raise OSError(f"could not write {files}") from error

class RaisesBecauseOfContents(Right):
    async def deliver_files(self, files):
        try:
            await super().deliver_files(files)
        except OSError as error:
            try:
                raise ValueError(files)
            except ValueError as cause:
                raise OSError("could not write") from cause

class LeavesFilesBeside(Right):
    def write(self, path, contents):
        descriptor, new = tempfile.mkstemp(dir=self.root)
        os.write(descriptor, contents)
        os.close(descriptor)
        shutil.copy(new, path.with_name(".new"))
        path.with_name(".new").chmod(self.find_mode(path))
        path.with_name(".new").replace(path)

class LeavesFilesInside(Right):
    def write(self, path, contents):
        super().write(path, contents)
        path.with_name(f".{path.name}.{time.monotonic_ns()}").write_bytes(contents)

class WritesAtOnce(Right):
    async def deliver_files(self, files):
        await super().deliver_files({name: None for name, contents in files.items() if contents is None})
        await asyncio.gather(*(self.write_slowly(name, contents) for name, contents in files.items() if contents is not None))

    async def write_slowly(self, name, contents):
        path = self.place / name
        new = self.find_new(path)
        new.touch(mode=0o600)
        new.write_bytes(contents)
        new.chmod(self.find_mode(path))
        await asyncio.sleep(0)
        new.replace(path)

    def find_new(self, path):
        return self.root / f".{path.parent.name}.{path.name}.new"

class HasOneNewFileForAServer(WritesAtOnce):
    def find_new(self, path):
        return path.with_name(".new")

class HasOneNewFileForAToken(WritesAtOnce):
    def find_new(self, path):
        return self.root / f".{path.name}.new"

class WritesOnlyOnce(Right):
    async def deliver_files(self, files):
        if not os.path.isdir(self.tokens_directory):
            await super().deliver_files(files)

class SeesNothingNew(WritesOnlyOnce):
    delivery_delay = float("inf")

class IsElsewhere(Right):
    tokens_directory = "/nonexistent/1"

    @property
    def place(self):
        return self.root / str(self.orm_spawner.id)

class IsInTheRoot(IsElsewhere):
    tokens_directory = "/tokens"

class IsWhereTheAuthorHasFiles(IsElsewhere):
    tokens_directory = f"{ROOT.parent}/mine/tokens"

for fault in list(globals().values()):
    if isinstance(fault, type) and issubclass(fault, Right):
        name = f"Test{fault.__name__}"
        globals()[name] = type(name, (DeliveryContract,), {"spawner_class": fault})

async def read_elsewhere(self, spawner, path):
    file = spawner.place / pathlib.Path(path).name
    return file.read_bytes() if file.exists() else None

for elsewhere in (TestIsElsewhere, TestIsInTheRoot, TestIsWhereTheAuthorHasFiles):
    elsewhere.read_file = read_elsewhere

class TestNoClass(DeliveryContract):
    pass

class TestNoMixin(DeliveryContract):
    spawner_class = SimpleLocalProcessSpawner
"""


# Those with a fault, and the test that has to fail.
CAUGHT_BY = {
    "WritesInPlace": "a_reader_sees_the_old_file_or_the_new_one_and_never_a_part",
    "LosesPublicFile": "the_file_that_is_no_secret_is_at_its_own_path",
    "WritesPublicFileOnce": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "KeepsPublicFile": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "MeasuresPublicFile": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "ClosesPublicFileLater": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "KeepsWhatIsNone": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "AddsNewline": "a_server_finds_all_of_its_files_whole",
    "ExpandsVariables": "difficult_contents_arrive_byte_for_byte",
    "Strips": "difficult_contents_arrive_byte_for_byte",
    "CutsNames": "every_name_that_a_token_can_have_is_a_file",
    "ForgetsToWithdraw": "what_was_withdrawn_is_not_there_when_the_server_starts_again",
    "WithdrawsFromMemory": "what_was_withdrawn_is_not_there_when_the_server_starts_again",
    "WithdrawsOnce": "withdrawing_twice_or_nothing_is_no_error",
    "WithdrawsByPrefix": "servers_have_nothing_of_each_other",
    "WithdrawsWhatWasWhole": "nothing_is_left_of_a_delivery_that_failed",
    "MixesServersOfAUser": "servers_have_nothing_of_each_other",
    "MixesUsers": "servers_have_nothing_of_each_other",
    "SweepsAll": "a_sweep_leaves_the_files_of_running_servers_alone",
    "SweepsOtherUsers": "a_sweep_leaves_the_files_of_running_servers_alone",
    "SweepsNamedServers": "a_sweep_leaves_the_files_of_running_servers_alone",
    "SweepsNothing": "a_sweep_removes_what_a_hub_that_was_killed_has_left",
    "SweepsEmptyDirectories": "a_sweep_removes_what_a_hub_that_was_killed_has_left",
    "SweepsNothingNested": "a_sweep_removes_what_a_hub_that_was_killed_has_left",
    "SweepsByUser": "a_sweep_removes_what_a_hub_that_was_killed_has_left",
    "SweepsByPrefix": "a_sweep_removes_what_a_hub_that_was_killed_has_left",
    "WritesOnlyOnce": "a_running_server_sees_what_changed_and_keeps_the_rest",
    "SaysNothing": "what_cannot_be_delivered_is_an_oserror_and_later_it_can",
    "SaysNothingBeforeTheStart": "what_cannot_be_delivered_before_the_start_is_an_oserror_too",
    "RaisesAnErrorOfItsOwn": "what_cannot_be_delivered_is_an_oserror_and_later_it_can",
    "GivesUp": "what_cannot_be_delivered_is_an_oserror_and_later_it_can",
    "IsOpenToAll": "nobody_but_the_servers_user_can_read_a_token",
    "IsOpenToItsGroup": "nobody_but_the_servers_user_can_read_a_token",
    "OpensWhatItRenews": "nobody_but_the_servers_user_can_read_a_token",
    "ClosesWhatItHasShown": "nobody_else_can_read_a_token_while_it_is_written_anew",
    "LeavesItToTheUmask": "nobody_but_the_servers_user_can_read_a_token",
    "ClosesPublicFile": "the_file_that_is_no_secret_is_at_its_own_path",
    "LogsContents": "a_token_is_in_no_log_output_state_or_error",
    "LogsCommands": "a_token_is_in_no_log_output_state_or_error",
    "LogsLinesOfBase64": "a_token_is_in_no_log_output_state_or_error",
    "LogsTheBeginning": "a_token_is_in_no_log_output_state_or_error",
    "WarnsWithContents": "a_token_is_in_no_log_output_state_or_error",
    "KeepsContentsInOptions": "a_token_is_in_no_log_output_state_or_error",
    "PrintsContents": "a_token_is_in_no_log_output_state_or_error",
    "KeepsContentsInState": "a_token_is_in_no_log_output_state_or_error",
    "RaisesWithContents": "a_token_is_in_no_log_output_state_or_error",
    "RaisesBecauseOfContents": "a_token_is_in_no_log_output_state_or_error",
    "LeavesFilesBeside": "nothing_is_left_of_servers_that_have_stopped",
    "LeavesFilesInside": "nothing_is_left_of_servers_that_have_stopped",
    "HasOneNewFileForAServer": "a_server_finds_all_of_its_files_whole",
    "HasOneNewFileForAToken": "deliveries_to_servers_at_once_do_not_mix",
}
RIGHT = ["Right", "IsNamedByUser", "IsNested", "WritesAtOnce", "SeesNothingNew"]
ELSEWHERE = ["IsElsewhere", "IsInTheRoot", "IsWhereTheAuthorHasFiles"]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """Run tests in a repository with nothing but pytest and pytest-asyncio: ``theirs(tests)`` → what pytest said."""
    folder = tmp_path_factory.mktemp("theirs")
    (folder / "pytest.ini").touch()  # whatever there is above
    (folder / "test_theirs.py").write_text(THEIRS)
    names = ("my_spawner.py", "test_my_spawner.py", "test_my_hub.py")
    for name, block in zip(names, blocks("python3"), strict=True):
        (folder / name).write_text(block.values[0])

    def run(*tests):
        command = [sys.executable, "-m", "pytest", "-q", "-rfEsp", "-p", "no:cacheprovider", *tests]
        env = {
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
        }
        env["COLUMNS"] = "1000"  # for what pytest says of each in one line
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True).stdout

    run.folder = folder
    return run


@pytest.fixture(scope="module")
def failures(theirs):
    """Spawner class → which tests of its contract fail, and why."""
    tests = [f"Test{name}" for name in RIGHT] + [
        f"Test{fault}::test_{test}" for fault, test in CAUGHT_BY.items()
    ]
    hubs = "test_my_hub.py::TestWithMyHub::test_a_server_finds_all_of_its_files_whole"
    said = theirs("test_my_spawner.py", hubs, *(f"test_theirs.py::{test}" for test in tests))
    assert " error" not in said.splitlines()[-1], said
    found = find_failures(said)
    found["README"] = re.findall(r"^(\w+) test_my_(?:spawner|hub).py::", said, re.MULTILINE)
    found["skipped"] = re.findall(r"^SKIPPED \[(\d+)\].*infinite", said, re.MULTILINE)
    return found


def find_failures(said):
    found = {name: {} for name in re.findall(r"^class (\w+)\(", THEIRS, re.MULTILINE)}
    for name, test, why in re.findall(
        r"^FAILED test_theirs.py::Test(\w+)::test_(\w+) - (.*)", said, re.MULTILINE
    ):
        found[name][test] = why
    return found


@pytest.mark.parametrize("right", RIGHT)
def test_a_backend_of_somebody_else_that_is_right_passes(failures, right):
    assert failures[right] == {}
    assert failures["skipped"] == ["3"]  # what only a running server could see


def test_the_readmes_examples_pass(failures):
    assert failures["README"] == ["PASSED"] * 20  # it has no public file


def test_who_does_not_say_how_to_look_at_files_that_are_elsewhere_is_told_to(theirs):
    tokens = theirs.folder / "mine" / "tokens"
    tokens.mkdir(parents=True)
    before = tokens.parent.stat().st_mtime_ns
    failures = find_failures(theirs(*(f"test_theirs.py::Test{name}" for name in ELSEWHERE)))
    for elsewhere in ELSEWHERE:
        assert set(failures[elsewhere]) == {
            "the_file_that_is_no_secret_is_at_its_own_path",
            "nobody_but_the_servers_user_can_read_a_token",
            "nobody_else_can_read_a_token_while_it_is_written_anew",
            "a_running_server_sees_what_changed_and_keeps_the_rest",
            "what_cannot_be_delivered_is_an_oserror_and_later_it_can",
            "what_cannot_be_delivered_before_the_start_is_an_oserror_too",
            "a_token_is_in_no_log_output_state_or_error",
            "nothing_is_left_of_servers_that_have_stopped",
            "nothing_is_left_of_a_delivery_that_failed",
            "a_sweep_removes_what_a_hub_that_was_killed_has_left",
        }
        assert all(" override " in why for why in failures[elsewhere].values()), failures[elsewhere]
    assert (list(tokens.parent.iterdir()), tokens.parent.stat().st_mtime_ns) == ([tokens], before)
    assert not Path("/tokens").exists()


@pytest.mark.parametrize("mistake", ["NoClass", "NoMixin"])
def test_who_gives_no_class_with_the_mixin_is_told_to(theirs, mistake):
    said = theirs(f"test_theirs.py::Test{mistake}::test_a_server_finds_all_of_its_files_whole")
    assert f"\nTest{mistake}.spawner_class has to be a class with TokenSpawnerMixin\n" in said
    assert "Traceback" not in said and ">" not in said


@pytest.mark.parametrize("fault, caught_by", CAUGHT_BY.items())
def test_the_contract_catches_a_backend_that(failures, fault, caught_by):
    assert caught_by in failures[fault]
