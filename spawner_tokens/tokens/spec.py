"""The declaration: a token's spec, read and checked once, with its preset merged in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .exchange import Exchange, read_exchange
from .fields import DEFAULT, POLICIES, SHARED_POLICIES, FieldReader, SpecError, nearest
from .lookup import Key
from .presets import PRESETS

_NAME = re.compile(r"[a-z0-9]([-a-z0-9_.]*[a-z0-9])?")


@dataclass(frozen=True)
class TokenSpec:
    """One token: where it comes from, where it goes, and what it has to be.

    With ``exchange``, it is what the provider gives for the token that ``key`` finds.
    ``missing``, ``min_lifetime`` (seconds) and ``shared`` are ``None`` where the spawner's traits
    decide.
    """

    name: str
    url: str | None
    key: Key
    exchange: Exchange | None
    env: tuple[str, ...]
    file: bool
    file_env: str | None
    template: str
    variables: Mapping[str, Key]
    settings: Mapping[str, str]
    config: Mapping[str, Any] | None
    config_env: str | None
    git: tuple[str, ...]
    git_username: str
    git_identity: Mapping[str, Key]
    missing: str | None
    min_lifetime: float | None
    required_scopes: tuple[str, ...]
    forbidden_scopes: tuple[str, ...]
    shared: str | None

    def render(self, value: str) -> str:
        """The token as it is delivered, by ``template``."""
        return self.template.replace("{token}", value)

    def find_min_lifetime(self, default: float) -> float:
        """Seconds that it has to live. ``default``: the trait's, for a spec that names none."""
        return default if self.min_lifetime is None else self.min_lifetime

    @property
    def claims(self) -> list[str]:
        """Every variable that this token may set."""
        paths = [variable for variable in (self.file_env, self.config_env) if variable]
        return [*self.env, *paths, *self.variables, *self.settings]


_DEFAULTS: Mapping[str, Any] = {
    "preset": None,
    "url": None,
    "key": "access_token",
    "exchange": None,
    "env": (),
    "file": None,
    "file_env": DEFAULT,
    "template": "{token}",
    "variables": {},
    "settings": {},
    "config": None,
    "config_env": None,
    "git": (),
    "git_username": "oauth2",
    "git_identity": False,
    "missing": None,
    "min_lifetime": None,
    "required_scopes": (),
    "forbidden_scopes": (),
    "shared": None,
}

_NULLABLE = {
    *("env", "exchange", "file_env", "variables", "settings", "config", "config_env", "git")
}


def parse_tokens(
    tokens: Mapping[str, Any], *, files: bool, pull: bool = False
) -> tuple[TokenSpec, ...]:
    """Read the ``tokens`` trait: token name → spec.

    ``files`` says whether the spawner can deliver files, ``pull`` whether servers may ask the Hub,
    and so need none. Raises :exc:`SpecError`.
    """
    if not isinstance(tokens, Mapping):
        raise SpecError("…", None, "tokens is a dict of token name → spec")
    options = {"files": files, "pull": pull}
    parsed = {name: parse_token(name, spec, **options) for name, spec in tokens.items()}
    specs = tuple(link(spec, parsed) for spec in parsed.values())
    owners: dict[str, str] = {}
    for spec in specs:
        for variable in spec.claims:
            if variable in owners:
                other = owners[variable]
                clash = "this spec twice" if other == spec.name else f"tokens[{other!r}] too"
                fix = "give one of them another name, or set that field to null"
                problem = f"the variable {variable} is claimed by {clash}; {fix}"
                raise SpecError(spec.name, None, problem)
            owners[variable] = spec.name
    _check_git(specs)
    return specs


def link(spec: TokenSpec, specs: Mapping[str, TokenSpec]) -> TokenSpec:
    """The spec with the ``key`` of the token that its exchange is ``of``.

    ``specs``: all that are declared, by their names. Raises :exc:`SpecError`.
    """
    exchange = spec.exchange
    if exchange is None or exchange.of is None:
        return spec
    other, problem = specs.get(exchange.of), ""
    if other is None:
        problem = f"no token is called {exchange.of!r}{nearest(exchange.of, specs)}"
    elif other.exchange is not None and other.exchange.of is not None:
        what = "itself" if other is spec else f"{exchange.of!r}, which is of another one itself"
        problem = f"it is of {what}; name a token of the login, or one that is exchanged for it"
    if other is None or problem:
        raise SpecError(spec.name, "exchange.of", problem)
    return replace(spec, key=other.key, exchange=replace(exchange, first=other.exchange))


