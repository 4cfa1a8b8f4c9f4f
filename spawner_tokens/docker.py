"""The Docker backend: token files in memory inside a container."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import DriverConfig, Mount
from dockerspawner import DockerSpawner, SystemUserSpawner
from jupyterhub.objects import Hub
from traitlets import Enum, TraitError, Unicode, validate

from .container import Place
from .delivery import PUBLIC_FILE
from .engine import Engine, find_first_uid, sees, write_inside
from .mixin import TokenSpawnerMixin
from .private import is_in_memory, list_files, open_hub_directory, remove, set_aside, write_files

_LABEL = "spawner_tokens"
_VOLUME = DriverConfig(
    "local", {"type": "tmpfs", "device": "tmpfs", "o": "size=8m,mode=1777,nosuid,nodev,noexec"}
)
_LIVE = ["running", "paused", "restarting"]
_AT_MOST = 10_000  # entries of a directory that containers can only read


class DockerTokenMixin(TokenSpawnerMixin):
    """Delivers files in memory inside the container. Mix it into spawners of DockerSpawner's family::

        class MySpawner(DockerTokenMixin, DockerSpawner):
            pass

    Where the Hub and the engine share a directory in memory, a directory of it is mounted. Where they do not, a
    volume in the engine's memory is, and the container's own ``/bin/sh`` writes to it.
    """

    delivers_in_start = True

    token_volume_mode = Enum(
        ["auto", "bind", "volume"],
        default_value="auto",
        help="""
        How files get into a container: ``bind``, ``volume``, or ``auto`` for what the engine allows.

        Example::

            c.DockerTokenMixin.token_volume_mode = "volume"

        ``bind``
            The Hub writes them to ``/run/spawner-tokens``, or to ``$XDG_RUNTIME_DIR/spawner-tokens`` where it is not
            root, and the engine mounts its part of that, read-only. They are there before the container
            starts, and renewed with nobody asked. A Hub in a container needs this directory of the host.
        ``volume``
            The engine makes a volume in its memory, and ``/bin/sh`` and ``base64`` in the container write to it
            as soon as the container runs. For an engine elsewhere, or with nothing but its socket.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    token_host_path = Unicode(
        help="""
        The directory of the mode ``bind`` as the engine sees it, if it has another path there.

        Example::

            c.DockerTokenMixin.token_host_path = "/dev/shm/jupyterhub"

        That is for a Hub in a container with ``/dev/shm/jupyterhub:/run/spawner-tokens`` among its volumes.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    # How the files get into the container that was created for this start, and how they get into the one there is.
    _token_mode: str | None = None
    _token_place: Place | None = None

    @validate("token_mount_path", "token_host_path")
    def _validate_path(self, proposal: Any) -> str:
        path, name = str(proposal.value), proposal.trait.name
        if path and (not re.fullmatch(r"/[^:\0]*", path) or os.path.normpath(path) == "/"):
            raise TraitError(f"{type(self).__name__}.{name} has to be an absolute path without ':', not {path!r}")
        return path and os.path.normpath(path)

    @property
    def token_public_path(self) -> str:
        return f"{self.token_mount_path}/{PUBLIC_FILE}"

    # -- the container ---------------------------------------------------------------------------

    @property
    def volume_binds(self) -> dict[str, Any]:
        binds: dict[str, Any] = super().volume_binds
        if self._token_mode == "bind":
            binds = {**binds, self._host_directory: {"bind": self.token_mount_path, "mode": "ro,z"}}
        return binds

    @property
    def mount_binds(self) -> list[Mount]:
        mounts: list[Mount] = super().mount_binds
        if self._token_mode == "volume":
            # It has no name, so the engine removes it with the container.
            labels = {f"{_LABEL}.hub": self.token_hub_name, f"{_LABEL}.server": self.object_name}
            volume = Mount(self.token_mount_path, None, no_copy=True, labels=labels, driver_config=_VOLUME)
            mounts = [*mounts, volume]
        return mounts

    async def create_object(self) -> Any:
        self._token_mode = await self._choose_mode() if self._wants_files else "none"
        return await super().create_object()

    async def get_object(self) -> Any:
        container = await super().get_object()
        before, self._token_place = self._token_place, Place.of(container, self.token_mount_path)
        if before and self._token_place and before.started_at != self._token_place.started_at:
            self.redeliver_tokens()  # the engine has started it again
        return container

    async def start_object(self) -> None:
        # Here the container is known, be it new or an old one, and its name is final.
        container = await self.get_object()
        if self._token_mode is None:
            self._say_what_is_frozen(container)
        is_volume = self._token_place is not None and self._token_place.is_volume
        if self._wants_files and not is_volume:
            await self.deliver_tokens()
        await super().start_object()
        if self._wants_files and is_volume:
            await self.get_object()
            await self.deliver_tokens()

    @property
    def _wants_files(self) -> bool:
        return any(spec.file or spec.git_identity for spec in self._token_server.specs)

    def _say_what_is_frozen(self, container: Mapping[str, Any]) -> None:
        env = dict(line.partition("=")[::2] for line in container["Config"]["Env"] or ())
        given = {name: text for name, text in self._token_env.items() if name not in self.environment}
        frozen = sorted(name for name, text in given.items() if env.get(name) != text)
        if frozen:
            words = "%s runs in the container that it had, and with its environment: these variables are not as now: %s"
            self.log.warning(words, self._log_name, ", ".join(frozen))

    async def _choose_mode(self) -> str:
        mode: str = self.token_volume_mode
        if mode == "auto":
            return "bind" if (await self._find_engine()).shares_memory else "volume"
        if mode == "bind" and not is_in_memory(_find_root()):
            self.log.warning("%s is not in memory: token files are kept on disk", _find_root())
        return mode

    async def _find_engine(self) -> Engine:
        found = _engines.get(self.hub)
        if found is None:
            await self.wait_for_sweep()
            try:
                first_uid = find_first_uid(await self.docker("info"))
            except APIError:  # a proxy may refuse it
                first_uid = None
            found = _engines[self.hub] = Engine(await self._shares_memory(), first_uid)
            self.log.info("The Hub and the Docker Engine share %s: %s", _find_root(), found.shares_memory)
        return found

    async def _shares_memory(self) -> bool:
        root, name = _find_root(), f".probe-{secrets.token_hex(8)}"
        if not is_in_memory(root):
            return False
        try:
            with open_hub_directory(root, self.token_hub_name, create=True, closed=True) as hub:
                os.mkdir(name, dir_fd=hub)
                try:
                    return await sees(self.docker, self._host_path(name))
                finally:
                    os.rmdir(name, dir_fd=hub)
        except OSError as error:
            self.log.warning("Token files get into containers by volumes, since %s cannot be used: %s", root, error)
            return False

    # -- the files -------------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        if self._token_place is None:
            await self.get_object()
        place = self._token_place
        if place is None:
            raise FileNotFoundError("its container is gone")
        if place.is_volume:
            await self._write_inside(place, files)
        elif place.source == self._host_directory:
            self._write_outside((await self._find_engine()).first_uid, place, files)
        else:
            raise FileNotFoundError(
                "its container was created without a place for them, or with another; "
                f"remove the container {self.object_name}, and the next start has one"
            )

    async def _write_inside(self, place: Place, files: Mapping[str, bytes | None]) -> None:
        mode = 0o644 if place.uid is None and place.is_roots else 0o600
        modes = {name: (0o644 if name == PUBLIC_FILE else mode, contents) for name, contents in files.items()}
        user = "" if place.uid is None else str(place.uid)
        write = [write_inside, self.client, place.container, user, self.token_mount_path, modes]
        await asyncio.get_running_loop().run_in_executor(_writers, *write)

    def _write_outside(self, first_uid: int | None, place: Place, files: Mapping[str, bytes | None]) -> None:
        owner, mode = (os.geteuid(), os.getegid()), 0o644  # the directory above is closed to everybody else
        if os.geteuid() == 0 and place.uid is not None and (first_uid is not None or place.has_hosts_uids):
            base = 0 if place.has_hosts_uids else first_uid or 0
            owner, mode = (base + place.uid, base), 0o600
        public = {name: contents for name, contents in files.items() if name == PUBLIC_FILE}
        own = {name: contents for name, contents in files.items() if name != PUBLIC_FILE}
        with open_hub_directory(_find_root(), self.token_hub_name, create=True, closed=True) as hub:
            assert hub is not None
            if not self._token_server.runs:  # what a Hub that was killed has left
                own = dict.fromkeys(list_files(hub, self.object_name) - files.keys()) | own
            for contents, each in ((own, mode), (public, 0o644)):
                write_files(hub, self.object_name, contents, owner, mode=each, directory_mode=0o755)

    async def withdraw_files(self) -> None:
        place, self._token_place, self._token_mode = self._token_place, None, None
        if place is None or not place.is_volume:
            with open_hub_directory(_find_root(), self.token_hub_name, closed=True) as hub:
                if hub is not None and (aside := set_aside(hub, self.object_name)):
                    remove(hub, [aside], _AT_MOST)
        if place is None or place.is_volume:
            await self._remove_volumes(f"{_LABEL}.server={self.object_name}")

    async def sweep_files(self) -> None:
        with open_hub_directory(_find_root(), self.token_hub_name, closed=True) as hub:
            # Not by the Hub's database: two Hubs in containers may have theirs at the same URL.
            names = [] if hub is None else os.listdir(hub)
            if hub is not None and names:
                live = await self.docker("containers", all=True, filters={"status": _LIVE})
                kept = {name.removeprefix("/") for container in live for name in container["Names"]}
                trash = [aside for name in names if name not in kept and (aside := set_aside(hub, name))]
                remove(hub, trash, _AT_MOST)
        await self._remove_volumes()

    async def _remove_volumes(self, *labels: str) -> None:
        """Remove those of this Hub that no container has, with these labels."""
        filters = {"label": [f"{_LABEL}.hub={self.token_hub_name}", *labels], "dangling": ["true"]}
        for volume in (await self.docker("volumes", filters=filters))["Volumes"] or ():
            try:
                await self.docker("remove_volume", volume["Name"])
            except APIError as error:
                if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    raise

    @property
    def _host_directory(self) -> str:
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", self.object_name):
            raise ValueError(f"{self.object_name!r} is no name for a container: see DockerSpawner.name_template")
        return self._host_path(self.object_name)

    def _host_path(self, name: str) -> str:
        return os.path.join(self.token_host_path or _find_root(), self.token_hub_name, name)


def _find_root() -> str:
    """The Hub's directory for token files of the mode ``bind``."""
    parent = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
    return os.path.join(parent, "spawner-tokens")


_engines: weakref.WeakKeyDictionary[Hub, Engine] = weakref.WeakKeyDictionary()

# Not DockerSpawner's only thread, which a process that does not read would hold up for all users.
_writers = ThreadPoolExecutor(4, thread_name_prefix="spawner-tokens-docker")


class TokenDockerSpawner(DockerTokenMixin, DockerSpawner):
    """:class:`dockerspawner.DockerSpawner` that hands over tokens."""


class TokenSystemUserSpawner(DockerTokenMixin, SystemUserSpawner):
    """:class:`dockerspawner.SystemUserSpawner` that hands over tokens."""
