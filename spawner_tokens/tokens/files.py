"""The files and variables that a server gets for its tokens. Pure builders."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from .fields import make_file_env
from .git import make_system_config
from .selection import Reason, Token
from .spec import TokenSpec

# The one file that is not a secret. All users of the server's system have to be able to read it:
# git refuses to work if it cannot read a file that its configuration names.
PUBLIC_FILE = ".gitconfig"

# The address at which a server asks for its tokens, after its JUPYTERHUB_API_URL.
PULL_PATH = "spawner-tokens"

_PLACE = re.compile(r"\{(\w+)\}")
_LEFT_OUT = object()


def make_files(
    tokens: Sequence[Token],
    directory: str,
    *,
    public: bool = False,
    variables: bool = False,
    login_ended: bool = False,
) -> dict[str, bytes | None]:
    """File name → contents, or ``None`` for a file that is not there, since its token is withheld.

    ``<name>`` is the token, ``<name>.json`` is never a secret, ``<name>.config.json`` is the spec's
    ``config``. ``directory`` is where the server sees the files. With ``public``,
    :data:`PUBLIC_FILE` is among them. With ``variables``, so is the text of variables that get a
    token, by :func:`name_variable_file`: empty if the token is withheld.
    """
    files: dict[str, bytes | None] = {}
    if public:
        files[PUBLIC_FILE] = make_system_config(tokens)
    for token in tokens:
        if token.spec.file:
            files[token.spec.name] = None if token.text is None else token.text.encode()
            files[f"{token.spec.name}.json"] = make_status(token, login_ended)
        if token.spec.config is not None:
            config = None if token.text is None else make_config(token, directory)
            files[_name_config(token)] = config
        if variables and token.spec.env:
            files[name_variable_file(token.spec.name)] = (token.text or "").encode()
    return files


def name_variable_file(token: str) -> str:
    """The file with the text of a token's variables. Other files cannot have its name."""
    return f".env.{token}"


def make_config(token: Token, directory: str) -> bytes:
    """The spec's ``config`` as JSON, with the token's path and companions, and never the token."""
    values = {**token.companions, "file": f"{directory}/{token.spec.name}"}
    return json.dumps(_fill(token.spec.config, values), indent=2).encode() + b"\n"


def _name_config(token: Token) -> str:
    return f"{token.spec.name}.config.json"


def _fill(node: Any, values: Mapping[str, str]) -> Any:
    """Replace ``{name}`` in all texts. A text with the name of a missing value is left out."""
    if isinstance(node, str):
        if not all(name in values for name in _PLACE.findall(node)):
            return _LEFT_OUT
        return _PLACE.sub(lambda match: values[match[1]], node)
    if isinstance(node, Mapping):
        filled = {key: _fill(value, values) for key, value in node.items()}
        return {key: value for key, value in filled.items() if value is not _LEFT_OUT}
    if isinstance(node, list):
        return [value for value in (_fill(each, values) for each in node) if value is not _LEFT_OUT]
    return node


def make_status(token: Token, login_ended: bool = False) -> bytes:
    """The contents of ``<name>.json``: what a notebook may know of a token.

    ``expires_at`` and ``renewed_at`` are ISO 8601 in UTC, ``scopes`` is a list; each is null where
    it is not known.
    ``status`` is ``ok`` or a value of :class:`~spawner_tokens.tokens.selection.Reason`:
    ``login_ended`` for a token with an end, if the provider has ended the login.
    """
    ends = token.text is not None and token.lifetime.expires_at is not None
    reason = Reason.LOGIN_ENDED if login_ended and ends else token.reason
    status = {
        "expires_at": make_time(token.lifetime.expires_at),
        "renewed_at": make_time(token.lifetime.issued_at),
        "scopes": None if token.scopes is None else list(token.scopes),
        "status": reason.value if reason else "ok",
    }
    return json.dumps(status, indent=2).encode() + b"\n"


def make_time(seconds: float | None) -> str | None:
    """ISO 8601, of seconds since the epoch; ``None`` of ``None``."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_env(
    tokens: Iterable[Token], directory: str | None, public: str | None = None
) -> dict[str, str]:
    """Variable → text.

    ``directory`` is where the server sees its files, ``public`` where it sees the public one;
    ``None`` if it got none.
    """
    env = {}
    if directory is not None:
        env["SPAWNER_TOKENS_DIR"] = directory
    if public is not None:
        env["GIT_CONFIG_SYSTEM"] = public
    for token in tokens:
        if token.text is None:
            continue
        env.update(token.companions)
        env.update(dict.fromkeys(token.spec.env, token.text))
        if directory is not None and token.spec.file and token.spec.file_env:
            env[token.spec.file_env] = f"{directory}/{token.spec.name}"
        if directory is not None and token.spec.config_env:
            env[token.spec.config_env] = f"{directory}/{_name_config(token)}"
    return env


def make_programs_env(
    specs: Iterable[TokenSpec], api_url: str | None, admins: Collection[str] = ()
) -> dict[str, str]:
    """What programs in the server have to know of its tokens: which variables there are for each.

    ``api_url``: the Hub's, as the server sees it, if the server may ask there for its tokens.
    ``admins``: the variables that the admin sets, which are not for tokens.
    """
    variables = {}
    for spec in specs:
        # one that it pulls has a file, too
        path = spec.file_env or (None if spec.file else make_file_env(spec.name))
        env = [each for each in spec.env if each not in admins]
        variables[spec.name] = {"env": env, "file_env": None if path in admins else path}
    found = {"SPAWNER_TOKENS_VARIABLES": json.dumps(variables)} if variables else {}
    if variables and api_url is not None:
        found["SPAWNER_TOKENS_URL"] = f"{api_url.rstrip('/')}/{PULL_PATH}"
    return found
