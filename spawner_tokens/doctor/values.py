"""Zero-to-jupyterhub's values: what of them is plain configuration."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from traitlets.config import Config

from .loading import LoadError

# What the chart sets unless its values say otherwise.
_CHART = {
    "JupyterHub": {"authenticator_class": "dummy", "spawner_class": "kubespawner.KubeSpawner"}
}
# Parts of ``hub`` that set more.
_UNREAD = ("extraConfig", "extraFiles", "extraEnv", "loadRoles", "services")


def load_values(path: str) -> tuple[Config, list[str]]:
    """Read ``hub.config``, ``singleuser.extraEnv`` and ``singleuser.profileList``.

    The values may stand under ``jupyterhub``, as in a chart that includes the Hub's. Returns the
    config, and which parts of the values set more. Raises :exc:`.loading.LoadError`.
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
    return config, [f"hub.{name}" for name in _UNREAD if hub.get(name)]


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
