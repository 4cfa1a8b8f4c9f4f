"""Spawner mixins that hand a user's OAuth tokens to their notebook server."""

from ._version import __version__
from .local import LocalTokenMixin, TokenLocalProcessSpawner, TokenSimpleLocalProcessSpawner
from .mixin import TokenSpawnerMixin

__all__ = [
    "LocalTokenMixin",
    "TokenLocalProcessSpawner",
    "TokenSimpleLocalProcessSpawner",
    "TokenSpawnerMixin",
    "__version__",
]
