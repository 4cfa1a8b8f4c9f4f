"""The Docker backend: token files in memory inside a container."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import Mount
from dockerspawner import DockerSpawner, SystemUserSpawner
from traitlets import Enum

from ...mixin import TokenSpawnerMixin
from ...tokens.files import PUBLIC_FILE
from ...traits import AbsolutePath
from ..hostfiles import is_in_memory, list_files, open_hub_directory, remove, set_aside, write_files
from .container import Place, make_volume
from .engine import Engine, examine, write_inside

_LABEL = "spawner_tokens"
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

    tokens_volume_mode = Enum(
        ["auto", "bind", "volume"],
        default_value="auto",
        help="""
        How files get into a container: ``bind``, ``volume``, or ``auto`` for what the engine allows.

        Example::

            c.DockerTokenMixin.tokens_volume_mode = "volume"

        ``bind``
            The Hub writes them to ``/run/spawner-tokens``, and the engine mounts its part of that, read-only. They
            are there before the container starts, and renewed with nobody asked. A Hub in a container needs
            this directory of the host. One that is not root has ``$XDG_RUNTIME_DIR/spawner-tokens``, and can give
            files to nobody else, so that all users in a container can read them; ``auto`` does not choose that.
        ``volume``
            The engine makes a volume in its memory, and ``/bin/sh`` and ``base64`` in the container write to it
            as soon as the container runs. For an engine elsewhere, or with nothing but its socket.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    tokens_host_path = AbsolutePath(
        "",
        help="""
        The directory of the mode ``bind`` as the engine sees it, if it has another path there.

        Example::

            c.DockerTokenMixin.tokens_host_path = "/dev/shm/jupyterhub"

        That is for a Hub in a container with ``/dev/shm/jupyterhub:/run/spawner-tokens`` among its volumes.

        .. versionadded:: 0.1
        """
    ).tag(config=True)

    # How files get into a container that is created; whether that is so in this start; and what there is now.
    _tokens_mode: str | None = None
    _tokens_is_new: bool = False
    _tokens_place: Place | None = None
    _tokens_volume: str | None = None  # its name, if it is ours

    @property
    def tokens_public_path(self) -> str:
        return f"{self.tokens_mount_path}/{PUBLIC_FILE}"

    # -- the container ---------------------------------------------------------------------------

    async def create_object(self) -> Any:
        self._tokens_is_new = True
        self._tokens_mode = await self._choose_mode() if self._wants_files else None
        return await super().create_object()

    def docker(self, method: str, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        if method == "create_container" and self._tokens_mode is not None:
            return self._create_container(*args, **kwargs)
        found: Awaitable[Any] = super().docker(method, *args, **kwargs)
        return found

    async def _create_container(self, **settings: Any) -> Any:
        """Create the container with a place for the files, beside all that it is to have."""
        host = settings["host_config"]
        if self._tokens_mode == "bind":
            bind = f"{self._host_directory}:{self.tokens_mount_path}:ro,z"
            more = {"Binds": [*(host.get("Binds") or ()), bind]}
        else:
            more = {"Mounts": [*(host.get("Mounts") or ()), await self._make_volume(settings)]}
        return await super().docker(
            "create_container", **{**settings, "host_config": {**host, **more}}
        )

    async def _make_volume(self, settings: Mapping[str, Any]) -> Mount:
        image = (await self.docker("inspect_image", settings["image"]))["Config"] or {}
        first_uid = (await self._find_engine()).first_uid
        labels = {f"{_LABEL}.hub": self.tokens_hub_name, f"{_LABEL}.server": self.object_name}
        return make_volume(self.tokens_mount_path, labels, settings, image, first_uid)

    async def get_object(self) -> Any:
        container = await super().get_object()
        before, now = self._tokens_place, Place.from_container(container, self.tokens_mount_path)
        self._tokens_place = now
        if (
            before
            and now
            and before.is_running
            and now.is_running
            and before.started_at != now.started_at
        ):
            self.redeliver_tokens()  # the engine has started it again
        return container

    async def start_object(self) -> None:
        # Here the container is known, be it new or an old one, and its name is final.
        container = await self.get_object()
        if not self._tokens_is_new:
            self._say_what_is_frozen(container)
        is_volume = self._tokens_place is not None and self._tokens_place.is_volume
        if self._wants_files and not is_volume:
            await self.deliver_tokens()
        await super().start_object()
        if self._wants_files and is_volume:
            await self.get_object()
            await self.deliver_tokens()

    @property
    def _wants_files(self) -> bool:
        return any(spec.file or spec.git_identity for spec in self.tokens_specs)

    def _say_what_is_frozen(self, container: Mapping[str, Any]) -> None:
        has = dict(line.partition("=")[::2] for line in container["Config"]["Env"] or ())
        ours = {
            name: text
            for name, text in self.get_env().items()
            if name in self.tokens_variables or name[:4] == "GIT_"
        }
        frozen = sorted(name for name, text in ours.items() if has.get(name) != str(text))
        if frozen:
            words = "%s runs in the container that it had, and with its environment: these variables are not as now: %s"
            self.log.warning(words, self._log_name, ", ".join(frozen))

    async def _choose_mode(self) -> str | None:
        mode: str = self.tokens_volume_mode
        if mode == "volume":
            return mode
        shares = (await self._find_engine()).shares_directory
        if mode == "auto":
            return (
                "bind" if shares and is_in_memory(_find_root()) and os.geteuid() == 0 else "volume"
            )
        if not shares:
            words = "tokens_volume_mode is bind, but the Docker Engine does not see the Hub's %s at %s: set tokens_host_path"
            self.log.error(words, _find_root(), self._host_path(""))
            return None
        if not is_in_memory(_find_root()):
            self.log.warning("%s is not in memory: token files are kept on disk", _find_root())
        return mode

    async def _find_engine(self) -> Engine:
        assert self.tokens_hub is not None
        known, key = self.tokens_hub.known, (type(self), "engine")
        if key not in known:
            await self.wait_for_sweep()
            call, root, hub = super().docker, _find_root(), self.tokens_hub_name
            known[key] = await examine(call, root, hub, self._host_path, self.log)
        engine: Engine = known[key]
        return engine

    # -- the files -------------------------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        if self._tokens_place is None:
            await self.get_object()
        place = self._tokens_place
        if place is None:
            raise FileNotFoundError("its container is gone")
        if place.is_volume:
            await self._write_inside(place, files)
        elif place.source == self._host_directory:
            self._write_outside((await self._find_engine()).first_uid, place, files)
        elif self._tokens_is_new:
            raise FileNotFoundError("there is no way into its container")
        else:
            raise FileNotFoundError(
                "its container was created without a place for them, or with another; "
                f"remove the container {self.object_name}, and the next start has one"
            )

    async def _write_inside(self, place: Place, files: Mapping[str, bytes | None]) -> None:
        if self._tokens_volume != place.name:
            labels = (await self.docker("inspect_volume", place.name))["Labels"] or {}
            if labels.get(f"{_LABEL}.hub") != self.tokens_hub_name:
                raise FileExistsError(
                    f"another volume is mounted at {self.tokens_mount_path}, by DockerSpawner's options or by the image; "
                    "set tokens_mount_path, or remove that"
                )
            self._tokens_volume = place.name
        mode = 0o644 if place.uid is None and place.is_roots else 0o600
        modes = {
            name: (0o644 if name == PUBLIC_FILE else mode, contents)
            for name, contents in files.items()
        }
        user = "" if place.uid is None else str(place.uid)
        await write_inside(self.client, place.container, user, self.tokens_mount_path, modes)

    def _write_outside(
        self, first_uid: int | None, place: Place, files: Mapping[str, bytes | None]
    ) -> None:
        owner, mode = (
            (os.geteuid(), os.getegid()),
            0o644,
        )  # the directory above is closed to all others
        if (
            os.geteuid() == 0
            and place.uid is not None
            and (first_uid is not None or place.has_hosts_uids)
        ):
            base = 0 if place.has_hosts_uids else first_uid or 0
            owner, mode = (base + place.uid, base), 0o600
        public = {name: contents for name, contents in files.items() if name == PUBLIC_FILE}
        own = {name: contents for name, contents in files.items() if name != PUBLIC_FILE}
        with open_hub_directory(
            _find_root(), self.tokens_hub_name, create=True, closed=True
        ) as hub:
            assert hub is not None
            if not self.tokens_running:  # what a Hub that was killed has left
                own = dict.fromkeys(list_files(hub, self._directory) - files.keys()) | own
            for contents, each in ((own, mode), (public, 0o644)):
                write_files(hub, self._directory, contents, owner, mode=each, directory_mode=0o755)

    async def withdraw_files(self) -> None:
        place, self._tokens_place, self._tokens_mode, self._tokens_is_new = (
            self._tokens_place,
            None,
            None,
            False,
        )
        if place is None or not place.is_volume:
            self._remove_directories([self._directory])
        if place is None or place.is_volume:
            await self._remove_volumes(f"{_LABEL}.server={self.object_name}")

    async def sweep_files(self) -> None:
        try:
            with open_hub_directory(_find_root(), self.tokens_hub_name, closed=True) as hub:
                names = [] if hub is None else os.listdir(hub)
            if (
                names
            ):  # not by the Hub's database: two Hubs in containers may have theirs at the same URL
                live = await self.docker("containers", all=True, filters={"status": _LIVE})
                kept = {name.removeprefix("/") for container in live for name in container["Names"]}
                self._remove_directories([name for name in names if name not in kept])
        finally:
            await self._remove_volumes()

    def _remove_directories(self, names: Sequence[str]) -> None:
        with open_hub_directory(_find_root(), self.tokens_hub_name, closed=True) as hub:
            if hub is not None:
                remove(hub, [aside for name in names if (aside := set_aside(hub, name))], _AT_MOST)

    async def _remove_volumes(self, *labels: str) -> None:
        """Remove those of this Hub that no container has, with these labels."""
        filters = {"label": [f"{_LABEL}.hub={self.tokens_hub_name}", *labels], "dangling": ["true"]}
        try:
            volumes = (await self.docker("volumes", filters=filters))["Volumes"] or ()
        except APIError as error:
            if error.status_code != HTTPStatus.FORBIDDEN:  # by a proxy, so there are none
                raise
            volumes = ()
        for volume in volumes:
            try:
                await self.docker("remove_volume", volume["Name"])
            except APIError as error:
                if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                    raise

    @property
    def _directory(self) -> str:
        """The name of this server's directory among those of the Hub."""
        name: str = self.object_name
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", name):
            raise ValueError(
                f"{name!r} is no name for a container: see DockerSpawner.name_template"
            )
        return name

    @property
    def _host_directory(self) -> str:
        return self._host_path(self._directory)

    def _host_path(self, name: str) -> str:
        return os.path.join(self.tokens_host_path or _find_root(), self.tokens_hub_name, name)


def _find_root() -> str:
    """The Hub's directory for token files of the mode ``bind``."""
    parent = "/run" if os.geteuid() == 0 else os.environ.get("XDG_RUNTIME_DIR", "/nonexistent")
    return os.path.join(parent, "spawner-tokens")


class TokenDockerSpawner(DockerTokenMixin, DockerSpawner):
    """:class:`dockerspawner.DockerSpawner` that hands over tokens."""


class TokenSystemUserSpawner(DockerTokenMixin, SystemUserSpawner):
    """:class:`dockerspawner.SystemUserSpawner` that hands over tokens."""
