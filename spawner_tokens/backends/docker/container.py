"""Containers: where files are in one, and who reads them there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from docker.types import DriverConfig, Mount

_ROOT = ("", "0", "root")


@dataclass(frozen=True)
class Place:
    """What is mounted at a path of a container, and who reads it.

    ``name`` is the volume's, ``source`` is the directory of the host, if something is mounted there. ``uid`` is the server's, see
    :func:`find_uid`; ``is_roots`` says that it is root who starts there, ``has_hosts_uids`` that the engine does not
    remap them.
    """

    container: str
    is_running: bool
    started_at: str
    name: str | None
    source: str | None
    is_volume: bool
    uid: int | None
    is_roots: bool
    has_hosts_uids: bool

    @classmethod
    def from_container(cls, container: Mapping[str, Any] | None, path: str) -> Place | None:
        """``container`` is the engine's answer (``GET /containers/{id}/json``)."""
        if container is None:
            return None
        config, mounts = container["Config"], container.get("Mounts") or ()
        mount: Mapping[str, Any] = next(
            (mount for mount in mounts if mount["Destination"] == path), {}
        )
        return cls(
            container=container["Id"],
            is_running=container["State"]["Running"],
            started_at=container["State"]["StartedAt"],
            name=mount.get("Name"),
            source=mount.get("Source"),
            is_volume=mount.get("Type") == "volume",
            uid=find_uid(config["User"], config["Env"] or ()),
            is_roots=starts_as_root(config["User"]),
            has_hosts_uids=container["HostConfig"].get("UsernsMode") == "host",
        )


def make_volume(
    path: str,
    labels: Mapping[str, str],
    settings: Mapping[str, Any],
    image: Mapping[str, Any],
    first_uid: int | None,
) -> Mount:
    """A volume in memory at ``path``. It has no name, so the engine removes it with the container.

    It is its reader's, or everybody's where that is not known. ``settings`` are those of
    :meth:`docker.APIClient.create_container`, ``image`` is the ``Config`` of the engine's answer
    (``GET /images/{name}/json``), ``first_uid`` is root's in a container by the numbers of the engine's host.
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
    return Mount(
        path, None, no_copy=True, labels=labels, driver_config=DriverConfig("local", options)
    )


def find_uid(user: str, env: Iterable[str]) -> int | None:
    """The uid of a server's process in its container; ``None`` where only the container can know it.

    ``user`` and ``env`` (``NAME=value``) are the container's ``User`` and ``Env``. An image that starts as root and
    has an ``NB_UID`` switches to it, as those of Jupyter's docker-stacks do, and ``NB_USER`` is its name there.
    """
    name = user.partition(":")[0]
    variables = dict(line.partition("=")[::2] for line in env)
    if name in (*_ROOT, variables.get("NB_USER")):
        name = variables.get("NB_UID", "")
    return int(name) if name.isascii() and name.isdigit() and int(name) > 0 else None


def starts_as_root(user: str) -> bool:
    """Whether it is root who starts in a container with this ``User``."""
    return user.partition(":")[0] in _ROOT
