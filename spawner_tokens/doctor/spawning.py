"""Checks of the spawner's class, of the specs, and of their variables in a server's environment."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from traitlets import Type

from ..backends.kubernetes.names import list_variables
from ..tokens.fields import SpecError
from ..tokens.spec import TokenSpec
from ..traits import TokenTraits
from .finding import Finding, error, not_looked_at, warning
from .setup import Setup, find_sections

# A class of which a spawner may be → the mixin and the entry point for it. Special ones are first.
_READY = {
    "KubeSpawner": ("KubeTokenMixin", "tokens-kubespawner"),
    "SwarmSpawner": ("SwarmTokenMixin", "tokens-docker-swarm"),
    "SystemUserSpawner": ("DockerTokenMixin", "tokens-docker-system-user"),
    "DockerSpawner": ("DockerTokenMixin", "tokens-docker"),
    "SimpleLocalProcessSpawner": ("LocalTokenMixin", "tokens-simple"),
    "LocalProcessSpawner": ("LocalTokenMixin", "tokens-localprocess"),
}


def check_mixin(setup: Setup) -> Iterator[Finding]:
    """The spawner's class hands over tokens."""
    name, bases = setup.spawner_class.__name__, find_sections(setup.spawner_class)
    base = next((each for each in _READY if each in bases), "")
    mixin, entry_point = _READY.get(base, ("TokenSpawnerMixin", ""))
    if not setup.has_mixin:
        fix = f"derive from {mixin} first: class Token{name}({mixin}, {name})"
        if name == base:
            fix = setup.setting(setup.app, "spawner_class", entry_point, "JupyterHub")
        # What a WrapSpawner wraps may have the mixin.
        find = warning if "WrapSpawner" in bases else error
        yield find("mixin-missing", f"{name} hands over no tokens.", fix)
        return
    wrong = sorted({mixin for mixin, _ in _READY.values()} & {*bases})
    if base and wrong and mixin not in wrong:
        what = f"{name} is a {base}, and {wrong[0]} is not for it."
        yield error("mixin-wrong", what, f"derive from {mixin} in place of {wrong[0]}")


def check_specs(setup: Setup) -> Iterator[Finding]:
    """The specs are valid."""
    if setup.spec_error:
        yield _describe(setup.spec_error, "")
    elif not setup.specs:
        what = "No token is declared: c.TokenSpawnerMixin.tokens is empty."
        tokens = {"oidc": {"preset": "oidc"}}
        fix = setup.setting(setup.spawner, "tokens", tokens, "TokenSpawnerMixin")
        yield warning("tokens-none", what, f"{fix}  # or another preset")


def _describe(spec_error: SpecError, place: str) -> Finding:
    what, _, how = str(spec_error).partition("; ")
    return error("spec-wrong", f"{place}{what}.", how or "correct what it names")


def check_names(setup: Setup) -> Iterator[Finding]:
    """All settings of the tokens are where they are read."""
    app, config = setup.app, setup.config
    ours = [each.__name__ for each in setup.spawner_class.__mro__ if issubclass(each, TokenTraits)]
    traits = list(setup.spawner_class.class_traits(config=True))
    chosen = [getattr(app, name) for name, trait in app.traits().items() if isinstance(trait, Type)]
    known = {base.__name__ for cls in (type(app), *app.classes, *chosen) for base in cls.__mro__}
    for section in config:
        near = difflib.get_close_matches(section, ours, n=1, cutoff=0.7)
        if section not in known and "Token" in section and near:
            what = f"{setup.spawner_class.__name__} does not read c.{section}."
            yield warning("section-unknown", what, f"rename c.{section} to c.{near[0]}")
    for section in ours:
        for trait in config.get(section, {}):
            if trait not in traits:
                near = difflib.get_close_matches(trait, traits, n=1)
                fix = f"rename it to c.{section}.{near[0]}" if near else "remove it"
                yield warning("trait-unknown", f"There is no c.{section}.{trait}.", fix)


