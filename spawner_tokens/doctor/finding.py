"""What the doctor finds, as data: a finding, its level, and the lines that mend it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


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

    def as_yaml(self) -> str:
        """For zero-to-jupyterhub's values, as one dotted path."""
        literal(self.value)  # what Python has no literal for, YAML has none for, either
        value = json.dumps(self.value, ensure_ascii=False, default=list)
        return f"hub.config.{'.'.join(self.path)}: {value}" + (f"  # {self.note}" if self.note else "")


@dataclass(frozen=True)
class Code:
    """Lines of a Python config; in zero-to-jupyterhub's values, they belong into ``hub.extraConfig``."""

    text: str

    kind = "config"

    def as_python(self) -> str:
        return self.text

    def as_yaml(self) -> str:
        return "hub.extraConfig.spawner-tokens: |\n" + "\n".join(f"  {line}" for line in self.text.splitlines())


@dataclass(frozen=True)
class Shell:
    """What to run on the Hub's host or in its image."""

    text: str

    kind = "shell"


@dataclass(frozen=True)
class Words:
    """What to do by hand."""

    text: str

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

    def write_fix(self, *, for_chart: bool) -> list[tuple[str, str]]:
        """Kind and text of each part: ``config``, ``shell`` or ``words``."""
        return [_write(part, for_chart) for part in self.fix]


def error(id: str, what: str, why: str, *fix: Fix) -> Finding:
    return Finding(id, Level.ERROR, what, why, fix)


def warning(id: str, what: str, why: str, *fix: Fix) -> Finding:
    return Finding(id, Level.WARNING, what, why, fix)


def _write(part: Fix, for_chart: bool) -> tuple[str, str]:
    if not isinstance(part, (Setting, Code)):
        return part.kind, part.text
    try:
        return part.kind, part.as_yaml() if for_chart else part.as_python()
    except NotPlain:
        assert isinstance(part, Setting)
        return Words.kind, f"change c.{'.'.join(part.path)} by hand: it has a value that cannot be printed"


class NotPlain(TypeError):
    """A value cannot be written as a literal: a function, say."""


def literal(value: Any) -> str:
    """A value as one writes it in Python, with double quotes. Raises :exc:`NotPlain`."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(literal, value))) + "}" if value else "set()"
    if value is None or type(value) in (bool, int) or (type(value) is float and math.isfinite(value)):
        return repr(value)
    raise NotPlain(type(value).__name__)
