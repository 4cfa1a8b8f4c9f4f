"""How our mixins are combined with a Spawner's class: what could not work is a TypeError."""

from __future__ import annotations

from typing import Any

from jupyterhub.spawner import Spawner
from traitlets.config import LoggingConfigurable

from .traits import TokenTraits


def check_order(cls: type, mixin: type) -> None:
    """Raise :exc:`TypeError` if a Spawner's class stands before the ``mixin``."""
    before = cls.__mro__[: cls.__mro__.index(mixin)]
    if any(issubclass(base, Spawner) and not issubclass(base, mixin) for base in before):
        bases = sorted(cls.__bases__, key=lambda base: not issubclass(base, mixin))
        right = ", ".join(base.__name__ for base in bases)
        raise TypeError(
            f"class {cls.__name__}: the token mixin has to come first, or it may do nothing; "
            f"write class {cls.__name__}({right})"
        )


def check_names(cls: type) -> None:
    """Raise :exc:`TypeError` if a class behind our mixins defines a name of ours, too.

    Methods of ours that call it, as ``start`` does, are there to extend it.
    """
    end = cls.__mro__.index(TokenTraits) + 1
    for mixin in cls.__mro__[:end]:
        if issubclass(mixin, Spawner) or not mixin.__module__.startswith(f"{__package__}."):
            continue  # an admin's own class in front of a Spawner's is there to replace
        for name, member in vars(mixin).items():
            other = next((base for base in cls.__mro__[end:] if name in vars(base)), None)
            if other and not hasattr(LoggingConfigurable, name) and not _extends(name, member):
                raise TypeError(
                    f"class {cls.__name__}: {name} of {mixin.__name__} would take the place of "
                    f"{name} of {other.__name__}, which is something else; give that another name, "
                    f"or, if it is meant for us, define it in class {cls.__name__}"
                )


def _extends(name: str, member: Any) -> bool:
    """Whether a method or property calls the one behind it."""
    function = getattr(member, "fget", None) or getattr(member, "func", member)
    names = getattr(getattr(function, "__code__", None), "co_names", ())
    return "super" in names and name in names
