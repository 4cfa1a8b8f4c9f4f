"""Checks of the spawner's class, of the specs, and of what their variables meet in a server's environment."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from traitlets import Type

from ..tokens.fields import SpecError
from ..tokens.spec import parse_tokens
from ..traits import TokenTraits
from .finding import Code, Finding, Setting, Words, error, literal, warning
from .provider import name_of_class
from .setup import Setup

# A class of which a spawner may be → the entry point and the mixin for it, the most special one first.
_READY = (
    ("kubespawner", "KubeSpawner", "tokens-kubespawner", "KubeTokenMixin"),
    ("dockerspawner", "SwarmSpawner", "tokens-docker-swarm", "SwarmTokenMixin"),
    ("dockerspawner", "SystemUserSpawner", "tokens-docker-system-user", "DockerTokenMixin"),
    ("dockerspawner", "DockerSpawner", "tokens-docker", "DockerTokenMixin"),
    ("jupyterhub", "SimpleLocalProcessSpawner", "tokens-simple", "LocalTokenMixin"),
    ("jupyterhub", "LocalProcessSpawner", "tokens-localprocess", "LocalTokenMixin"),
)


def check_mixin(setup: Setup) -> Iterator[Finding]:
    """The spawner's class hands over tokens."""
    cls = setup.spawner_class
    if cls is None:
        return
    if setup.has_mixin:
        yield from _check_kind(cls)
    elif setup.spawns_by("WrapSpawner"):
        yield warning(
            "mixin-not-seen",
            f"{cls.__name__} hands over no tokens itself, and which class it wraps is not looked at.",
            "Only a wrapped class with the mixin delivers tokens, and at a spawn alone.",
            Words(
                "mix into the class that is wrapped, and examine a config with that one as c.JupyterHub.spawner_class"
            ),
        )
    else:
        yield error(
            "mixin-missing",
            f"{cls.__name__} hands over no tokens.",
            "Nothing reads c.TokenSpawnerMixin then.",
            _mend_class(cls),
        )


def _check_kind(cls: type) -> Iterator[Finding]:
    names = {base.__name__ for base in cls.__mro__}
    _, spawner, _, right = _find_ready(cls)
    wrong = sorted(names & {mixin for *_, mixin in _READY})
    if spawner and wrong and right not in wrong:
        yield error(
            "mixin-wrong",
            f"{cls.__name__} is a {spawner}, and {wrong[0]} is not for it.",
            "Servers do not get the files, or do not start.",
            Words(f"let it have {right} in place of {wrong[0]}"),
        )


def _find_ready(cls: type) -> tuple[str, str, str, str]:
    bases = {(base.__module__.partition(".")[0], base.__name__) for base in cls.__mro__}
    return next((row for row in _READY if row[:2] in bases), ("", "", "", "TokenSpawnerMixin"))


def _mend_class(cls: type) -> Setting | Code | Words:
    package, name, entry_point, mixin = _find_ready(cls)
    if entry_point not in {each.name for each in entry_points(group="jupyterhub.spawners")}:
        mixin = "TokenSpawnerMixin"
    elif (cls.__module__.partition(".")[0], cls.__name__) == (package, name):
        return Setting(("JupyterHub", "spawner_class"), entry_point)
    if (
        getattr(sys.modules.get(cls.__module__), cls.__name__, None) is not cls
    ):  # of the config itself, of a function
        return Words(
            f"write class {cls.__name__}({mixin}, …), after from spawner_tokens import {mixin}"
        )
    own = f"Token{cls.__name__}"
    lines = [f"from spawner_tokens import {mixin}", f"from {cls.__module__} import {cls.__name__}"]
    return Code(
        "\n".join(
            [
                *lines,
                f"class {own}({mixin}, {cls.__name__}): pass",
                f"c.JupyterHub.spawner_class = {own}",
            ]
        )
    )


def check_specs(setup: Setup) -> Iterator[Finding]:
    """The specs can be read."""
    for spec_error in setup.spec_errors:
        yield _of_spec(spec_error)
    if not setup.spec_errors:
        try:
            parse_tokens(setup.tokens, files=setup.spawner._delivers_files())
        except SpecError as clash:
            yield _of_spec(clash)
    if not setup.tokens and not setup.spec_errors and not _misplaced(setup):
        preset = _likely_preset(setup)
        yield warning(
            "tokens-none",
            "c.TokenSpawnerMixin.tokens is empty.",
            "Nothing is delivered.",
            Setting(("TokenSpawnerMixin", "tokens"), {preset: {"preset": preset}}),
        )


def _misplaced(setup: Setup) -> bool:
    """Whether a line of another finding moves some specs to where they are read."""
    return bool(_find_sections(setup)) or any(
        "tokens" in names for _, _, names in _find_traits(setup)
    )


def _of_spec(spec_error: SpecError) -> Finding:
    what, _, how = str(spec_error).partition("; ")
    return error(
        "spec-wrong",
        f"{what}.",
        "JupyterHub refuses it when it makes its first Spawner: nobody can start a server.",
        Words(how or f"mend what c.TokenSpawnerMixin.tokens[{spec_error.name!r}] says there"),
    )


def _likely_preset(setup: Setup) -> str:
    provider = name_of_class(
        setup.authenticator
    )  # of another class, the preset would miss the user info
    return (
        provider
        if provider in ("github", "gitlab", "bitbucket", "google", "azuread", "globus", "mediawiki")
        else "oidc"
    )


