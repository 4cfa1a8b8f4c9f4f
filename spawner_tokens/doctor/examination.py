"""The checklist: all checks of one configuration, in the order from a login to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from traitlets.config import Config

from .finding import Finding, Level, error
from .hooks import check_hooks
from .kubernetes import check_rights
from .loading import LoadError, describe, load_file, silenced
from .login import check_auth_state, check_authenticator, check_crypt_key, check_keys
from .refreshing import check_lifetime, check_refresh_token, check_refresh_user
from .scopes import check_scopes, check_servers_scopes
from .setup import Setup, set_up, stand_in
from .spawning import (
    check_environment,
    check_frozen,
    check_mixin,
    check_names,
    check_overrides,
    check_specs,
)
from .values import load_values

Check = Callable[[Setup], Iterator[Finding]]

# What another file or code of the chart may set: with it these findings are not certain.
_NOT_SET = (
    *("auth-state-off", "login-without-tokens", "mixin-missing", "tokens-none"),
    *("key-never-stored", "id-token-not-asked", "scopes-not-asked"),
)


def examine_file(path: str, options: Sequence[str] = ()) -> list[Finding]:
    """Examine a config file, with these options of the Hub's command line."""
    try:
        return examine(load_file(path, options))
    except LoadError as failure:
        return [_describe_failure("config", str(failure))]


def examine_values(path: str) -> list[Finding]:
    """Examine zero-to-jupyterhub's values: of these, what is plain configuration."""
    try:
        config, unread = load_values(path)
    except LoadError as failure:
        return [_describe_failure("config", str(failure))]
    findings = examine(config, is_chart=True)
    if {"hub.extraConfig", "hub.extraFiles"} & {*unread}:
        findings = [
            replace(each, level=Level.WARNING) if each.id in _NOT_SET else each for each in findings
        ]
    if unread:
        what = (
            f"Not read: {', '.join(unread)}. To examine all, run in the Hub's pod: "
            "spawner-tokens doctor -f /usr/local/etc/jupyterhub/jupyterhub_config.py"
        )
        findings.append(Finding("values", Level.NOTE, what))
    return findings


def _describe_failure(part: str, why: str) -> Finding:
    what = f"The config does not load: {why}."
    if part != "config":
        what = f"The {part} cannot be made: {why}."
    fix = "correct what it names, or run this where it is installed: on the Hub's host, in its pod"
    return error("config-fails", what, fix)


def examine(config: Config, *, is_chart: bool = False) -> list[Finding]:
    """All findings of a loaded config. A check that finds nothing is one of the level ok."""
    with stand_in() as user:
        setup = asyncio.run(set_up(config, user, is_chart=is_chart))
        findings = [_describe_failure(part, why) for part, why in setup.failures.items()]
        for check in _list_checks(setup):
            findings += _make(check, setup)
    return findings


def _list_checks(setup: Setup) -> Iterator[Check]:
    """The checks that apply."""
    if setup.authenticator is not None:
        if setup.is_oauth or type(setup.authenticator).__module__.startswith("jupyterhub."):
            yield check_authenticator
        yield check_auth_state
        yield check_crypt_key
    if setup.spawner_class is not None:
        yield check_mixin
    if setup.spawner is None:
        return
    yield check_hooks
    yield check_servers_scopes
    if not setup.has_mixin:
        return
    yield from (check_names, check_specs, check_environment, check_overrides)
    if setup.is_oauth:
        yield from (check_keys, check_scopes)
        yield from (check_refresh_token, check_refresh_user, check_lifetime)
    if setup.spawns_by("DockerSpawner"):
        yield check_frozen
    if setup.spawns_by("KubeSpawner") and setup.delivers_files:
        yield check_rights


def _make(check: Check, setup: Setup) -> list[Finding]:
    name = check.__name__.removeprefix("check_").replace("_", "-")
    try:
        with silenced():
            found = list(check(setup))
    except Exception as failure:  # of the admin's own class, most likely
        what = f"The check {name} could not be made: {describe(failure, setup.config)}."
        return [Finding(name, Level.WARNING, what)]
    return found or [Finding(name, Level.OK, (check.__doc__ or "").strip())]
