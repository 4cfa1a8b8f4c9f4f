"""The fields of a spec: how each is read, and what is said of one that is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from .lookup import Key, is_deliverable, is_token_key, names_refresh_token, split_scopes

POLICIES = ("refuse", "warn", "skip")

DEFAULT = object()  # of a field whose null stands for none

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What JupyterHub, the shell, the loader and the interpreter read for themselves.
_RESERVED = re.compile(
    r"(JUPYTERHUB_|JPY_|LD_|DYLD_|GIT_CONFIG_|SPAWNER_TOKENS_|KUBERNETES_).*"
    r"|PATH|HOME|USER|LOGNAME|SHELL|PWD|IFS|ENV|BASH_ENV|TMPDIR|NB_(USER|UID|GID)"
    r"|PYTHON(PATH|HOME|STARTUP|USERBASE)|VIRTUAL_ENV|CONDA_(ROOT|DEFAULT_ENV)"
    r"|(MEM|CPU)_(LIMIT|GUARANTEE)|LANG|LC_[A-Z]+|JUPYTER_TOKEN"
)

_LONGEST_TIME = 1e12  # seconds


class SpecError(ValueError):
    """A spec that cannot be meant as it is written; the text names the entry, the field and the fix."""

    def __init__(self, name: object, field: str | None, problem: str):
        entry = f"tokens[{name!r}]" + (f".{field}" if field else "")
        super().__init__(f"{entry}: {problem}")
        self.name = str(name)


def _is_deep(node: Any) -> bool:
    """Whether what JSON has is nested more than a hundred times."""
    level = [node]
    for _ in range(100):
        level = [
            child for each in level if isinstance(each, (dict, list)) for child in _children(each)
        ]
    return bool(level)


def _children(node: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node


@dataclass(frozen=True)
class FieldReader:
    """Reads single fields of one entry, and says which one is wrong."""

    name: str
    fields: Mapping[str, Any]

    def error(self, field: str, problem: str) -> SpecError:
        return SpecError(self.name, field, problem)

    def check_variable(self, variable: str) -> None:
        """Raise :exc:`SpecError` unless a spec may set this variable."""
        if not _VARIABLE.fullmatch(variable):
            raise self.error(
                self._field_of(variable),
                f"{variable!r} is no name for a variable; use letters, digits and '_', no digit first",
            )
        if _RESERVED.fullmatch(variable):
            raise self.error(
                self._field_of(variable),
                f"the variable {variable} is reserved: JupyterHub or the system sets it; choose another name",
            )

    def _field_of(self, variable: str) -> str:
        claims = {
            "env": self.names("env"),
            "variables": self.variables(),
            "settings": self.mapping("settings"),
            "config_env": (self.fields["config_env"],),
        }
        return next((field for field, names in claims.items() if variable in names), "file_env")

    def url(self) -> str | None:
        value = self.fields["url"]
        return None if value is None else self._base_url("url", value)

    def _base_url(self, field: str, value: Any) -> str:
        problem = "it has to be the http(s) base URL of the provider, as text, without user name, '*' or query"
        try:
            parts = urlsplit(value) if isinstance(value, str) else None
            ok = (
                parts
                and parts.scheme in ("http", "https")
                and parts.hostname
                and (parts.port or True)
            )
        except ValueError:
            ok = False
        if (
            not ok
            or parts is None
            or re.search(r"[@*]", parts.netloc)
            or parts.query
            or parts.fragment
        ):
            raise self.error(field, problem)
        if "//" in parts.path or "/." in parts.path:
            raise self.error(field, problem)
        if any(character.isspace() or not character.isprintable() for character in value):
            raise self.error(field, problem)
        port = {"http": ":80", "https": ":443"}[parts.scheme]
        return f"{parts.scheme}://{parts.netloc.lower().removesuffix(port)}{parts.path.rstrip('/')}"

    def boolean(self, field: str) -> bool:
        value = self.fields[field]
        if not isinstance(value, bool):
            raise self.error(field, f"has to be true or false, not {type(value).__name__}")
        return value

    def key(self, field: str, value: Any) -> Key:
        if not callable(value) and not (isinstance(value, str) and value):
            raise self.error(field, "has to be a dotted path into auth_state, or a callable of it")
        key: Key = value
        if isinstance(key, str) and key.count(".") > 100:
            raise self.error(field, "has more than 100 parts; auth_state is not that deep")
        if isinstance(key, str) and names_refresh_token(key):
            raise self.error(
                field, "the refresh token never leaves the Hub; ask for the access_token"
            )
        return key

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.fields[field]
        if value is None:
            return ()
        if isinstance(value, str):
            value = [value]
        if not isinstance(value, (list, tuple, set, frozenset)) or not all(
            isinstance(text, str) and text for text in value
        ):
            raise self.error(field, "has to be a text or a list of texts")
        return tuple(value)

    def names(self, field: str) -> tuple[str, ...]:
        return () if self.fields[field] == "" else self.texts(field)

    def scopes(self, field: str) -> tuple[str, ...]:
        return split_scopes(" ".join(self.texts(field)))

    def file_env(self) -> str | None:
        value = self.fields["file_env"]
        if value is None or value == "":
            return None
        if value is not DEFAULT:
            if not isinstance(value, str):
                raise self.error("file_env", "has to be the name of a variable, or null for none")
            return value
        default = re.sub(r"[^A-Z0-9]", "_", self.name.upper()) + "_TOKEN_FILE"
        if default[0].isdigit():
            raise self.error(
                "file_env",
                f"a variable cannot be called {default}, after the token's name; set this field",
            )
        return default

    def config(self) -> Mapping[str, Any] | None:
        value: Mapping[str, Any] | None = self.fields["config"]
        if value is not None:
            try:
                ok = (
                    isinstance(value, dict)
                    and json.loads(json.dumps(value, allow_nan=False)) == value
                )
                ok = ok and not _is_deep(value)
            except (TypeError, ValueError, RecursionError):
                ok = False
            if not ok:
                raise self.error(
                    "config",
                    "has to be a dict of what JSON has: texts, numbers, true, false, null, lists",
                )
        return value

    def config_env(self) -> str | None:
        value = self.fields["config_env"]
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise self.error("config_env", "has to be the name of a variable, or null for none")
        if self.fields["config"] is None:
            raise self.error(
                "config_env",
                "there is no config whose path it could get; add one, or remove this field",
            )
        return value

    def template(self) -> str:
        value = self.fields["template"]
        if not isinstance(value, str) or "{token}" not in value:
            raise self.error("template", "has to be a text with {token} in it")
        if not is_deliverable(value):
            raise self.error(
                "template",
                "has a NUL byte or a lone surrogate, which cannot be delivered; remove it",
            )
        return value

    def mapping(self, field: str) -> Mapping[str, Any]:
        value = self.fields[field]
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(
            isinstance(variable, str) for variable in value
        ):
            raise self.error(field, "has to be a dict with names of variables as keys")
        return value

    def variables(self) -> Mapping[str, Key]:
        variables = {
            variable: self.key(f"variables[{variable!r}]", key)
            for variable, key in self.mapping("variables").items()
            if key is not None
        }
        for variable, key in variables.items():
            if is_token_key(key):
                raise self.error(
                    f"variables[{variable!r}]",
                    f"{key} is a token, not a companion value; make it a token of its own with env: {variable}",
                )
        return variables

    def settings(self, url: str | None, from_preset: bool) -> Mapping[str, str]:
        settings = {}
        for variable, text in self.mapping("settings").items():
            if text is None:
                continue
            if not isinstance(text, str) or not is_deliverable(text):
                raise self.error(
                    f"settings[{variable!r}]",
                    "has to be a text without NUL bytes; put quotes around it",
                )
            if from_preset and url:
                text = text.replace("{url}", url).replace("{host}", urlsplit(url).netloc)
            settings[variable] = text
        return settings

    def git(self, url: str | None, from_preset: bool) -> tuple[str, ...]:
        texts = self.names("git")
        if from_preset:
            if self.fields["template"] != "{token}":  # what is delivered is no password then
                return ()
            texts = tuple(text.replace("{url}", url or "") for text in texts)
        return tuple(self._base_url("git", text) for text in texts)

    def git_username(self) -> str:
        value = self.fields["git_username"]
        if not isinstance(value, str) or not value or not value.isprintable():
            raise self.error(
                "git_username",
                "has to be the user name that goes with the token, as text on one line",
            )
        return value

    def git_identity(self) -> Mapping[str, Key]:
        value = self.fields["git_identity"]
        if value is None or value is False:
            return {}
        if not isinstance(value, Mapping) or not value.keys() <= {"name", "email"}:
            raise self.error(
                "git_identity",
                'has to be false, or keys of your auth_state: {"name": …, "email": …}',
            )
        identity = {
            name: self.key(f"git_identity[{name!r}]", key)
            for name, key in value.items()
            if key is not None
        }
        for name, key in identity.items():
            if is_token_key(key):
                raise self.error(
                    f"git_identity[{name!r}]",
                    f"{key} is a token; name the key of the user's {name}",
                )
        return identity

    def policy(self) -> str | None:
        value: str | None = self.fields["missing"]
        if value is not None and value not in POLICIES:
            raise self.error("missing", f"has to be one of {', '.join(POLICIES)}")
        return value

    def seconds(self, field: str) -> float | None:
        value = self.fields[field]
        if value is None:
            return None
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value <= _LONGEST_TIME
        ):
            raise self.error(field, "has to be a number of seconds, 0 or more")
        return float(value)
