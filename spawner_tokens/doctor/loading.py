"""A configuration, loaded as JupyterHub does it: from its Python or JSON file, or from the chart's values."""

from __future__ import annotations

import io
import linecache
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

import jupyterhub
import traitlets
import yaml
from jupyterhub.app import JupyterHub
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound

# What the chart sets unless its values say otherwise.
_CHART = {"JupyterHub": {"authenticator_class": "dummy", "spawner_class": "kubespawner.KubeSpawner"}}

# Errors whose texts are made of names, and so can be shown.
_NAMES_ONLY = (NameError, ImportError, TraitError)

# What is a setting's name and no value: GITHUB_CLIENT_ID, client_id, GitLabOAuthenticator.
_NAME = re.compile(r"[A-Z]+(_[A-Z0-9]+)*|[a-z]+(_[a-z]+)*|([A-Z]+[a-z]+)+")


class LoadError(Exception):
    """A configuration could not be loaded. The text says where, and shows no values."""

    def __init__(self, words: str, error: BaseException | None = None) -> None:
        super().__init__(words)
        self.error = error


@contextmanager
def unheard() -> Iterator[None]:
    """What runs inside neither prints, warns nor logs: of what is told there, nobody knows what it shows."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def load_file(path: str, options: Sequence[str] = ()) -> Config:
    """A config file, found and run as by ``jupyterhub -f``. Raises :exc:`LoadError`.

    ``options`` are those of the Hub's command line, which win: ``--JupyterHub.db_url=…``.
    """
    if not os.path.isfile(path):
        raise LoadError(f"there is no file {path}")
    stem = os.path.splitext(path)[0]  # as traitlets does it
    config = Config()
    for loader_class, extension in (
        (JupyterHub.python_config_loader_class, ".py"),
        (JupyterHub.json_config_loader_class, ".json"),
    ):
        try:
            with redirect_stdout(sys.stderr):
                config.merge(loader_class(stem + extension, path=None).load_config())
        except ConfigFileNotFound:
            continue
        except (Exception, SystemExit) as error:
            raise LoadError(describe(error), error) from None
    config.merge(_load_options(options))
    return config


def _load_options(options: Sequence[str]) -> Config:
    try:
        with unheard():  # traitlets shows the values that it does not take
            app = JupyterHub()
            app.parse_command_line(list(options))
    except (Exception, SystemExit):
        raise LoadError("the options after -- are not as JupyterHub takes them") from None
    if app.extra_args:
        raise LoadError("the options after -- are not as JupyterHub takes them")
    found: Config = app.cli_config
    return found


def load_values(path: str) -> Config:
    """``hub.config`` and ``hub.extraConfig`` of zero-to-jupyterhub's values. Raises :exc:`LoadError`."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise LoadError(f"{path} is not in UTF-8") from None
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise LoadError(f"{path} is no YAML" + (f", line {mark.line + 1}" if mark else "")) from None
    if isinstance(values, Mapping) and "hub" not in values and isinstance(values.get("jupyterhub"), Mapping):
        values = values["jupyterhub"]  # of a chart that has this one for a part
    hub = _mapping(values, "hub", path)
    config = Config()
    if roles := _mapping(hub, "loadRoles", "hub"):
        config.JupyterHub.load_roles = [{"name": key, **_mapping(roles, key, "hub.loadRoles")} for key in roles]
    if variables := _mapping(values.get("singleuser") or {}, "extraEnv", "singleuser"):
        config.KubeSpawner.environment = dict(variables)
    for part in (_CHART, _mapping(hub, "config", "hub")):
        for section in part:
            if not isinstance(section, str):
                raise LoadError(f"hub.config: a section's name is no text but {type(section).__name__}")
            config[section].update(_mapping(part, section, "hub.config"))
    blocks = hub.get("extraConfig") or {}
    if isinstance(blocks, str):
        blocks = {"extraConfig": blocks}
    _run(_mapping({"extraConfig": blocks}, "extraConfig", "hub"), config, values)
    return config


def _mapping(node: Any, name: str, place: str) -> Mapping[str, Any]:
    """What a mapping has under a name: a mapping, too, or nothing."""
    found = node.get(name) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or not isinstance(found or {}, Mapping):
        raise LoadError(f"{place}: {name!r} is no mapping, as it is in zero-to-jupyterhub's values")
    return found or {}


