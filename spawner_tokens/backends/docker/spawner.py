"""The Docker backend: token files in memory inside a container."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from docker.errors import APIError
from docker.types import Mount
from dockerspawner import DockerSpawner, SystemUserSpawner
from traitlets import Enum

from ...mixin import TokenSpawnerMixin
from ...sweep import Leftover, find_each
from ...tokens.files import PUBLIC_FILE
from ...traits import AbsolutePath
from ..filethreads import FileThreads
from ..hostfiles import is_in_memory
from .container import Place, find_outdated, find_owner, has_mount, make_volume
from .engine import CannotWrite, Engine, find_mount, write_inside
from .leftovers import LABEL, find_directories, find_volumes
from .shared import SHARED, SharedDirectory


class DockerTokenMixin(TokenSpawnerMixin):
    """Delivers files in memory inside the container.

    Mix it into spawners of DockerSpawner's family::

        class MySpawner(DockerTokenMixin, DockerSpawner):
            pass

    If the engine can mount a directory that the Hub keeps in memory, the files are there. If not,
    they are in a volume in the engine's memory, and the container's own ``/bin/sh`` writes them.
    """

    delivers_in_start = True

    tokens_volume_mode = Enum(
        ["auto", "bind", "volume"],
        default_value="auto",
        help="""
        How files get into a container: ``bind``, ``volume``, or ``auto`` for what is possible.

        Example::

            c.DockerTokenMixin.tokens_volume_mode = "volume"

        ``bind``
            The Hub writes the files to ``/run/spawner-tokens``, and the engine mounts the server's
            part of it, read-only. The files are there before the container starts, and the Hub
            renews them without the engine. A Hub in a container has to mount this directory of the
            host. A Hub that does not run as root writes to ``$XDG_RUNTIME_DIR/spawner-tokens``. It
            cannot change the owner of files, so all users in the container can read them: ``auto``
            does not choose ``bind`` then.
        ``volume``
            The engine makes a volume in its memory. ``/bin/sh`` and ``base64`` in the container
            write the files to it when the container runs. This is for an engine on another host,
            and for a Hub that has only the engine's socket.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_host_path = AbsolutePath(
        "",
        help="""
        The path on the engine's host of the directory for the mode ``bind``, if it is another one.

        Example::

            c.DockerTokenMixin.tokens_host_path = "/dev/shm/jupyterhub"

        The example is for a Hub in a container with the volume
        ``/dev/shm/jupyterhub:/run/spawner-tokens``.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    # Of a new container: the mode, and whether there is one. What is mounted in the container now.
    _tokens_mode: str | None = None
    _tokens_is_new: bool = False
    _tokens_place: Place | None = None

    location_key = "tokens_location_docker"

    def make_location(self) -> dict[str, Any]:
        runtime = os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
        root = os.path.join("/run" if os.geteuid() == 0 else runtime, "spawner-tokens")
        # In the directory that is shared, a server's has the name of its container.
        more = {"root": root, "host_root": self.tokens_host_path or root}
        return {**super().make_location(), **more, "server": self.object_name}

    async def keep_location(self, **more: Any) -> None:
        place, self._tokens_place = self._tokens_place, None  # older files are not in this one
        mount = None if place is None or place.is_volume else await self._run(self._shared.find)
        await super().keep_location(mount=mount, **more)
        self._tokens_place = place

    @property
    def tokens_public_path(self) -> str:
        return f"{self.tokens_directory}/{PUBLIC_FILE}"

    # -- the container ---------------------------------------------------------------------------

    async def create_object(self) -> Any:
        self._tokens_is_new = True
        self._tokens_mode = await self._choose_mode() if self._has_files else None
        return await super().create_object()

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        if method == "create_container" and self._tokens_mode is not None:
            return self._create_container(*args, **kwargs)
        result: Awaitable[Any] = super().docker(method, *args, **kwargs)
        return result

    async def _create_container(self, **settings: Any) -> Any:
        """Create the container with a mount for the files, after the mounts of its settings."""
        host = settings["host_config"]
        if has_mount(host, self.tokens_directory):  # deliver_files() says so
            return await super().docker("create_container", **settings)
        if self._tokens_mode == "bind":
            source = self._shared.get_host_path(self._directory)
            bind = f"{source}:{self.tokens_directory}:ro,z"
            mounts = {"Binds": [*(host.get("Binds") or ()), bind]}
        else:
            mounts = {"Mounts": [*(host.get("Mounts") or ()), await self._make_volume(settings)]}
        settings["host_config"] = {**host, **mounts}
        return await super().docker("create_container", **settings)

    async def _make_volume(self, settings: Mapping[str, Any]) -> Mount:
        try:
            image = (await self.docker("inspect_image", settings["image"]))["Config"] or {}
        except APIError:  # as a proxy before the engine may answer
            image = {"User": "unknown"}
        first_uid = await self._engine.find_first_uid()
        labels = {f"{LABEL}.{name}": self.tokens_location[name] for name in ("hub", "server")}
        return make_volume(self.tokens_directory, labels, settings, image, first_uid)

    async def get_object(self) -> Any:
        container = await super().get_object()
        places = self._tokens_place, Place.from_container(container, self.tokens_directory)
        self._tokens_place = places[1]
        starts = {place.started_at for place in places if place and place.is_running}
        if len(starts) == 2:  # the engine has restarted the container
            self.redeliver_tokens()
        return container

    async def start_object(self) -> None:
        # Here there is a container, a new or an old one, and its name is final.
        container = await self.get_object()
        if not self._tokens_is_new:
            found = find_outdated(container["Config"]["Env"] or (), self.get_env())
            ours = {name for name in found if name in self.tokens_variables or name[:4] == "GIT_"}
            if ours:
                words = "%s runs in its old container, where these variables have their old values"
                self.log.warning(f"{words}: %s", self._log_name, ", ".join(sorted(ours)))
        is_volume = self._tokens_place is not None and self._tokens_place.is_volume
        if self._has_files and not is_volume:
            await self.deliver_tokens()
        await super().start_object()
        if self._has_files and is_volume:
            await self.get_object()
            await self.deliver_tokens()

    @property
    def _has_files(self) -> bool:
        return any(spec.file or spec.git_identity for spec in self.tokens_specs)

    async def _choose_mode(self) -> str | None:
        """The mode for a new container; ``None`` if the configured one is not possible."""
        mode: str = self.tokens_volume_mode
        if mode == "volume":
            return mode
        shares = await self._engine.shares(self._shared)
        in_memory = is_in_memory(self._shared.root)
        if mode == "auto":
            return "bind" if shares and in_memory and os.geteuid() == 0 else "volume"
        if shares is False:
            words = (
                "tokens_volume_mode is bind, but the Docker Engine does not see the Hub's %s at %s"
            )
            host_path = self._shared.get_host_path("")
            self.log.error(f"{words}: set tokens_host_path", self._shared.root, host_path)
            return None
        if not in_memory:
            self.log.warning("%s is not in memory: token files are on disk", self._shared.root)
        return mode

    @property
    def _engine(self) -> Engine:
        assert self.tokens_hub is not None
        return Engine(super().docker, type(self), self.tokens_hub.known, self.log)

    # -- the files -------------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        if self._tokens_place is None:
            await self.get_object()
        place = self._tokens_place
        if place is None:
            raise CannotWrite("its container is gone")
        if place.labels.get(f"{LABEL}.hub") == self.tokens_location["hub"]:
            await self._write_to_volume(place, files)
        elif place.source == self._shared.get_host_path(self._directory):
            await self._write_to_mount(place, files)
        else:
            old = None if self._tokens_is_new else self.object_name
            raise CannotWrite(place.find_problem(self.tokens_directory, old))

    async def _write_to_mount(self, place: Place, files: Mapping[str, bytes | None]) -> None:
        shared, is_new = self._shared, not self.tokens_running
        owner = find_owner(place, await self._engine.find_first_uid())
        is_moved = await self._run(shared.find) != self.tokens_location.get("mount")
        if place.is_running if is_new else is_moved:
            inside = self.client, place.container, self.tokens_directory
            self.amend_location(mount=await find_mount(*inside, shared, self._run, owner))
        await self._run(shared.write, files, owner, is_new)
        if is_new:
            self.amend_location(mount=await self._run(shared.find))

    async def _run(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Call a method of the shared directory for the server's own, in a thread."""
        threads, name = FileThreads.from_hub(self.tokens_hub), self._directory
        return await threads.run((self._shared, name), work, name, *arguments)

    async def _write_to_volume(self, place: Place, files: Mapping[str, bytes | None]) -> None:
        mode = 0o644 if place.uid is None and place.is_roots else 0o600
        entries = {name: (mode, contents) for name, contents in files.items()}
        if PUBLIC_FILE in files:
            entries[PUBLIC_FILE] = 0o644, files[PUBLIC_FILE]
        user = "" if place.uid is None else str(place.uid)
        await write_inside(self.client, place.container, user, self.tokens_directory, entries)

    async def withdraw_files(self) -> None:
        place, self._tokens_place = self._tokens_place, None
        self._tokens_mode, self._tokens_is_new = None, False
        if place is None or not place.is_volume:
            threads, name = FileThreads.from_hub(self.tokens_hub), self._directory
            await threads.run((self._shared, name), self._shared.remove, [name], at_last=True)
        if place is None or place.is_volume:
            location = self.tokens_location
            label = f"{LABEL}.server={location['server']}"
            async for left in find_volumes(self.docker, location["hub"], label):
                await left.remove()

    def sweep_files(self) -> AsyncIterator[Leftover]:
        threads, call = FileThreads.from_hub(self.tokens_hub), self.docker
        volumes = (find_volumes(call, hub) for (hub,) in self.list_locations("hub"))
        places = (SharedDirectory(*paths) for paths in self.list_locations(*SHARED))
        directories = (find_directories(call, threads, place) for place in places)
        return find_each(*volumes, *directories)

    @property
    def _directory(self) -> str:
        """The name of the server's directory in the shared one: that of its container."""
        name: str = self.tokens_location["server"]
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
            words = "is not a valid name of a container: see DockerSpawner.name_template"
            raise ValueError(f"{name!r} {words}")
        return name

    @property
    def _shared(self) -> SharedDirectory:
        return SharedDirectory.from_location(self.tokens_location)


class TokenDockerSpawner(DockerTokenMixin, DockerSpawner):
    """:class:`dockerspawner.DockerSpawner` that hands over tokens."""


class TokenSystemUserSpawner(DockerTokenMixin, SystemUserSpawner):
    """:class:`dockerspawner.SystemUserSpawner` that hands over tokens."""
