"""The fields of a spec: how each is read, and the error where one is wrong."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from .lookup import Key, is_deliverable, is_token_key, names_refresh_token, split_scopes

POLICIES = ("refuse", "warn", "skip")
SHARED_POLICIES = ("withhold", "deliver", "refuse")

DEFAULT = object()  # of a field that can be null

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

# What JupyterHub, the shell, the loader and the interpreter read.
_RESERVED = re.compile(
    r"(JUPYTERHUB_|JPY_|LD_|DYLD_|GIT_CONFIG_|SPAWNER_TOKENS_|KUBERNETES_).*"
    r"|PATH|HOME|USER|LOGNAME|SHELL|PWD|IFS|ENV|BASH_ENV|TMPDIR|NB_(USER|UID|GID)"
    r"|PYTHON(PATH|HOME|STARTUP|USERBASE)|VIRTUAL_ENV|CONDA_(ROOT|DEFAULT_ENV)"
    r"|(MEM|CPU)_(LIMIT|GUARANTEE)|LANG|LC_[A-Z]+|JUPYTER_TOKEN"
)

_LONGEST_TIME = 1e12  # seconds
_DEEPEST = 100  # levels of a config


class SpecError(ValueError):
    """A wrong spec. The text names the entry, the field and what to do."""

    def __init__(self, name: object, field: str | None, problem: str):
        entry = f"tokens[{name!r}]" + (f".{field}" if field else "")
        super().__init__(f"{entry}: {problem}")
        self.name = str(name)


def make_file_env(name: str) -> str:
    """The variable for the path of a token's file, where none is given."""
    return re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_TOKEN_FILE"


