"""Containers: who reads files in one, by what its configuration and its image say. Pure."""

from __future__ import annotations

from collections.abc import Iterable

_ROOT = ("", "0", "root")


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
