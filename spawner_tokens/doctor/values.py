"""Zero-to-jupyterhub's values, loaded as the chart does it."""

from __future__ import annotations

import glob
import linecache
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from jupyterhub.utils import url_path_join
from tornado.httpclient import AsyncHTTPClient
from traitlets.config import Config

from .finding import write_path
from .loading import LoadError, absent_variable, describe, is_block

# What the chart sets unless its values say otherwise.
_CHART = {
    "JupyterHub": {"authenticator_class": "dummy", "spawner_class": "kubespawner.KubeSpawner"},
    "KubeSpawner": {"common_labels": {}, "extra_labels": {}},
}


@dataclass(frozen=True)
class Values:
    """``at`` is their path in the file; ``absent`` are variables of the Hub's pod that are not known here.

    ``files`` are those of ``hub.extraFiles`` that the chart loads as configurations, which is not done here.
    """

    config: Config
    at: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


class AbsentError(LoadError):
    """The values cannot be loaded without variables of the Hub's pod: ``absent``."""

    def __init__(self, failure: LoadError, absent: Iterable[str]) -> None:
        super().__init__(str(failure), failure.error)
        self.absent = tuple(absent)


def load_values(path: str) -> Values:
    """What the chart makes of the values. Raises :exc:`LoadError`.

    A variable of the environment that is only in the Hub's pod has its own name for a value here.
    """
    values, at = _read(path)
    known = _list_variables(_mapping(values, "hub", path).get("extraEnv"))
    absent: list[str] = []
    while True:
        try:
            with _environment({**known, **{name: name for name in absent}}):
                return Values(_load(values, at), at, tuple(absent), tuple(_list_configs(values)))
        except LoadError as failure:
            if (name := absent_variable(failure.error)) and name not in absent:
                absent.append(name)
            elif absent:
                raise AbsentError(failure, absent) from None
            else:
                raise


def _read(path: str) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise LoadError(f"{path} is not in UTF-8") from None
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise LoadError(
            f"{path} is no YAML" + (f", line {mark.line + 1}" if mark else "")
        ) from None
    if (
        isinstance(values, Mapping)
        and "hub" not in values
        and isinstance(values.get("jupyterhub"), Mapping)
    ):
        return values["jupyterhub"], ("jupyterhub",)  # of a chart that has this one for a part
    return values, ()


def _list_configs(values: Mapping[str, Any]) -> Iterator[str]:
    files = _mapping(_mapping(values, "hub", "the file"), "extraFiles", "hub")
    for name in files:
        if "/jupyterhub_config.d/" in str(_mapping(files, name, "hub.extraFiles").get("mountPath")):
            yield write_path("hub", "extraFiles", str(name))