def nearest(wrong: object, known: Iterable[str]) -> str:
    """What to say after the name of what is not known."""
    close = difflib.get_close_matches(str(wrong), known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return "; there are " + ", ".join(known)


@dataclass(frozen=True)
class FieldReader:
    """Reads the fields of one spec. A method raises :exc:`SpecError` if its field is wrong."""

    name: str
    fields: Mapping[str, Any]

    def expect(self, ok: object, field: str, problem: str) -> None:
        """Raise :exc:`SpecError` unless it is ``ok``."""
        if not ok:
            raise SpecError(self.name, field, problem)

    def check_variable(self, variable: str) -> None:
        """Check that a spec may set this variable."""
        field = self._find_field(variable)
        is_name = _VARIABLE.fullmatch(variable)
        rule = "use letters, digits and '_', and no digit first"
        self.expect(is_name, field, f"{variable!r} is not a name for a variable; {rule}")
        problem = f"the variable {variable} is reserved: JupyterHub or the system sets it"
        self.expect(not _RESERVED.fullmatch(variable), field, f"{problem}; choose another name")

    def _find_field(self, variable: str) -> str:
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
        parts = _split_base_url(value)
        problem = "has to be the http(s) base URL of the provider, as text"
        if parts is None:
            raise SpecError(self.name, field, f"it {problem}, without user name, '*' or query")
        port = {"http": ":80", "https": ":443"}[parts.scheme]
        return f"{parts.scheme}://{parts.netloc.lower().removesuffix(port)}{parts.path.rstrip('/')}"

    def boolean(self, field: str) -> bool:
        value: bool = self.fields[field]
        problem = f"has to be true or false, not {type(value).__name__}"
        self.expect(isinstance(value, bool), field, problem)
        return value

    def key(self, field: str, value: Any) -> Key:
        key: Key = value
        is_key = callable(value) or (isinstance(value, str) and value)
        self.expect(is_key, field, "has to be a dotted path into auth_state, or a callable of it")
        if isinstance(key, str):
            is_short = key.count(".") <= 100
            self.expect(is_short, field, "has more than 100 parts; auth_state is not that deep")
            problem = "the refresh token never leaves the Hub; ask for the access_token"
            self.expect(not names_refresh_token(key), field, problem)
        return key

    def texts(self, field: str) -> tuple[str, ...]:
        value = self.fields[field]
        if value is None:
            return ()
        texts = [value] if isinstance(value, str) else value
        is_list = isinstance(texts, (list, tuple, set, frozenset))
        ok = is_list and all(isinstance(text, str) and text for text in texts)
        self.expect(ok, field, "has to be a text or a list of texts")
        return tuple(texts)

    def names(self, field: str) -> tuple[str, ...]:
        return () if self.fields[field] == "" else self.texts(field)

    def scopes(self, field: str) -> tuple[str, ...]:
        return split_scopes(" ".join(self.texts(field)))

    def _variable(self, field: str) -> str | None:
        value: str = self.fields[field]
        if value is None or value == "":
            return None
        problem = "has to be the name of a variable, or null for none"
        self.expect(isinstance(value, str), field, problem)
        return value

    def file_env(self) -> str | None:
        if self.fields["file_env"] is not DEFAULT:
            return self._variable("file_env")
        default = make_file_env(self.name)
        problem = f"a variable cannot be called {default}, after the token's name; set this field"
        self.expect(not default[0].isdigit(), "file_env", problem)
        return default

    def config(self) -> Mapping[str, Any] | None:
        value: Mapping[str, Any] | None = self.fields["config"]
        if value is not None:
            problem = "has to be a dict of what JSON has: texts, numbers, true, false, null, lists"
            self.expect(_is_json_object(value), "config", problem)
        return value

    def config_env(self) -> str | None:
        value = self._variable("config_env")
        if value is not None:
            problem = "there is no config whose path it could get; add one, or remove this field"
            self.expect(self.fields["config"] is not None, "config_env", problem)
        return value

    def template(self) -> str:
        value: str = self.fields["template"]
        has_place = isinstance(value, str) and "{token}" in value
        self.expect(has_place, "template", "has to be a text with {token} in it")
        problem = "has a NUL byte or a lone surrogate, which cannot be delivered; remove it"
        self.expect(is_deliverable(value), "template", problem)
        return value

    def mapping(self, field: str) -> Mapping[str, Any]:
        value = self.fields[field]
        if value is None:
            return {}
        ok = isinstance(value, Mapping) and all(isinstance(variable, str) for variable in value)
        self.expect(ok, field, "has to be a dict with names of variables as keys")
        return dict(value)

    def _keys(self, field: str, problem: str) -> Mapping[str, Key]:
        """Name → key. ``problem``, for a key of a token, may have ``{name}`` and ``{key}``."""
        keys = {}
        for name, value in self.mapping(field).items():
            if value is not None and value is not False:
                entry = f"{field}[{name!r}]"
                keys[name] = self.key(entry, value)
                words = problem.format(name=name, key=value)
                self.expect(not is_token_key(value), entry, words)
        return keys

    def variables(self) -> Mapping[str, Key]:
        problem = "{key} is a token, not a companion value; make it a token of its own"
        return self._keys("variables", problem + " with env: {name}")

    def settings(self, url: str | None, from_preset: bool) -> Mapping[str, str]:
        settings = {}
        for variable, text in self.mapping("settings").items():
            if text is None or text is False:
                continue
            problem = "has to be a text without NUL bytes; put quotes around it"
            ok = isinstance(text, str) and is_deliverable(text)
            self.expect(ok, f"settings[{variable!r}]", problem)
            if from_preset and url:
                text = text.replace("{url}", url).replace("{host}", urlsplit(url).netloc)
            settings[variable] = text
        return settings

    def git(self, url: str | None, from_preset: bool) -> tuple[str, ...]:
        texts = self.names("git")
        if from_preset:
            if self.fields["template"] != "{token}":  # what is delivered is not a password then
                return ()
            texts = tuple(text.replace("{url}", url or "") for text in texts)
        return tuple(self._base_url("git", text) for text in texts)

    def git_username(self) -> str:
        value: str = self.fields["git_username"]
        problem = "has to be the user name that goes with the token, as text on one line"
        ok = isinstance(value, str) and value and value.isprintable()
        self.expect(ok, "git_username", problem)
        return value

    def git_identity(self) -> Mapping[str, Key]:
        value = self.fields["git_identity"]
        if value is None or value is False:
            return {}
        problem = 'has to be false, or keys of your auth_state: {"name": …, "email": …}'
        ok = isinstance(value, Mapping) and value.keys() <= {"name", "email"}
        self.expect(ok, "git_identity", problem)
        return self._keys("git_identity", "{key} is a token; name the key of the user's {name}")

    def policy(self, field: str, policies: Sequence[str]) -> str | None:
        value: str | None = self.fields[field]
        ok = value is None or value in policies
        self.expect(ok, field, f"has to be one of {', '.join(policies)}")
        return value

    def seconds(self, field: str) -> float | None:
        value = self.fields[field]
        if value is None:
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        ok = is_number and 0 <= value <= _LONGEST_TIME
        self.expect(ok, field, "has to be a number of seconds, 0 or more")
        return float(value)


def _split_base_url(value: Any) -> SplitResult | None:
    """The parts of a base URL; ``None`` if it is not one."""
    if not isinstance(value, str):
        return None
    try:
        parts = urlsplit(value)
        has_host = bool(parts.hostname and (parts.port or True))
    except ValueError:
        return None
    wrong = (
        parts.scheme not in ("http", "https"),
        not has_host,
        re.search(r"[@*]", parts.netloc),
        parts.query or parts.fragment,
        "//" in parts.path or "/." in parts.path,
        any(character.isspace() or not character.isprintable() for character in value),
    )
    return None if any(wrong) else parts


def _is_json_object(value: Any) -> bool:
    try:
        is_same = json.loads(json.dumps(value, allow_nan=False)) == value
    except (TypeError, ValueError, RecursionError):
        return False
    return isinstance(value, dict) and is_same and not _is_deep(value)


def _is_deep(node: Any) -> bool:
    """Whether lists and dicts are nested more than a hundred times."""
    level = [node]
    for _ in range(_DEEPEST):
        level = [child for each in level for child in _find_children(each)]
    return bool(level)


def _find_children(node: Any) -> Iterable[Any]:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
