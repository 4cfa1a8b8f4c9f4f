"""Zero-to-jupyterhub's values: what of them is plain configuration."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from traitlets.config import Config

from .loading import LoadError

# What the chart sets unless its values say otherwise.
_CHART = {
    "JupyterHub": {"authenticator_class": "dummy", "spawner_class": "kubespawner.KubeSpawner"}
}
_CODE = ("extraConfig", "extraFiles")
_UNREAD = (*_CODE, "extraEnv", "loadRoles", "services")


@dataclass(frozen=True)
class Values:
    """``unread``: parts of ``hub`` that set more. ``has_code``: one of them may set anything."""

    config: Config
    unread: tuple[str, ...]
    has_code: bool


def load_values(path: str) -> Values:
    """Read ``hub.config``, ``singleuser.extraEnv`` and ``singleuser.profileList``.

    The values may stand under ``jupyterhub``, as in a chart that includes the Hub's.
    Raises :exc:`.loading.LoadError`.
    """
    values = _read(path)
    if isinstance(values, Mapping) and "hub" not in values and "jupyterhub" in values:
        values = values["jupyterhub"]
    hub, singleuser = _find(values, "hub"), _find(values, "singleuser")
    config = Config()
    config.KubeSpawner.environment = dict(_find(singleuser, "extraEnv"))
    if profiles := singleuser.get("profileList"):
        config.KubeSpawner.profile_list = profiles
    for sections in (_CHART, _find(hub, "config")):
        for section in sections:
            config[str(section)].update(deepcopy(_find(sections, section)))
    unread = tuple(f"hub.{name}" for name in _UNREAD if hub.get(name))
    return Values(config, unread, any(hub.get(name) for name in _CODE))


def _read(path: str) -> Any:
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise LoadError(f"{path} cannot be read: {type(error).__name__}{line}") from None


def _find(node: Any, name: str) -> Mapping[str, Any]:
    """What a mapping has under a name, which is a mapping too, or nothing."""
    found = (node.get(name) or {}) if isinstance(node, Mapping) else None
    if not isinstance(found, Mapping):
        raise LoadError(f"{name!r} is not a mapping, as in zero-to-jupyterhub's values")
    return found
