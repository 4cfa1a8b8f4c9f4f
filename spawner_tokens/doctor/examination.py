"""The checklist: all checks of one configuration, in the order from a login to a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from traitlets.config import Config

from . import exchanges, login, servers, spawning
from .finding import Finding, Level, error, not_looked_at
from .loading import LoadError, describe, load_file, silenced
from .setup import Setup, find_sections, set_up, stand_in
from .values import load_values

Check = Callable[[Setup], Iterator[Finding]]

# Findings that another file or code of the chart may put right → the trait that it would set, if
# the values do not. With "" it may be any.
_ABSENT = {
    **{"auth-state-off": "enable_auth_state", "login-without-tokens": "authenticator_class"},
    **{"mixin-missing": "spawner_class", "tokens-none": "tokens", "key-never-stored": ""},
    **{"id-token-not-asked": "scope", "scopes-not-asked": "scope", "scopes-too-powerful": "scope"},
    **{"refresh-token-not-asked": "", "exchange-without-oauth": ""},
    **{"exchange-without-secret": "client_secret", "exchange-without-v2": "token_url"},
}


def examine_file(path: str, options: Sequence[str] = ()) -> list[Finding]:
    """Examine a config file, with these options of the Hub's command line."""
    try:
        return examine(load_file(path, options))
    except LoadError as failure:
        return [_describe_failure(f"The config does not load: {failure}.")]


def examine_values(paths: Sequence[str]) -> list[Finding]:
    """Examine zero-to-jupyterhub's values: of these, what is plain configuration."""
    try:
        config, given, unread = load_values(paths)
    except LoadError as failure:
        return [_describe_failure(f"The config does not load: {failure}.")]
    findings = [_soften(each, given) for each in examine(config, is_chart=True)]
    unread = [*unread, "hooks", "roles", "what Kubernetes allows the Hub"]
    pod = "spawner-tokens doctor -f /usr/local/etc/jupyterhub/jupyterhub_config.py"
    what = f"{', '.join(unread)}. To examine all, run in the Hub's pod: {pod}"
    return [*findings, not_looked_at("values", what)]


def _soften(finding: Finding, given: set[str]) -> Finding:
    """What is not in these values may be in others, or in code."""
    if _ABSENT.get(finding.id) in {None, *given}:
        return finding
    return replace(finding, level=Level.WARNING, what=f"Unless it is set elsewhere: {finding.what}")


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
        findings += [
            not_looked_at(part, f"the {part}: {why}") for part, why in setup.absent.items()
        ]
        for check in _list_checks(setup):
            findings += _make(check, setup)
    return findings


def _list_checks(setup: Setup) -> Iterator[Check]:
    """The checks that apply."""
    if setup.authenticator is not None:
        yield from (login.check_authenticator, login.check_auth_state, login.check_crypt_key)
    if setup.spawner_class is not None:
        yield spawning.check_mixin
    if setup.spawner is not None:
        yield from () if setup.is_chart else (servers.check_hooks,)
        yield servers.check_servers_scopes
        if setup.has_mixin:
            yield from (spawning.check_names, spawning.check_specs)
            yield from _list_checks_of_tokens(setup)


def _list_checks_of_tokens(setup: Setup) -> Iterator[Check]:
    bases = find_sections(setup.spawner_class)
    if "KubeSpawner" in bases and setup.spawner.delivers_files() and not setup.is_chart:
        yield servers.check_rights
    if not setup.specs:
        return
    yield from (spawning.check_environment, spawning.check_overrides)
    yield from () if setup.is_chart else (servers.check_access,)
    if "DockerSpawner" in bases and "SwarmSpawner" not in bases:
        yield spawning.check_frozen
    exchange = setup.authenticator is not None and any(spec.exchange for spec in setup.specs)
    yield from (exchanges.check_exchanges,) if exchange else ()
    if setup.is_oauth:
        yield from (exchanges.check_exchange_clients,) if exchange else ()
        yield from (login.check_keys, login.check_scopes)
        if setup.of_login and setup.spawner.tokens_renew:
            yield login.check_refresh_token
            if any(spec.file for spec in setup.of_login):
                yield login.check_lifetime
        if "MWOAuthenticator" in find_sections(type(setup.authenticator)):
            yield login.check_refresh_user


def _make(check: Check, setup: Setup) -> list[Finding]:
    name = check.__name__.removeprefix("check_").replace("_", "-")
    try:
        with silenced():
            found = list(check(setup))
    except Exception as failure:  # of the admin's own class, most likely
        what = f"The check {name} could not be made: {describe(failure, setup.config)}."
        return [Finding(name, Level.WARNING, what)]
    if setup.is_chart and check is servers.check_servers_scopes:  # roles are elsewhere
        return found
    return found or [Finding(name, Level.OK, (check.__doc__ or "").strip())]