def _run(blocks: Mapping[str, Any], config: Config, values: Mapping[str, Any]) -> None:
    """The chart's own configuration runs them in the order of their names, in one namespace with these functions."""

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
        "get_name_env": lambda name, suffix="": os.environ.get(name.upper().replace("-", "_") + suffix, ""),
    }
    z2jh = ModuleType("z2jh")
    vars(z2jh).update(chart)
    namespace = {"c": config, "os": os, "re": re, "sys": sys, **chart}
    before = sys.modules.get("z2jh")
    sys.modules["z2jh"] = z2jh
    try:
        _run_blocks(blocks, namespace)
    finally:
        del sys.modules["z2jh"]
        if before is not None:
            sys.modules["z2jh"] = before


def _run_blocks(blocks: Mapping[str, Any], namespace: dict[str, Any]) -> None:
    for name, code in sorted(blocks.items()):
        filename = f"<hub.extraConfig.{name}>"
        code = str(code)
        linecache.cache[filename] = (len(code), None, code.splitlines(True), filename)  # for inspect.getsource
        try:
            with redirect_stdout(sys.stderr):
                exec(compile(code, filename, "exec"), namespace)
        except (Exception, SystemExit) as error:
            raise LoadError(describe(error), error) from None


def describe(error: BaseException, config: Mapping[str, Any] | None = None) -> str:
    """What went wrong and where, with no value in it: ``KeyError: 'GITHUB_CLIENT_ID', line 12 of jupyterhub_config.py``.

    A text is shown where it is made of names, by what kind of error it is or who raised it, and without the secrets
    in ``config`` and the environment.
    """
    words = type(error).__name__
    calls = traceback.extract_tb(error.__traceback__)
    frames = [at for at in calls if not is_library(at.filename)]
    is_compilers = isinstance(error, SyntaxError) and not frames  # it has the place in it
    is_of_hub = bool(calls) and calls[-1].filename.startswith(_TALKERS)
    if isinstance(error, KeyError):
        key = error.args[0] if error.args else None
        if isinstance(key, str) and len(key) <= 40 and _NAME.fullmatch(key) and _mask(key, config) == key:
            words += f": {key!r}"
    elif isinstance(error, _NAMES_ONLY) or is_compilers or is_of_hub:
        # traitlets ends with the value: "expected a list, not the str 'value'"
        text = re.sub(r", not the (\w+) .*|, but a value of .*", r", not a \1", str(error), flags=re.DOTALL)
        text = re.sub(r"<([\w.]+) object at 0x[0-9a-f]+>", r"\1", text)
        words += f": {_mask(text, config)}"
    if frames:
        words += f", line {frames[-1].lineno} of {frames[-1].filename}"
    return words


def _mask(text: str, config: Mapping[str, Any] | None) -> str:
    """The text without the secrets in a config, and without all values of the environment."""
    values = [value for value in os.environ.values() if len(value) >= _SHORTEST]
    secrets = {*_find_secrets(config or {}), *values}
    for secret in sorted({*secrets, *(repr(secret)[1:-1] for secret in secrets)}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return text


def _find_secrets(node: Any, is_secret: bool = False) -> Iterator[str]:
    """The texts under names such as ``client_secret``, ``keys`` and ``api_token``."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _find_secrets(value, is_secret or bool(re.search("secret|token|key|password", str(name))))
    elif isinstance(node, (list, tuple, set)):
        for value in node:
            yield from _find_secrets(value, is_secret)
    elif is_secret and isinstance(node, (str, bytes)) and len(node) >= _SHORTEST:
        if isinstance(node, bytes):
            yield repr(node)[2:-1]
            yield node.hex()
            node = node.decode(errors="replace")
        yield node


_SHORTEST = 6  # characters of a secret: less is a part of other words

_PACKAGES = tuple(os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep for module in (os, traitlets, jupyterhub))
_TALKERS = (*_PACKAGES[1:], os.path.join(os.path.dirname(os.path.dirname(_PACKAGES[2])), "oauthenticator", ""))
_LIBRARIES = (*_PACKAGES, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)


def is_library(filename: str) -> bool:
    is_ours = filename.startswith("<hub.")
    return not is_ours and (filename.startswith((*_LIBRARIES, "<")) or "-packages/" in filename)
