"""Zero-to-jupyterhub's values: what of them is plain configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from functools import reduce
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
_UNREAD = ("existingSecret", "extraConfig", "extraEnv", "extraFiles", "loadRoles", "services")


def load_values(paths: Sequence[str]) -> tuple[Config, set[str], list[str]]:
    """Read ``hub.config``, ``singleuser.extraEnv`` and ``singleuser.profileList`` of these files.

    They are merged as helm does it. The values of the Hub's chart may stand at any depth, as in
    those of a chart that includes it, or in Flux' HelmRelease. Returns the config, which traits the
    values set, and which of their parts set more. Raises :exc:`.loading.LoadError`.
    """
    documents = [document for path in paths for document in _read(path)]
    merged: dict[str, Any] = reduce(_merge, documents, {})
    hubs = dict(_find_hubs(merged))
    if not hubs:
        raise LoadError(f"no hub is in {', '.join(paths)}, at any depth")
    place, values = next(iter(hubs.items()))
    hub, singleuser = _find(values, "hub"), _find(values, "singleuser")
    config = Config()
    config.KubeSpawner.environment = dict(_find(singleuser, "extraEnv"))
    if profiles := singleuser.get("profileList"):
        config.KubeSpawner.profile_list = profiles
    given = _find(hub, "config")
    sections = _merge(_CHART, given)
    for section in sections:
        if str(section).startswith("_"):
            raise LoadError(f"{section!r} is not the name of a class, in hub.config")
        config[str(section)].update(deepcopy(_find(sections, section)))
    unread = [f"{place}hub.{name}" for name in _UNREAD if hub.get(name)]
    traits = {trait for section in given for trait in _find(given, section)}
    return config, traits, [*unread, *(f"{other}hub" for other in hubs if other != place)]


def _read(path: str) -> list[Any]:
    try:
        documents = list(yaml.safe_load_all(Path(path).read_text(encoding="utf-8")))
        json.dumps(documents, default=str, skipkeys=True, check_circular=False)
    except RecursionError:
        why = "something in it contains itself, or is nested too deep"
        raise LoadError(f"{path} cannot be read: {why}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # a date may be wrong
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise LoadError(f"{path} cannot be read: {type(error).__name__}{line}") from None
    return [each for each in documents if isinstance(each, Mapping)]


def _merge(node: Any, over: Any) -> Any:
    """Maps are merged by key, all else is replaced, and a null deletes what was there."""
    if not isinstance(node, Mapping) or not isinstance(over, Mapping):
        return over
    merged = {**node, **{key: _merge(node.get(key), over[key]) for key in over}}
    return {key: merged[key] for key in merged if key not in node or merged[key] is not None}


def _find_hubs(node: Any, place: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The values of the Hub's charts, and where they are: ``basehub.jupyterhub.``."""
    if isinstance(node, Mapping):
        if any(isinstance(node.get(name), Mapping) for name in ("hub", "singleuser")):
            yield place, node
        else:
            for key, value in node.items():
                yield from _find_hubs(value, f"{place}{key}.")


def _find(node: Mapping[Any, Any], name: str) -> Mapping[str, Any]:
    """What a mapping has under a name, which is a mapping too, or nothing."""
    found = node.get(name) or {}
    if not isinstance(found, Mapping):
        raise LoadError(f"{name!r} is not a mapping, as in zero-to-jupyterhub's values")
    return found
