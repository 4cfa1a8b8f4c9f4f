"""Spawner mixins that hand a user's OAuth tokens to their notebook server.

Importing this package imports nothing else: each class is imported when it is asked for (PEP 562).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from .backends.docker.spawner import (
        DockerTokenMixin,
        TokenDockerSpawner,
        TokenSystemUserSpawner,
    )
    from .backends.docker.swarm import SwarmTokenMixin, TokenSwarmSpawner
    from .backends.kubernetes.spawner import KubeTokenMixin, TokenKubeSpawner
    from .backends.local import (
        LocalTokenMixin,
        TokenLocalProcessSpawner,
        TokenSimpleLocalProcessSpawner,
    )
    from .mixin import TokenSpawnerMixin

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

# Class → its module, and the extra that installs what it needs beside JupyterHub.
_CLASSES = {
    "DockerTokenMixin": (".backends.docker.spawner", "docker"),
    "KubeTokenMixin": (".backends.kubernetes.spawner", "kubernetes"),
    "LocalTokenMixin": (".backends.local", None),
    "SwarmTokenMixin": (".backends.docker.swarm", "docker"),
    "TokenDockerSpawner": (".backends.docker.spawner", "docker"),
    "TokenKubeSpawner": (".backends.kubernetes.spawner", "kubernetes"),
    "TokenLocalProcessSpawner": (".backends.local", None),
    "TokenSimpleLocalProcessSpawner": (".backends.local", None),
    "TokenSpawnerMixin": (".mixin", None),
    "TokenSwarmSpawner": (".backends.docker.swarm", "docker"),
    "TokenSystemUserSpawner": (".backends.docker.spawner", "docker"),
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    _expect_jupyterhub(name)
    module, extra = _CLASSES[name]
    try:
        return getattr(import_module(module, __name__), name)
    except ModuleNotFoundError as error:
        if extra is None:
            raise
        raise ImportError(
            f"{name} needs more packages: pip install 'spawner_tokens[{extra}]'"
        ) from error


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext spawner_tokens``: before each cell, a kernel's variables get the live tokens."""
    from .singleuser import ipython

    ipython.load_ipython_extension(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext spawner_tokens``"""
    from .singleuser import ipython

    ipython.unload_ipython_extension(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _expect_jupyterhub(name: str) -> None:
    import jupyterhub

    if jupyterhub.version_info < (5, 0):
        raise ImportError(f"{name} needs jupyterhub>=5.0; {jupyterhub.__version__} is installed")
