"""What the doctor finds, as data: a finding, its level, and the lines that mend it."""

from __future__ import annotations

import json
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
        value = json.dumps(self.value, ensure_ascii=False)
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
        return [(part.kind, _write(part, for_chart)) for part in self.fix]


def error(id: str, what: str, why: str, *fix: Fix) -> Finding:
    return Finding(id, Level.ERROR, what, why, fix)


def warning(id: str, what: str, why: str, *fix: Fix) -> Finding:
    return Finding(id, Level.WARNING, what, why, fix)


def _write(part: Fix, for_chart: bool) -> str:
    if isinstance(part, (Setting, Code)):
        return part.as_yaml() if for_chart else part.as_python()
    return part.text


def literal(value: Any) -> str:
    """A value as one writes it in Python, with double quotes."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(key)}: {literal(each)}" for key, each in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)
