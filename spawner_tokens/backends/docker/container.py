"""Containers: where the token files are in one, and which user reads them. Pure functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from docker.types import DriverConfig, Mount

_ROOT = ("", "0", "root")


@dataclass(frozen=True)
class Place:
    """What is mounted at a path of a container, and the user who reads it.

    ``labels``: those that the container was to give to a new volume there.

    ``container``: its ID. ``started_at``: its last start, as the engine writes times. ``name``: the
    volume's name, ``source``: its directory on the engine's host; ``None`` if nothing is mounted
    there. ``uid``: see :func:`find_uid`. ``is_roots``: whether the container starts as root.
    ``has_hosts_uids``: whether uids in the container are those of the engine's host.
    """

    container: str
    is_running: bool
    started_at: str
    name: str | None
    source: str | None
    is_volume: bool
    labels: Mapping[str, str]
    uid: int | None
    is_roots: bool
    has_hosts_uids: bool

    @classmethod
    def from_container(cls, container: Mapping[str, Any] | None, path: str) -> Place | None:
        """What is mounted at ``path``; ``None`` if there is no container.

        ``container``: the engine's answer to ``GET /containers/{id}/json``.
        """
        if container is None:
            return None
        config, mounts = container["Config"], container.get("Mounts") or ()
        found = (mount for mount in mounts if mount["Destination"] == path)
        mount: Mapping[str, Any] = next(found, {})
        made = container["HostConfig"].get("Mounts") or ()
        options = (each.get("VolumeOptions") or {} for each in made if each["Target"] == path)
        return cls(
            container=container["Id"],
            is_running=container["State"]["Running"],
            started_at=container["State"]["StartedAt"],
            name=mount.get("Name"),
            source=mount.get("Source"),
            is_volume=mount.get("Type") == "volume",
            labels=next(options, {}).get("Labels") or {},
            uid=find_uid(config["User"], config["Env"] or ()),
            is_roots=starts_as_root(config["User"]),
            has_hosts_uids=container["HostConfig"].get("UsernsMode") == "host",
        )

    def find_problem(self, path: str, old: str | None) -> str:
        """Why no files can be delivered, if what is mounted is not ours.

        ``old``: the container's name if it is not of this start.
        """
        fix = f"; remove the container {old}, and the next start has one" if old else ""
        if self.source is None:
            return f"its container has no mount for them{fix}"
        words = "by DockerSpawner's options or by the image; set tokens_mount_path"
        return f"another mount is at {path}, {words}{fix}"


def has_mount(host: Mapping[str, Any], path: str) -> bool:
    """Whether something is to be mounted at ``path``, by a container's ``HostConfig``."""
    every = [*(host.get("Binds") or ()), *(host.get("Mounts") or ())]
    targets = [
        each["Target"] if isinstance(each, Mapping) else f"{each}:".split(":")[1] for each in every
    ]
    return path in map(os.path.normpath, [*targets, *(host.get("Tmpfs") or ())])


def make_volume(
    path: str,
    labels: Mapping[str, str],
    settings: Mapping[str, Any],
    image: Mapping[str, Any],
    first_uid: int | None,
) -> Mount:
    """A volume in memory, to be mounted at ``path`` of a container that is created.

    It has no name, so the engine removes it with the container. It belongs to the user who reads
    the files; if that user is not known, all users can write to it.

    ``settings``: the arguments of :meth:`docker.APIClient.create_container`. ``image``: the
    ``Config`` of the engine's answer to ``GET /images/{name}/json``. ``first_uid``: see
    :func:`~spawner_tokens.backends.docker.engine.find_first_uid`.
    """
    user = str(settings.get("user") or image.get("User") or "")
    given = (f"{name}={text}" for name, text in settings["environment"].items())
    uid = find_uid(user, [*(image.get("Env") or ()), *given])
    if uid is None and starts_as_root(user):
        uid = 0
    if settings["host_config"].get("UsernsMode") == "host":
        first_uid = 0
    owner = "mode=1777" if first_uid is None or uid is None else f"mode=755,uid={first_uid + uid}"
    options = {"type": "tmpfs", "device": "tmpfs", "o": f"size=8m,nosuid,nodev,noexec,{owner}"}
    driver = DriverConfig("local", options)
    return Mount(path, None, no_copy=True, labels=labels, driver_config=driver)


def find_owner(place: Place, first_uid: int | None) -> tuple[int, int] | None:
    """The uid and gid of files for a place, as the engine's host has them; ``None`` if not known.

    ``first_uid``: see :func:`~spawner_tokens.backends.docker.engine.find_first_uid`.
    """
    if place.has_hosts_uids:
        first_uid = 0
    if place.uid is None or first_uid is None:
        return None
    return first_uid + place.uid, first_uid


def find_uid(user: str, env: Iterable[str]) -> int | None:
    """The uid of a server's process in its container; ``None`` if only the container has it.

    ``user`` and ``env`` (``NAME=value``): the container's ``User`` and ``Env``. A container that
    starts as root and has an ``NB_UID`` is taken for one of Jupyter's docker-stacks, which switches
    to that uid, whose name is ``NB_USER``.
    """
    name = user.partition(":")[0]
    variables = dict(line.partition("=")[::2] for line in env)
    if name in (*_ROOT, variables.get("NB_USER")):
        name = variables.get("NB_UID", "")
    return int(name) if name.isascii() and name.isdigit() and int(name) > 0 else None


def starts_as_root(user: str) -> bool:
    """Whether a container with this ``User`` starts as root."""
    return user.partition(":")[0] in _ROOT


def find_outdated(env: Iterable[str], wanted: Mapping[str, Any]) -> set[str]:
    """The variables that do not have the ``wanted`` values in a container with this ``Env``."""
    has = dict(line.partition("=")[::2] for line in env)
    return {name for name, text in wanted.items() if has.get(name) != str(text)}
