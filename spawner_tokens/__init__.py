"""Spawner mixins that hand a user's OAuth tokens to their notebook server."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import jupyterhub

from ._version import __version__

if jupyterhub.version_info < (5, 0):  # which the modules below cannot be imported with
    raise ImportError(f"spawner_tokens needs jupyterhub>=5.0; {jupyterhub.__version__} is installed")

from .local import LocalTokenMixin, TokenLocalProcessSpawner, TokenSimpleLocalProcessSpawner
from .mixin import TokenSpawnerMixin

if TYPE_CHECKING:
    from .docker import DockerTokenMixin, TokenDockerSpawner, TokenSystemUserSpawner
    from .kubernetes import KubeTokenMixin, TokenKubeSpawner
    from .swarm import SwarmTokenMixin, TokenSwarmSpawner

__all__ = [
    "DockerTokenMixin",
    "KubeTokenMixin",
    "LocalTokenMixin",
    "SwarmTokenMixin",
    "TokenDockerSpawner",
    "TokenKubeSpawner",
    "TokenLocalProcessSpawner",
    "TokenSimpleLocalProcessSpawner",
    "TokenSpawnerMixin",
    "TokenSwarmSpawner",
    "TokenSystemUserSpawner",
    "__version__",
]

# What needs more than JupyterHub: class → its module, and the extra that installs what it needs.
_EXTRAS = {
    "DockerTokenMixin": (".docker", "docker"),
    "TokenDockerSpawner": (".docker", "docker"),
    "TokenSystemUserSpawner": (".docker", "docker"),
    "KubeTokenMixin": (".kubernetes", "kubernetes"),
    "TokenKubeSpawner": (".kubernetes", "kubernetes"),
    "SwarmTokenMixin": (".swarm", "docker"),
    "TokenSwarmSpawner": (".swarm", "docker"),
}


def __getattr__(name: str) -> Any:
    if name not in _EXTRAS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, extra = _EXTRAS[name]
    try:
        return getattr(import_module(module, __name__), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"{name} needs more packages: pip install 'spawner_tokens[{extra}]'") from error
