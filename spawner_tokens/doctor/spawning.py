"""Checks of the spawner's class, of the specs, and of what their variables meet in a server's environment."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from importlib.metadata import entry_points

from ..fields import SpecError
from ..spec import parse_tokens
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
    if setup.has_mixin or cls is None:
        return
    if setup.spawns_by("WrapSpawner"):
        yield warning(
            "mixin-not-seen",
            f"{cls.__name__} hands over no tokens itself, and which class it wraps is not looked at.",
            "Only a wrapped class with the mixin delivers tokens, and at a spawn alone.",
            Words("mix into the class that is wrapped, and examine a config with that one as c.JupyterHub.spawner_class"),
        )
    else:
        yield error(
            "mixin-missing",
            f"{cls.__name__} hands over no tokens.",
            "Nothing reads c.TokenSpawnerMixin then.",
            _mend_class(cls),
        )


def _mend_class(cls: type) -> Setting | Code:
    names = {(base.__module__.partition(".")[0], base.__name__) for base in cls.__mro__}
    known = {each.name for each in entry_points(group="jupyterhub.spawners")}
    mixin = "TokenSpawnerMixin"
    for package, name, entry_point, its_mixin in _READY:
        if (package, name) in names:
            if cls.__name__ == name and entry_point in known:
                return Setting(("JupyterHub", "spawner_class"), entry_point)
            mixin = its_mixin if entry_point in known else mixin
            break
    lines = [f"from spawner_tokens import {mixin}"]
    if cls.__module__ != "builtins":  # as of those that the config itself defines
        lines.append(f"from {cls.__module__} import {cls.__name__}")
    own = f"Token{cls.__name__}"
    return Code("\n".join([*lines, f"class {own}({mixin}, {cls.__name__}): pass", f"c.JupyterHub.spawner_class = {own}"]))


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
    fixes = [part for finding in check_names(setup) for part in finding.fix]
    code = [part.text for part in fixes if isinstance(part, Code)]
    paths = [part.path for part in fixes if isinstance(part, Words)]
    is_by_hand = any(path[-1:] == ("tokens",) or len(path) == len(("hub", "config", "section")) for path in paths)
    return is_by_hand or any(".tokens = " in text or ".update(c.pop(" in text for text in code)


def _of_spec(spec_error: SpecError) -> Finding:
    what, _, how = str(spec_error).partition("; ")
    return error(
        "spec-wrong",
        f"{what}.",
        "JupyterHub refuses it when it makes its first Spawner: nobody can start a server.",
        Words(how or f"mend what c.TokenSpawnerMixin.tokens[{spec_error.name!r}] says there"),
    )


def _likely_preset(setup: Setup) -> str:
    provider = name_of_class(setup.authenticator)  # of another class, the preset would miss the user info
    return provider if provider in ("github", "gitlab", "bitbucket", "google", "azuread", "globus", "mediawiki") else "oidc"


def check_names(setup: Setup) -> Iterator[Finding]:
    """All settings of the tokens are where they are read."""
    assert setup.spawner_class is not None
    known = {base.__name__: base for base in setup.spawner_class.__mro__ if hasattr(base, "class_traits")}
    ours = [name for name, base in known.items() if issubclass(base, TokenTraits)]
    own = [trait for name in ours for trait in known[name].class_traits(config=True)]
    for section in [name for name in setup.config if name not in known and "Token" in name]:
        near = difflib.get_close_matches(section, ours, n=1, cutoff=0)[0]
        yield warning(
            "section-unknown",
            f"Nobody reads c.{section}: it is no class of {setup.spawner_class.__name__}.",
            "What is set there has no effect, and JupyterHub does not say so.",
            Code(f"c.{near}.update(c.pop({literal(section)}))")
            if not setup.is_chart
            else Words("call it", ("hub", "config", near)),
        )
    for section in [name for name in ours if name in setup.config]:
        for trait in [trait for trait in setup.config[section] if trait not in known[section].class_traits(config=True)]:
            near = difflib.get_close_matches(trait, own, n=1, cutoff=0)[0]
            yield warning(
                "trait-unknown",
                f"There is no c.{section}.{trait}.",
                "It has no effect: JupyterHub says so in its log, at the first spawn.",
                Code(f"c.{section}.{near} = c.{section}.pop({literal(trait)})")
                if not setup.is_chart
                else Words("call it", ("hub", "config", section, near)),
            )
    *losers, winner = setup.sections(setup.spawner, "tokens") or [""]
    if losers:
        listed = " and ".join(f"c.{name}.tokens" for name in losers)
        merged = ", ".join(f"**c.{name}.tokens" for name in (*losers, winner))
        yield warning(
            "tokens-twice",
            f"c.{winner}.tokens replaces {listed}: what is only there has no effect.",
            "traitlets takes the value of the most special class, and does not merge.",
            Code("\n".join([f"c.{winner}.tokens = {{{merged}}}", *(f"del c.{name}.tokens" for name in losers)]))
            if not setup.is_chart
            else Words("move them all to", ("hub", "config", winner, "tokens")),
        )


def check_environment(setup: Setup) -> Iterator[Finding]:
    """No variable of a token is set by Spawner.environment, which would win."""
    spawner = setup.spawner
    section = setup.section(spawner, "environment", "Spawner")
    is_plain = isinstance(setup.config[section].get("environment"), dict)  # not that of environment.update(…)
    or_values, path = (", or from", ("singleuser", "extraEnv")) if setup.is_chart else ("", ())
    told: set[str] = set()  # two specs may want the same one
    for spec in setup.specs:
        for variable in (claim for claim in spec.claims if claim in spawner.environment and claim not in told):
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
