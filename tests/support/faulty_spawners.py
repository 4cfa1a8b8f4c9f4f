"""Spawners of another repository with the contract's tests: right ones, and one for each fault.

The tests copy this module as ``test_theirs.py`` into a folder of its own, and run pytest there.
"""

import asyncio
import base64
import os
import pathlib
import shutil
import time
from dataclasses import replace
from functools import partial

from jupyterhub import orm
from jupyterhub.spawner import SimpleLocalProcessSpawner

from spawner_tokens import TokenSpawnerMixin
from spawner_tokens.sweep import Leftover
from spawner_tokens.testing import DeliveryContract

HERE = pathlib.Path(__file__).parent


class Right(TokenSpawnerMixin, SimpleLocalProcessSpawner):
    @property
    def root(self):
        return HERE / "files" / type(self).__name__

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
        running = {self.name_of(row) for row in self.find_running()}
        for directory in self.root.glob("*"):
            if directory.name not in running:
                yield self.find_left(directory)

    def find_left(self, directory):
        return Leftover(
            {"server": directory.name}, partial(asyncio.to_thread, shutil.rmtree, directory)
        )

    def name_of(self, row):
        return str(row.id)

    def find_running(self):
        return self.user.db.query(orm.Spawner).filter(orm.Spawner.server.has())


class IsNamedByUser(Right):
    def make_location(self):
        return {**super().make_location(), "server": self.name_of(self.orm_spawner)}

    @property
    def tokens_directory(self):
        return str(self.root / self.name_of(self.orm_spawner))

    def name_of(self, row):
        return f"{row.user.name}--{row.name}" if row.name else row.user.name


class WritesAtOnce(Right):
    async def deliver_files(self, files):
        await super().deliver_files({name: None for name in files if files[name] is None})
        given = {name: contents for name, contents in files.items() if contents is not None}
        await asyncio.gather(*(self.write_slowly(self.place / name, given[name]) for name in given))

    async def write_slowly(self, path, contents):
        new = self.find_new(path)
        new.touch(mode=0o600)
        new.write_bytes(contents)
        new.chmod(self.find_mode(path))
        await asyncio.sleep(0)
        new.replace(path)

    def find_new(self, path):
        return self.root / f".{path.parent.name}.{path.name}.new"


class WritesOnlyOnce(Right):
    async def deliver_files(self, files):
        if not os.path.isdir(self.tokens_directory):
            await super().deliver_files(files)


class SeesNothingNew(WritesOnlyOnce):
    delivery_delay = float("inf")


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


class ExpandsVariables(Right):
    def write(self, path, contents):
        super().write(path, os.path.expandvars(contents.replace(b"$X", b"$HOME")))


class CutsNames(Right):
    def write(self, path, contents):
        super().write(path.with_suffix(""), contents)


class WithdrawsWhatItDelivered(Right):
    async def deliver_files(self, files):
        await super().deliver_files(files)
        self.delivered = self.place

    async def withdraw_files(self):
        shutil.rmtree(getattr(self, "delivered", ""), ignore_errors=True)


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


class SweepsAll(Right):
    def find_running(self):
        return []


class SweepsByPrefix(IsNamedByUser):
    async def sweep_files(self):
        running = tuple(self.name_of(row) for row in self.find_running())
        for directory in self.root.glob("*"):
            if not directory.name.startswith(running):
                yield self.find_left(directory)


class SweepsWhatStarts(Right):
    def find_left(self, directory):
        return replace(super().find_left(directory), location={"directory": directory.name})


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


class IsOpenToItsGroup(Right):
    def find_mode(self, path):
        return 0o644 if path.name == ".gitconfig" else 0o640


class ClosesWhatItHasShown(Right):
    def write(self, path, contents):
        path.with_name(f".{path.name}.new").write_bytes(contents)
        path.with_name(f".{path.name}.new").replace(path)
        time.sleep(0.002)
        path.chmod(self.find_mode(path))


class LogsLinesOfBase64(Right):
    def write(self, path, contents):
        self.log.debug("Archive: %r", base64.encodebytes(b"header" * 9 + contents))
        super().write(path, contents)


class KeepsContentsInState(Right):
    async def deliver_files(self, files):
        await super().deliver_files(files)
        self.delivered = {name: contents.hex() for name, contents in files.items() if contents}

    def get_state(self):
        return {**super().get_state(), "files": self.delivered}


class RaisesBecauseOfContents(Right):
    async def deliver_files(self, files):
        try:
            await super().deliver_files(files)
        except OSError as error:
            error.__context__ = ValueError(files)
            raise


class LeavesFilesBeside(Right):
    def write(self, path, contents):
        super().write(path, contents)
        (self.root / f".{path.name}.{time.monotonic_ns()}").write_bytes(contents)


class HasOneNewFileForAToken(WritesAtOnce):
    def find_new(self, path):
        return self.root / f".{path.name}.new"


# -- files that are not on the author's machine ------------------------------------------------


class IsInTheRoot(Right):
    tokens_directory = "/tokens"

    @property
    def place(self):
        return self.root / str(self.orm_spawner.id)


class IsWhereTheAuthorHasFiles(IsInTheRoot):
    tokens_directory = f"{HERE}/mine/tokens"


for each in [value for value in globals().values() if isinstance(value, type)]:
    if issubclass(each, Right):
        name = f"Test{each.__name__}"
        globals()[name] = type(name, (DeliveryContract,), {"spawner_class": each})


async def read_elsewhere(self, spawner, path):
    file = spawner.place / pathlib.Path(path).name
    return file.read_bytes() if file.exists() else None


for elsewhere in ("TestIsInTheRoot", "TestIsWhereTheAuthorHasFiles"):
    globals()[elsewhere].read_file = read_elsewhere


class TestNoClass(DeliveryContract):
    pass


class TestNoMixin(DeliveryContract):
    spawner_class = SimpleLocalProcessSpawner