def _check_git(specs: Iterable[TokenSpec]) -> None:
    owners: dict[str, str] = {}
    for spec in specs:
        for url in spec.git:
            if (other := owners.setdefault(url, spec.name)) != spec.name:
                raise SpecError(
                    spec.name,
                    "git",
                    f"git uses tokens[{other!r}] for {url} already; set git to null in one of them",
                )


def parse_token(name: str, fields: Any, *, files: bool, pull: bool = False) -> TokenSpec:
    """Read one entry of the ``tokens`` trait: see :func:`parse_tokens`."""
    _check_name(name)
    _check_shape(name, fields)
    given = {field: value for field, value in fields.items() if field != "url" or value is not None}
    # For JupyterHub, null in an override is as not given: so false says that there is to be none.
    given |= {field: None for field in _NULLABLE if given.get(field) is False}
    preset = _find_preset(name, given)
    merged = {**_DEFAULTS, **preset, **given}
    if merged["git_identity"] is True:
        merged["git_identity"] = preset.get("git_identity", True)
    read = FieldReader(name, merged)
    url = read.url()
    file = files if merged["file"] is None else read.boolean("file") and (files or not pull)
    has_path = file or merged["file_env"] is not DEFAULT  # what keeps it in the server has a file
    spec = TokenSpec(
        name=name,
        url=url,
        key=read.key("key", merged["key"]),
        exchange=read_exchange(name, merged, fields),
        env=read.names("env"),
        file=file,
        file_env=read.file_env() if has_path else None,
        template=read.template(),
        variables=read.variables(),
        settings=read.settings(url, "settings" not in fields),
        config=read.config(),
        config_env=read.config_env(),
        git=read.git(url, "git" not in fields),
        git_username=read.git_username(),
        git_identity=read.git_identity(),
        missing=read.policy("missing", POLICIES),
        min_lifetime=read.seconds("min_lifetime"),
        required_scopes=read.scopes("required_scopes"),
        forbidden_scopes=read.scopes("forbidden_scopes"),
        shared=read.policy("shared", SHARED_POLICIES),
    )
    _check_fields(spec, read, files, pull)
    _check_preset(spec, merged["preset"], preset)
    return spec


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 200:
        rule = (
            "a name is a file name and a Secret key: lower-case letters, digits, '-', '_' and '.', "
            "a letter or digit at both ends, at most 200 characters"
        )
        raise SpecError(name, None, rule)
    if name.endswith((".json", ".config")):
        rule = "a name cannot end in .json or .config, which are the ends of the files beside it"
        raise SpecError(name, None, rule)


def _check_shape(name: str, fields: Any) -> None:
    if not isinstance(fields, Mapping):
        raise SpecError(name, None, f"a spec is a dict of fields, not {type(fields).__name__}")
    for field in fields:
        if field not in _DEFAULTS:
            raise SpecError(name, str(field), f"unknown field{nearest(field, _DEFAULTS)}")


def _check_fields(spec: TokenSpec, read: FieldReader, files: bool, pull: bool) -> None:
    """Check those fields that depend on each other, and the names of variables."""
    problem = (
        "this spawner class cannot deliver files; use a class that can (LocalTokenMixin for local "
        "processes, DockerTokenMixin for containers), or a spec that needs none"
    )
    read.expect(files or not spec.file, "file", problem)
    problem = "it is about the token's file, and there is none; deliver one, or remove it"
    read.expect(spec.file or spec.config is None, "config", problem)
    both = ", ".join(scope for scope in spec.required_scopes if scope in spec.forbidden_scopes)
    problem = f"forbidden_scopes has {both} too; remove it from one of them"
    read.expect(not both, "required_scopes", problem)
    problem = "nothing would be delivered; name a variable for the token"
    read.expect(spec.env or spec.file or pull, "env", problem)
    for variable in spec.claims:
        read.check_variable(variable)


def _check_preset(spec: TokenSpec, name: str, preset: Mapping[str, Any]) -> None:
    """Check that the settings that the preset needs are there."""
    for variable, text in preset.get("settings", {}).items():
        if text is None and variable not in spec.variables and not spec.settings.get(variable):
            problem = f"the preset {name} needs it; add settings: {{{variable!r}: …}}"
            raise SpecError(spec.name, f"settings[{variable!r}]", problem)


def _find_preset(name: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    preset = fields.get("preset")
    if preset is None:
        return {}
    if not isinstance(preset, str) or preset not in PRESETS:
        raise SpecError(name, "preset", f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
    found = PRESETS[preset]
    if found.get("url", "") is None and "url" not in fields:
        raise SpecError(
            name, "url", f"the preset {preset} needs the base URL of your server; add it"
        )
    return found
