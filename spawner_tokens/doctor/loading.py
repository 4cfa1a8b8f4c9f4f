"""A configuration, loaded as JupyterHub loads it, and the description of one that does not load."""

from __future__ import annotations

import io
import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import jupyterhub
import traitlets
from jupyterhub.app import JupyterHub
from traitlets import TraitError
from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound


class LoadError(Exception):
    """A configuration could not be loaded. The text says where, and shows no values."""


@contextmanager
def silenced() -> Iterator[None]:
    """The code inside prints, warns and logs nothing: its texts may hold secrets."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with (
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
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
            raise LoadError(describe(error)) from None
    config.merge(_load_options(options))
    return config


def _load_options(options: Sequence[str]) -> Config:
    try:
        with silenced():  # traitlets shows the values that it refuses
            app = JupyterHub()
            app._configure_logging = lambda: None  # an option may name a log file
            app.parse_command_line(list(options))
    except (Exception, SystemExit):
        app = None
    if app is None or app.extra_args:
        raise LoadError("JupyterHub does not accept the options after --")
    found: Config = app.cli_config
    return found


def describe(error: BaseException, config: Mapping[str, Any] | None = None) -> str:
    """What went wrong and where, with no value in it: ``KeyError: 'CLIENT_ID', line 12 of x.py``.

    A text is shown where it is made of names, by the kind of error or by who raised it, and
    without the secrets in ``config`` and the values of the environment.
    """
    calls = traceback.extract_tb(error.__traceback__)
    own = [call for call in calls if not is_library(call.filename)]
    is_compilers = isinstance(error, SyntaxError) and not own  # its text has the place
    text = ""
    if isinstance(error, KeyError):
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        # The NAME of os.environ["NAME"], unless it may be a value.
        if frame.f_globals is vars(os) and _VARIABLE.fullmatch(str(error.args[0])):
            text = repr(error.args[0])
    elif (
        is_compilers
        or isinstance(error, (ImportError, TraitError))
        or (calls and calls[-1].filename.startswith(_NAMES_ONLY))
    ):
        # traitlets ends with the value: "expected a list, not the str 'value'"
        text = re.sub(r"(?s), not the (\w+) .*|, but a value of .*", r", not a \1", str(error))
        text = re.sub(r"<([\w.]+) object at 0x[0-9a-f]+>", r"\1", text)
        if isinstance(error.__cause__, ImportError):  # of a class that could not be imported
            text += f" {error.__cause__}"
    words = type(error).__name__ + (f": {_mask(text, config or {})}" if text else "")
    return words + (f", line {own[-1].lineno} of {own[-1].filename}" if own else "")


def _mask(text: str, config: Mapping[str, Any]) -> str:
    """The text without the secrets in a config and in the environment."""
    try:
        secrets = {*_find_secrets(config), *_find_secrets(dict(os.environ), "key")}
    except RecursionError:  # something in the config contains itself
        return "…"
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= 6:  # a shorter one is a part of other words
            text = text.replace(secret, "…").replace(repr(secret)[1:-1], "…")
    return text


def _find_secrets(node: Any, name: str = "") -> Iterator[str]:
    """The texts under names such as ``client_secret``, ``keys`` and ``api_token``.

    A word or an address under ``claim_groups_key`` or ``api_token`` is not a secret.
    """
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _find_secrets(value, f"{name}.{key}".lower())
    elif isinstance(node, (list, tuple, set)):
        for value in node:
            yield from _find_secrets(value, name)
    elif isinstance(node, bytes) and re.search(r"secret|password|key|token", name):
        yield from (repr(node)[2:-1], node.hex(), node.decode(errors="replace"))
    elif isinstance(node, str):
        is_plain = re.fullmatch(r"[a-z_.]+|https?://[\w./-]+", node)
        is_named = re.search(r"(token|keys?|api_tokens)(\.|$)", name)
        if re.search("secret|password", name) or (is_named and not is_plain):
            yield node


_VARIABLE = re.compile("[A-Z]+([A-Z0-9]*_[A-Z0-9]+)*")
_OWN, _STDLIB, _TRAITLETS, _JUPYTERHUB = (
    os.path.join(os.path.dirname(os.path.abspath(str(path))), "")
    for path in (os.path.dirname(__file__), os.__file__, traitlets.__file__, jupyterhub.__file__)
)
_OAUTHENTICATOR = os.path.join(os.path.dirname(_JUPYTERHUB[:-1]), "oauthenticator", "")
# Packages whose errors are made of names.
_NAMES_ONLY = (_OWN, _TRAITLETS, _JUPYTERHUB, _OAUTHENTICATOR)


def is_library(filename: str) -> bool:
    """Whether a source file is not the admin's own."""
    return filename.startswith((*_NAMES_ONLY, _STDLIB, "<")) or "-packages/" in filename
