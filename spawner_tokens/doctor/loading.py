"""A configuration, loaded as JupyterHub does it from its Python or JSON file, and what is told of one that fails."""

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

# Errors whose texts are made of names, and so can be shown.
_NAMES_ONLY = (ImportError, TraitError)

# What is a variable's name and no value: GITHUB_CLIENT_ID.
_VARIABLE = re.compile(r"[A-Z]+|[A-Z][A-Z0-9]*(_[A-Z0-9]+)+")


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
            raise LoadError(describe(error), error) from None
    config.merge(_load_options(options))
    return config


def _load_options(options: Sequence[str]) -> Config:
    try:
        with unheard():  # traitlets shows the values that it does not take
            app = JupyterHub()
            app._configure_logging = lambda: None  # an option may name a log file
            app.parse_command_line(list(options))
    except (Exception, SystemExit):
        raise LoadError("the options after -- are not as JupyterHub takes them") from None
    if app.extra_args:
        raise LoadError("the options after -- are not as JupyterHub takes them")
    found: Config = app.cli_config
    return found


def describe(error: BaseException, config: Mapping[str, Any] | None = None) -> str:
    """What went wrong and where, with no value in it: ``KeyError: 'GITHUB_CLIENT_ID', line 12 of jupyterhub_config.py``.

    A text is shown where it is made of names, by what kind of error it is or who raised it, and without the secrets
    in ``config`` and the environment.
    """
    words = type(error).__name__
    calls = traceback.extract_tb(error.__traceback__)
    frames = [at for at in calls if not is_library(at.filename)]
    is_compilers = isinstance(error, SyntaxError) and not frames  # it has the place in it
    is_of_hub = (
        not isinstance(error, KeyError) and bool(calls) and calls[-1].filename.startswith(_TALKERS)
    )
    variable = absent_variable(error)
    if variable and len(variable) <= 40 and _mask(variable, config) == variable:
        words += f": {variable!r}"
    elif isinstance(error, _NAMES_ONLY) or is_compilers or is_of_hub:
        # traitlets ends with the value: "expected a list, not the str 'value'"
        text = re.sub(
            r", not the (\w+) .*|, but a value of .*", r", not a \1", str(error), flags=re.DOTALL
        )
        text = re.sub(r"<([\w.]+) object at 0x[0-9a-f]+>", r"\1", text)
        words += f": {_mask(text, config)}"
    if frames:
        words += f", line {frames[-1].lineno} of {frames[-1].filename}"
    return words


def absent_variable(error: BaseException | None) -> str | None:
    """The ``NAME`` of ``os.environ["NAME"]``, unless it looks like a value."""
    if not isinstance(error, KeyError):
        return None
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    name = str(error.args[0]) if frame.f_globals is vars(os) else ""
    return name if _VARIABLE.fullmatch(name) else None


def _mask(text: str, config: Mapping[str, Any] | None) -> str:
    """The text without the secrets in a config, and without all values of the environment."""
    values = [value for value in os.environ.values() if len(value) >= _SHORTEST]
    secrets = {*_find_secrets(config or {}), *values}
    for secret in sorted(
        {*secrets, *(repr(secret)[1:-1] for secret in secrets)}, key=len, reverse=True
    ):
        text = text.replace(secret, "…")
    return text


def _find_secrets(node: Any, is_secret: bool = False) -> Iterator[str]:
    """The texts under names such as ``client_secret``, ``keys`` and ``api_token``."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _find_secrets(
                value, is_secret or bool(re.search("secret|token|key|password", str(name)))
            )
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

_PACKAGES = tuple(
    os.path.dirname(os.path.abspath(str(module.__file__))) + os.sep
    for module in (os, traitlets, jupyterhub)
)
_TALKERS = (
    *_PACKAGES[1:],
    os.path.join(os.path.dirname(os.path.dirname(_PACKAGES[2])), "oauthenticator", ""),
)
_LIBRARIES = (*_PACKAGES, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)


def is_block(filename: str) -> bool:
    """Whether it is what values.py calls a block of ``hub.extraConfig``."""
    return filename.startswith("<") and "hub.extraConfig" in filename


def is_library(filename: str) -> bool:
    return not is_block(filename) and (
        filename.startswith((*_LIBRARIES, "<")) or "-packages/" in filename
    )
