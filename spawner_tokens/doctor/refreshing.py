"""Checks of renewal: whether there is a refresh token, and whether new tokens are in time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from ..tokens.lifetime import Lifetime
from .finding import Finding, error, warning
from .provider import name_provider, own_class
from .setup import Setup

# Seconds that a token lives, at providers where few change that.
_LIVES = {"keycloak": 300, "gitlab": 7200, "google": 3600, "azuread": 3600, "bitbucket": 7200}


def check_refresh_token(setup: Setup) -> Iterator[Finding]:
    """The provider is asked for a refresh token."""
    authenticator, provider = setup.authenticator, name_provider(setup)
    if not setup.of_login or not setup.spawner.tokens_renew:
        return
    cls, scopes = own_class(authenticator).__name__, authenticator.scope
    # Without openid, a provider of plain OAuth 2 gives a refresh token unasked, or not at all.
    is_openid = provider in ("azuread", "auth0", "cilogon") or (
        provider == "oidc" and "openid" in scopes
    )
    if provider == "google" and not _asks_offline(authenticator):
        yield warning(
            "refresh-token-not-asked",
            "The login does not ask Google for offline access.",
            'add {"access_type": "offline", "prompt": "consent"} to '
            + setup.place(authenticator, "extra_authorize_params", cls),
        )
    elif is_openid and "offline_access" not in scopes:
        yield warning(
            "refresh-token-not-asked",
            "The login does not ask for the scope offline_access.",
            f'add "offline_access" to {setup.place(authenticator, "scope", cls)}',
        )
    elif provider == "github" and re.match(r"Ov|[0-9a-f]{20}$|$", authenticator.client_id):
        yield warning(
            "refresh-token-never",
            "The client id is of an OAuth App of GitHub: its tokens have no end, and no refresh "
            "token. One that leaks works until somebody revokes it.",
            "register a GitHub App with expiring user tokens, and use its client id (Iv…)",
        )
    elif provider == "nbgallery":
        policy = setup.spawner.tokens_missing
        if lenient := [each for each in setup.of_login if (each.missing or policy) != "refuse"]:
            yield warning(
                "refresh-token-never",
                "NBGallery issues no refresh tokens: a server may start with an expired token.",
                f'set "missing": "refuse" in tokens[{lenient[0].name!r}]: the user logs in again',
            )


def _asks_offline(authenticator: Any) -> bool:
    params = {**authenticator.extra_authorize_params}
    in_url = "access_type=offline" in authenticator.authorize_url
    return in_url or params.get("access_type") == "offline"


def check_refresh_user(setup: Setup) -> Iterator[Finding]:
    """The Hub's own refreshes work."""
    authenticator = setup.authenticator
    if name_provider(setup) == "mediawiki" and (
        authenticator.refresh_pre_spawn or authenticator.auth_refresh_age
    ):
        cls = own_class(authenticator).__name__
        yield error(
            "refresh-fails",
            "The refresh_user of MWOAuthenticator raises a TypeError, and the Hub calls it.",
            setup.setting(authenticator, "refresh_pre_spawn", False, cls)
            + "\n"
            + setup.setting(authenticator, "auth_refresh_age", 0, cls),
        )


def check_lifetime(setup: Setup) -> Iterator[Finding]:
    """New tokens reach running servers before the old ones expire."""
    provider, spawner = name_provider(setup), setup.spawner
    total, delay = _LIVES.get(provider), spawner.delivery_delay
    if total is None or not 0 < delay < math.inf or not spawner.tokens_renew:
        return
    late = []
    for spec in setup.of_login:
        least = spawner.tokens_min_lifetime if spec.min_lifetime is None else spec.min_lifetime
        renewed = Lifetime(0, total, total).stale_at(least, delay, spread=1)
        if spec.file and renewed + delay > total:
            late.append(spec.name)
    if late:
        # Renewal begins at half of a life; a tenth of the other half is for the scatter.
        needed = math.ceil(delay / 0.4 / 60) * 60
        yield warning(
            "lifetime-too-short",
            f"A token of {provider} lives {total} seconds by default, and {delay:.0f} pass until "
            f"a running server has a new one: {', '.join(late)}.",
            f"let tokens live {needed} seconds at least, or let kubelets look more often "
            f"(syncFrequency) and set tokens_sync_period = {int(total * 0.4)} or less",
        )
