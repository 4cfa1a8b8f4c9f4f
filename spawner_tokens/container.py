"""Containers: where files are in one, and who reads them there. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_ROOT = ("", "0", "root")


@dataclass(frozen=True)
class Place:
    """What is mounted at a path of a container, and who reads it.

    ``source`` is the directory of the host, if something is mounted there. ``uid`` is the server's, see
    :func:`find_uid`; ``is_roots`` says that it is root who starts there, ``has_hosts_uids`` that the engine does not
    remap them.
    """

    container: str
    started_at: str
    source: str | None
    is_volume: bool
    uid: int | None
    is_roots: bool
    has_hosts_uids: bool

    @classmethod
    def of(cls, container: Mapping[str, Any] | None, path: str) -> Place | None:
        """``container`` is the engine's answer (``GET /containers/{id}/json``)."""
        if container is None:
            return None
        config, mounts = container["Config"], container.get("Mounts") or ()
        mount: Mapping[str, Any] = next((mount for mount in mounts if mount["Destination"] == path), {})
        return cls(
            container=container["Id"],
            started_at=container["State"]["StartedAt"],
            source=mount.get("Source"),
            is_volume=mount.get("Type") == "volume",
            uid=find_uid(config["User"], config["Env"] or ()),
            is_roots=config["User"].partition(":")[0] in _ROOT,
            has_hosts_uids=container["HostConfig"].get("UsernsMode") == "host",
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