def _list_variables(variables: Any) -> dict[str, str]:
    """The variables of ``hub.extraEnv``, in one of its two forms, whose values are in the values."""
    if isinstance(variables, list):
        items = [(each.get("name"), each) for each in variables if isinstance(each, Mapping)]
    else:
        items = list(variables.items()) if isinstance(variables, Mapping) else []
    found = {
        name: value.get("value") if isinstance(value, Mapping) else value for name, value in items
    }
    return {str(name): value for name, value in found.items() if isinstance(value, str)}


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """With these variables, unless they are set. For ``hub.extraConfig`` one without a default has to be there."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)

    def get(name: str, default: Any = None) -> Any:
        caller = sys._getframe(1)
        if caller.f_globals is vars(os) and caller.f_back:  # os.getenv
            caller = caller.f_back
        is_needed = default is None and is_block(caller.f_code.co_filename)
        return os.environ[name] if is_needed else type(os.environ).get(os.environ, name, default)

    vars(os.environ)["get"] = get
    try:
        yield
    finally:
        del vars(os.environ)["get"]
        for name in added:
            os.environ.pop(name, None)


def _load(values: Mapping[str, Any], at: tuple[str, ...]) -> Config:
    hub, singleuser = (
        _mapping(values, "hub", "the file"),
        _mapping(values, "singleuser", "the file"),
    )
    config = Config()
    if roles := _mapping(hub, "loadRoles", "hub"):
        config.JupyterHub.load_roles = [
            {"name": key, **_mapping(roles, key, "hub.loadRoles")} for key in roles
        ]
    config.KubeSpawner.environment = dict(_mapping(singleuser, "extraEnv", "singleuser"))
    if profiles := singleuser.get("profileList"):
        config.KubeSpawner.profile_list = profiles
    for part in (_CHART, _mapping(hub, "config", "hub")):
        for section in part:
            if not isinstance(section, str):
                raise LoadError(
                    f"hub.config: a section's name is no text but {type(section).__name__}"
                )
            config[section].update(deepcopy(_mapping(part, section, "hub.config")))
    blocks = hub.get("extraConfig") or {}
    if isinstance(blocks, str):
        blocks = {"extraConfig": blocks}
    _run(_mapping({"extraConfig": blocks}, "extraConfig", "hub"), config, values, at)
    return config


def _mapping(node: Any, name: str, place: str) -> Mapping[str, Any]:
    """What a mapping has under a name: a mapping, too, or nothing."""
    found = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or not isinstance(found or {}, Mapping):
        raise LoadError(f"{place}: {name!r} is no mapping, as it is in zero-to-jupyterhub's values")
    return found or {}


def _run(
    blocks: Mapping[str, Any], config: Config, values: Mapping[str, Any], at: tuple[str, ...]
) -> None:
    """The chart's own configuration runs them in the order of their names, in its own namespace."""

    def get_config(key: str | None = None, default: Any = None) -> Any:
        if key is None:
            return config
        node: Any = values
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return default if node is None else node

    def set_config_if_not_none(section: Any, trait: str, key: str) -> None:
        if (value := get_config(key)) is not None:
            setattr(section, trait, value)

    # Those of the chart's module z2jh, which is only in its image. Names there have the release's name before them.
    chart = {
        "get_config": get_config,
        "set_config_if_not_none": set_config_if_not_none,
        "get_secret_value": get_config,
        "get_name": lambda name: name,
        "get_name_env": lambda name, suffix="": os.environ.get(
            name.upper().replace("-", "_") + suffix, ""
        ),
    }
    z2jh = ModuleType("z2jh")
    vars(z2jh).update(chart)
    namespace = {"c": config, "glob": glob, "os": os, "re": re, "sys": sys, **chart}
    namespace |= {"AsyncHTTPClient": AsyncHTTPClient, "url_path_join": url_path_join}
    namespace |= {
        "camelCaseify": lambda name: re.sub("_([a-z])", lambda match: match[1].upper(), name)
    }
    namespace |= {
        "configuration_directory": "/usr/local/etc/jupyterhub",
        "release": "release",
        "chart": "chart",
    }
    with suppress(ImportError):  # it comes with KubeSpawner
        namespace["client"] = import_module("kubernetes_asyncio.client")
    before = sys.modules.get("z2jh")
    sys.modules["z2jh"] = z2jh
    try:
        _run_blocks(blocks, namespace, at)
    finally:
        del sys.modules["z2jh"]
        if before is not None:
            sys.modules["z2jh"] = before


def _run_blocks(blocks: Mapping[str, Any], namespace: dict[str, Any], at: tuple[str, ...]) -> None:
    for name, code in sorted(blocks.items()):
        filename = f"<{write_path(*at, 'hub', 'extraConfig', str(name))}>"
        code = str(code)
        linecache.cache[filename] = (
            len(code),
            None,
            code.splitlines(True),
            filename,
        )  # for source.py
        try:
            with redirect_stdout(sys.stderr):
                exec(compile(code, filename, "exec"), namespace)
        except (Exception, SystemExit) as error:
            raise LoadError(describe(error), error) from None