def check_names(setup: Setup) -> Iterator[Finding]:
    """All settings of the tokens are where they are read."""
    assert setup.spawner_class is not None
    config, sections = setup.config, _find_sections(setup)
    for section, near in sections.items():
        others = {trait for name in sections if name != section for trait in config[name]}
        is_sure = set(config[section]) <= set(_traits(setup)) - others and not any(
            setup.is_set(setup.spawner, trait) for trait in config[section]
        )
        fix: Code | Words = Code(f"c.{near}.update(c.pop({literal(section)}))")
        if setup.is_chart:
            fix = Words("call it", ("hub", "config", near))
        elif not is_sure:
            fix = Words(f"move what servers need of it to c.{near}, and remove the rest")
        yield warning(
            "section-unknown",
            f"Nobody reads c.{section}: it is no class of {setup.spawner_class.__name__}.",
            "What is set there has no effect, and JupyterHub does not say so.",
            fix,
        )
    for section, trait, names in _find_traits(setup):
        fix = Words("remove it: nothing that can be set has a name like that")
        if names and setup.is_chart:
            fix = Words("call it", ("hub", "config", section, *names))
        elif names and names[0] in config[section]:
            fix = Words(f"remove it, or what sets c.{section}.{names[0]}")
        elif names:
            fix = Code(f"c.{section}.{names[0]} = c.{section}.pop({literal(trait)})")
        yield warning(
            "trait-unknown",
            f"There is no c.{section}.{trait}.",
            "It has no effect: JupyterHub says so in its log, at the first spawn.",
            fix,
        )
    *losers, winner = setup.sections(setup.spawner, "tokens") or [""]
    if losers:
        listed = " and ".join(f"c.{name}.tokens" for name in losers)
        merged = ", ".join(f"**c.{name}.tokens" for name in (*losers, winner))
        yield warning(
            "tokens-twice",
            f"c.{winner}.tokens replaces {listed}: what is only there has no effect.",
            "traitlets takes the value of the most special class, and does not merge.",
            Code(
                "\n".join(
                    [
                        f"c.{winner}.tokens = {{{merged}}}",
                        *(f"del c.{name}.tokens" for name in losers),
                    ]
                )
            )
            if not setup.is_chart
            else Words("move them all to", ("hub", "config", winner, "tokens")),
        )


def _find_sections(setup: Setup) -> dict[str, str]:
    """Sections that nobody reads → the name of ours that each may be meant for."""
    app, ours = setup.app, _list_ours(setup)
    chosen = [getattr(app, name) for name, trait in app.traits().items() if isinstance(trait, Type)]
    known = {base.__name__ for cls in (type(app), *app.classes, *chosen) for base in cls.__mro__}
    strays = [name for name in setup.config if name not in known and "Token" in name]
    near = {name: difflib.get_close_matches(name, ours, n=1, cutoff=0.7) for name in strays}
    return {name: found[0] for name, found in near.items() if found}


def _find_traits(setup: Setup) -> list[tuple[str, str, list[str]]]:
    """Settings in sections of ours that do not exist, with what each may be meant for."""
    known = _traits(setup)
    return [
        (section, trait, difflib.get_close_matches(trait, known, n=1))
        for section in _list_ours(setup)
        if section in setup.config
        for trait in setup.config[section]
        if trait not in known
    ]


def _list_ours(setup: Setup) -> list[str]:
    assert setup.spawner_class is not None
    return [base.__name__ for base in setup.spawner_class.__mro__ if issubclass(base, TokenTraits)]


def _traits(setup: Setup) -> list[str]:
    """What can be set in each section of the spawner: traitlets reads them all for all of its traits."""
    cls: Any = setup.spawner_class
    return list(cls.class_traits(config=True))


def check_environment(setup: Setup) -> Iterator[Finding]:
    """No variable of a token is set by Spawner.environment, which would win."""
    spawner = setup.spawner
    section = setup.section(spawner, "environment", "Spawner")
    is_plain = isinstance(
        setup.config[section].get("environment"), dict
    )  # not that of environment.update(…)
    or_values, path = (", or from", ("singleuser", "extraEnv")) if setup.is_chart else ("", ())
    told: set[str] = set()  # two specs may want the same one
    for spec in setup.specs:
        for variable in (
            claim for claim in spec.claims if claim in spawner.environment and claim not in told
        ):
            told.add(variable)
            yield warning(
                "environment-wins",
                f"c.{section}.environment sets {variable}, which tokens[{spec.name!r}] wants to set, too.",
                "What the admin sets wins: servers find that in the variable, and not what the token sets.",
                Code(f"del c.{section}.environment[{literal(variable)}]")
                if is_plain and not setup.is_chart
                else Words(f"remove {variable} from {section}.environment{or_values}", path),
            )


def check_frozen(setup: Setup) -> Iterator[Finding]:
    """No container is started again with the variables of its first start."""
    spawner = setup.spawner
    if spawner.remove or setup.spawns_by("SwarmSpawner"):
        return
    frozen = [f"{variable} ({spec.name})" for spec in setup.specs for variable in spec.env]
    if frozen:
        yield warning(
            "docker-variables-frozen",
            f"DockerSpawner keeps a container (remove = False), and with it these variables: {', '.join(frozen)}.",
            "The next start has the token of the first one, long dead. The files are not concerned.",
            setup.setting(spawner, "remove", True, "DockerSpawner", 'or "env": None in the spec'),
        )
