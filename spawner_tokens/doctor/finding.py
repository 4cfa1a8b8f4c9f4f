"""What the doctor finds, as data: a finding, its level, and the lines that mend it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import yaml


class Level(str, Enum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Setting:
    """A line of the config: ``c.Section.trait = value``, or deeper, ``c.Section.trait["name"] = value``."""

    path: tuple[str, ...]
    value: Any
    note: str = ""

    kind = "config"

    def as_python(self) -> str:
        section, trait, *keys = self.path
        place = f"c.{section}.{trait}" + "".join(f"[{literal(key)}]" for key in keys)
        return f"{place} = {literal(self.value)}" + (f"  # {self.note}" if self.note else "")

    def as_yaml(self, at: Sequence[str]) -> str:
        """For zero-to-jupyterhub's values, as lines of a dotted path and its value."""
        literal(self.value)  # what Python has no literal for, YAML has none for, either
        note = f"  # {self.note}" if self.note else ""
        lines = {("config", *self.path): self.value}
        if self.path == ("JupyterHub", "load_roles"):  # whose place in them is another one
            lines = {
                ("loadRoles", str(role.get("name")), "scopes"): role["scopes"]
                for role in self.value
                if "scopes" in role
            }
        return "\n".join(
            f"{write_path(*at, 'hub', *path)}: {json.dumps(value, ensure_ascii=False, default=list)}{note}"
            for path, value in lines.items()
        )


@dataclass(frozen=True)
class Code:
    """Lines of a Python config; in zero-to-jupyterhub's values, they belong into ``hub.extraConfig``."""

    text: str

    kind = "config"

    def as_python(self) -> str:
        return self.text

    def as_yaml(self, at: Sequence[str]) -> str:
        block = write_path(*at, "hub", "extraConfig", "spawner-tokens")
        return f"{block}: |\n" + "\n".join(f"  {line}" for line in self.text.splitlines())


@dataclass(frozen=True)
class Shell:
    """What to run on the Hub's host or in its image."""

    text: str

    kind = "shell"


@dataclass(frozen=True)
class Words:
    """What to do by hand; the text ends before a path in zero-to-jupyterhub's values, if there is one."""

    text: str
    path: tuple[str, ...] = ()

    kind = "words"


Fix = Setting | Code | Shell | Words


@dataclass(frozen=True)
class Finding:
    """``id`` is stable. ``what`` is wrong, ``why`` it matters, ``fix`` mends it: all of its parts together."""

    id: str
    level: Level
    what: str
    why: str = ""
    fix: tuple[Fix, ...] = ()

    def write_fix(self, at: Sequence[str] | None) -> list[tuple[str, str]]:
        """Kind and text of each part: ``config``, ``shell`` or ``words``.

        ``at`` is where zero-to-jupyterhub's values are in their file; ``None`` stands for a Python config.
        """
        return [_write(part, at) for part in self.fix]


def error(id: str, what: str, why: str, *fix: Fix) -> Finding:
    return Finding(id, Level.ERROR, what, why, fix)


def warning(id: str, what: str, why: str, *fix: Fix) -> Finding:
    return Finding(id, Level.WARNING, what, why, fix)


def _write(part: Fix, at: Sequence[str] | None) -> tuple[str, str]:
    if isinstance(part, Words) and part.path:
        return part.kind, f"{part.text} {write_path(*at or (), *part.path)}"
    if not isinstance(part, (Setting, Code)):
        return part.kind, part.text
    try:
        return part.kind, part.as_python() if at is None else part.as_yaml(at)
    except NotPlain:
        assert isinstance(part, Setting)
        return (
            Words.kind,
            f"change c.{'.'.join(part.path)} by hand: it has a value that cannot be printed",
        )


def write_path(*keys: str) -> str:
    """The dotted path to a key of YAML. One with a dot in it, or that YAML reads as something else, is quoted."""
    plain = [re.fullmatch(r"[\w-]+", key, re.ASCII) and yaml.safe_load(key) == key for key in keys]
    return ".".join(key if is_plain else json.dumps(key) for key, is_plain in zip(keys, plain))


class NotPlain(TypeError):
    """A value cannot be written as a literal: a function, say."""


def literal(value: Any) -> str:
    """A value as one writes it in Python, with double quotes. Raises :exc:`NotPlain`."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
        )
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(literal, value))) + "}" if value else "set()"
    if (
        value is None
        or type(value) in (bool, int)
        or (type(value) is float and math.isfinite(value))
    ):
        return repr(value)
    raise NotPlain(type(value).__name__)
