"""The checklist: all checks of one configuration, in the order from a login to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from traitlets.config import Config

from . import login, servers, spawning
from .finding import Finding, Level, error
from .loading import LoadError, describe, load_file, silenced
from .provider import name_provider
from .setup import Setup, find_sections, set_up, stand_in
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
        return [_describe_failure(f"The config does not load: {failure}.")]


def examine_values(path: str) -> list[Finding]:
    """Examine zero-to-jupyterhub's values: of these, what is plain configuration."""
    try:
        config, unread = load_values(path)
    except LoadError as failure:
        return [_describe_failure(f"The config does not load: {failure}.")]
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


def _describe_failure(what: str) -> Finding:
    fix = "correct what it names, or run this where it is installed: on the Hub's host, in its pod"
    return error("config-fails", what, fix)


def examine(config: Config, *, is_chart: bool = False) -> list[Finding]:
    """All findings of a loaded config. A check that finds nothing is one of the level ok."""
    with stand_in() as user:
        setup = asyncio.run(set_up(config, user, is_chart=is_chart))
        findings = [
            _describe_failure(f"The {part} cannot be made: {why}.")
            for part, why in setup.failures.items()
        ]
        for check in _list_checks(setup):
            findings += _make(check, setup)
    return findings


def _list_checks(setup: Setup) -> Iterator[Check]:
    """The checks that apply."""
    if setup.authenticator is not None:
        if setup.is_oauth or type(setup.authenticator).__module__.startswith("jupyterhub."):
            yield login.check_authenticator
        yield from (login.check_auth_state, login.check_crypt_key)
    if setup.spawner_class is not None:
        yield spawning.check_mixin
    if setup.spawner is not None:
        yield from (servers.check_hooks, servers.check_servers_scopes)
        if setup.has_mixin:
            yield from (spawning.check_names, spawning.check_specs)
            yield from _list_checks_of_tokens(setup)


def _list_checks_of_tokens(setup: Setup) -> Iterator[Check]:
    bases = find_sections(setup.spawner_class)
    if "KubeSpawner" in bases and setup.spawner.delivers_files():
        yield servers.check_rights
    if not setup.specs:
        return
    yield from (spawning.check_environment, spawning.check_overrides)
    if "DockerSpawner" in bases and "SwarmSpawner" not in bases:
        yield spawning.check_frozen
    if setup.is_oauth:
        yield from (login.check_keys, login.check_scopes)
        if setup.of_login and setup.spawner.tokens_renew:
            yield from (login.check_refresh_token, login.check_lifetime)
        if name_provider(setup) == "mediawiki":
            yield login.check_refresh_user


def _make(check: Check, setup: Setup) -> list[Finding]:
    name = check.__name__.removeprefix("check_").replace("_", "-")
    try:
        with silenced():
            found = list(check(setup))
    except Exception as failure:  # of the admin's own class, most likely
        what = f"The check {name} could not be made: {describe(failure, setup.config)}."
        return [Finding(name, Level.WARNING, what)]
    return found or [Finding(name, Level.OK, (check.__doc__ or "").strip())]
