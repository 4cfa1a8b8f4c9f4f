"""The examination: all checks of one configuration, in the order in which a login comes to a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from traitlets.config import Config

from .classes import check_classes, find_order
from .engines import check_docker, check_kubernetes
from .finding import Finding, Level, Words, error, warning
from .hooks import check_hooks
from .loading import LoadError, describe, load_file, unheard
from .login import check_auth_state, check_authenticator, check_keys
from .overrides import check_overrides, has_overrides
from .refreshing import check_lifetime, check_refresh_settings, check_refresh_token
from .scopes import check_scopes, check_servers_scopes
from .setup import Setup, set_up, stand_in
from .spawning import check_environment, check_frozen, check_mixin, check_names, check_specs
from .values import AbsentError, load_values
from .versions import check_versions


class Check(NamedTuple):
    """``run`` finds what is wrong; its docstring says what is right if it finds nothing."""

    id: str
    run: Callable[[Setup], Iterator[Finding] | AsyncIterator[Finding]]
    applies: Callable[[Setup], bool]


def _always(setup: Setup) -> bool:
    return True


def _to_authenticator(setup: Setup) -> bool:
    return setup.authenticator is not None


def _to_known_login(setup: Setup) -> bool:
    """What the login of a stranger's authenticator brings is not known."""
    return _to_authenticator(setup) and (
        setup.is_oauth or type(setup.authenticator).__module__.startswith("jupyterhub.")
    )


def _to_class(setup: Setup) -> bool:
    return setup.spawner_class is not None


def _to_spawner(setup: Setup) -> bool:
    return setup.spawner is not None


def _to_tokens(setup: Setup) -> bool:
    return setup.spawner is not None and setup.has_mixin


def _to_overrides(setup: Setup) -> bool:
    return _to_tokens(setup) and has_overrides(setup)


def _to_oauth(setup: Setup) -> bool:
    return _to_tokens(setup) and _to_authenticator(setup) and setup.is_oauth


def _to_docker(setup: Setup) -> bool:
    return setup.spawner is not None and setup.spawns_by("DockerSpawner")


def _to_frozen(setup: Setup) -> bool:
    return _to_tokens(setup) and _to_docker(setup)


def _to_kubernetes(setup: Setup) -> bool:
    return (
        _to_tokens(setup) and setup.spawns_by("KubeSpawner") and setup.spawner._delivers_files()
    )  # by Secrets


CHECKS = (
    Check("versions", check_versions, _always),
    Check("authenticator", check_authenticator, _to_known_login),
    Check("auth-state", check_auth_state, _to_authenticator),
    Check("mixin", check_mixin, _to_class),
    Check("names", check_names, _to_tokens),
    Check("specs", check_specs, _to_tokens),
    Check("keys", check_keys, _to_oauth),
    Check("scopes", check_scopes, _to_oauth),
    Check("refresh-token", check_refresh_token, _to_oauth),
    Check("refresh-settings", check_refresh_settings, _to_oauth),
    Check("lifetime", check_lifetime, _to_oauth),
    Check("environment", check_environment, _to_tokens),
    Check("overrides", check_overrides, _to_overrides),
    Check("hooks", check_hooks, _to_spawner),
    Check("servers-scopes", check_servers_scopes, _to_spawner),
    Check("docker-variables", check_frozen, _to_frozen),
    Check("docker", check_docker, _to_docker),
    Check("kubernetes", check_kubernetes, _to_kubernetes),
)

_CONFIG = "A config that does not load is no config: the Hub does not start with it."


def examine_file(path: str, options: Sequence[str] = ()) -> list[Finding]:
    """What is wrong with a config file, or right, with these options of the Hub's command line."""
    try:
        config = load_file(path, options)
    except LoadError as failure:
        return [_of_load(failure)]
    return asyncio.run(examine(config))


def examine_values(path: str) -> tuple[list[Finding], tuple[str, ...]]:
    """The same for zero-to-jupyterhub's values, and where these are in their file."""
    try:
        values = load_values(path)
    except LoadError as failure:
        if isinstance(failure.error, (ImportError, FileNotFoundError)):
            return [
                _of_part(f"This needs what only the Hub's image has, most likely: {failure}")
            ], ()
        return [_of_load(failure)], ()
    findings = asyncio.run(examine(values.config, is_chart=True))
    if values.absent:
        findings.append(_of_absent(f"hub.extraConfig reads {', '.join(values.absent)}"))
    if values.files:
        findings = [
            replace(each, level=Level.WARNING) if each.id in _UNSET else each for each in findings
        ]
        findings.append(
            _of_part(
                f"These files are loaded by the chart, and not looked at: {', '.join(values.files)}"
            )
        )
    return findings, values.at


# What a file that is not looked at may set: the findings that it is not set.
_UNSET = ("auth-state-off", "login-without-tokens", "mixin-missing", "tokens-none")


def _of_part(what: str) -> Finding:
    why = "What it sets was not examined."
    return warning("part-not-seen", f"{what}.", why, Words("run this command in the Hub's pod"))


def _of_absent(what: str) -> Finding:
    return warning(
        "environment-not-seen",
        f"{what}: variables of the Hub's pod that are not set here.",
        "What depends on their values was not examined.",
        Words("run this command with these variables set, or in the Hub's pod"),
    )


def _of_load(failure: LoadError) -> Finding:
    if isinstance(failure, AbsentError):
        return _of_absent(f"The rest does not load without {', '.join(failure.absent)}")
    what = f"The config does not load: {failure}."
    return find_order(failure.error) or error(
        "config-fails", what, _CONFIG, Words("mend that line first")
    )


async def examine(config: Config, *, is_chart: bool = False) -> list[Finding]:
    """All findings of a loaded config; a check that finds nothing is one of the level ok."""
    with stand_in() as user:
        setup = set_up(config, user, is_chart=is_chart)
        findings = [
            error(
                f"{part}-fails",
                f"The {part} cannot be made: {why}.",
                _CONFIG,
                Words("mend what it names"),
            )
            for part, why in setup.failures.items()
        ]
        if setup.app is None:
            return list(check_classes(config)) or findings
        for check in CHECKS:
            if check.applies(setup):
                findings += await _make(check, setup)
    return findings


async def _make(check: Check, setup: Setup) -> list[Finding]:
    try:
        with unheard():
            found = [finding async for finding in _run(check, setup)]
    except Exception as failure:  # of a stranger's class, most likely
        what = f"This check could not be made: {describe(failure, setup.config)}."
        return [
            warning(check.id, what, "What it looks for is not known.", Words("please report it"))
        ]
    return found or [Finding(check.id, Level.OK, (check.run.__doc__ or "").strip())]


async def _run(check: Check, setup: Setup) -> AsyncIterator[Finding]:
    found: Any = check.run(setup)
    if isinstance(found, AsyncIterator):
        async for finding in found:
            yield finding
    else:
        for finding in found:
            yield finding