def check_environment(setup: Setup) -> Iterator[Finding]:
    """No variable of a token is set by Spawner.environment, which would win."""
    place = setup.place(setup.spawner, "environment", "Spawner")
    if setup.is_chart:
        place += " or singleuser.extraEnv"
    yield from _compare(setup.specs, setup.spawner.environment, place)


def _compare(specs: Sequence[TokenSpec], environment: Any, place: str) -> Iterator[Finding]:
    entries = environment.items() if isinstance(environment, Mapping) else ()
    names = list_variables({key: entry for key, entry in entries if entry is not None})
    for spec in specs:
        for variable in spec.claims:
            if variable in names:
                what = f"{place} sets {variable}, which tokens[{spec.name!r}] sets too."
                yield warning("environment-wins", what, f"remove {variable} from {place}")


def check_overrides(setup: Setup) -> Iterator[Finding]:
    """No profile and no group breaks a spec or sets a variable of a token."""
    for place, override in _list_overrides(setup.spawner):
        tokens, environment = override.get("tokens"), override.get("environment")
        if callable(tokens) or callable(environment):
            yield not_looked_at("overrides", f"{place}, a function")
            continue
        specs, problem = setup.specs, None
        if tokens is not None:
            for key in _list_ignored(setup.tokens, tokens):
                fix = f"set {key} to false there, to have none"
                yield warning("null-ignored", f"In {place}, {key} of tokens is null.", fix)
            specs, problem = setup.read_specs(_merge(setup.tokens, tokens))
        if problem:
            yield _describe(problem, f"In {place}: ")
        yield from _compare(specs, environment, f"The environment of {place}")


def _list_overrides(spawner: Any) -> Iterator[tuple[str, Any]]:
    profiles = getattr(spawner, "profile_list", None) or ()
    groups = getattr(spawner, "group_overrides", None) or {}
    for trait, value in (("profile_list", profiles), ("group_overrides", groups)):
        if callable(value):
            yield trait, {"tokens": value}
    for profile in () if callable(profiles) else profiles:
        place = f"the profile {profile.get('display_name')!r}"
        yield place, profile.get("kubespawner_override") or {}
        for option, node in (profile.get("profile_options") or {}).items():
            choices = {**(node.get("choices") or {}), "…": node.get("unlisted_choice") or {}}
            for choice, chosen in choices.items():
                override = chosen.get("kubespawner_override") or {}
                yield f"the choice {option}: {choice} of {place}", override
    for group, node in {} if callable(groups) else groups.items():
        yield f"group_overrides[{group!r}]", node.get("spawner_override") or {}


def _list_ignored(node: Any, override: Any) -> Iterator[str]:
    """What an override would delete that is not there: what a preset gives is added later."""
    node = node if isinstance(node, Mapping) else {}
    for key, value in override.items() if isinstance(override, Mapping) else ():
        if value is None and key not in node:
            yield str(key)
        yield from (f"{key}.{each}" for each in _list_ignored(node.get(key), value))


def _merge(node: Any, override: Any) -> Any:
    """As JupyterHub merges it: ``None`` deletes."""
    if not isinstance(node, Mapping) or not isinstance(override, Mapping):
        return override
    merged = {**node, **{key: _merge(node.get(key, {}), override[key]) for key in override}}
    return {key: value for key, value in merged.items() if override.get(key, value) is not None}


def check_frozen(setup: Setup) -> Iterator[Finding]:
    """No container is started again with the variables of its first start."""
    variables = [each for spec in setup.specs for each in spec.env]
    if variables and not setup.spawner.remove:
        what = f"DockerSpawner keeps containers, with these variables: {', '.join(variables)}."
        fix = setup.setting(setup.spawner, "remove", True, "DockerSpawner")
        yield warning("docker-variables-frozen", what, f'{fix}  # or "env": None in the spec')
