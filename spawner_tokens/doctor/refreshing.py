"""Checks of renewal: whether a refresh token is to be expected, and settings that do not do what they seem to."""

from __future__ import annotations

import math
from collections.abc import Iterator

from ..tokens.lifetime import Lifetime
from .finding import Finding, Setting, Words, error, warning
from .provider import is_oauth_app, name_provider, own_class
from .scopes import mend_scope, needs_offline_access, want_scopes
from .setup import Setup

# Seconds that a token lives at providers that have one answer to that, or a default that few change.
_LIVES = {"keycloak": 300, "gitlab": 7200, "google": 3600, "azuread": 3600, "bitbucket": 7200}


def check_refresh_token(setup: Setup) -> Iterator[Finding]:
    """The provider is asked for a refresh token."""
    authenticator = setup.authenticator
    if not setup.of_login or not setup.spawner.tokens_renew:
        return
    provider, cls = name_provider(setup), own_class(authenticator).__name__
    why = "Without one, a token ends with its first life, an hour mostly, and the user has to log in again."
    if provider == "google":
        params = dict(authenticator.extra_authorize_params)
        if (
            params.get("access_type") != "offline"
            and "access_type=offline" not in authenticator.authorize_url
        ):
            params.update(access_type="offline", prompt="consent")
            yield warning(
                "refresh-token-not-asked",
                "Google gives no refresh token, since the login does not ask for offline access.",
                why,
                setup.setting(authenticator, "extra_authorize_params", params, cls),
            )
    elif (
        needs_offline_access(setup, want_scopes(setup))
        and "offline_access" not in authenticator.scope
    ):
        yield warning(
            "refresh-token-not-asked",
            "The login does not ask for the scope offline_access, and so gets no refresh token.",
            why,
            mend_scope(setup),
        )
    elif provider == "github" and is_oauth_app(authenticator.client_id):
        yield warning(
            "refresh-token-never",
            "The client id is not one of a GitHub App: tokens of an OAuth App have no end, and no refresh token.",
            "Nothing has to be renewed, but a token that gets out works until somebody revokes it.",
            Words(
                "register a GitHub App with expiring user tokens, and set its client id (Iv…) and secret in "
                f"c.{setup.section(authenticator, 'client_id', cls)}"
            ),
        )
    elif provider == "nbgallery":
        lenient = [
            spec
            for spec in setup.of_login
            if (spec.missing or setup.spawner.tokens_missing) != "refuse"
        ]
        if lenient:
            yield warning(
                "refresh-token-never",
                "NBGallery issues no refresh tokens.",
                "When a token has ended, a server starts with a dead one all the same. With the line below, the user "
                "gets a link to log in again.",
                *(
                    line
                    for spec in lenient
                    for line in setup.of_token(spec.name, "missing", "refuse")
                ),
            )


def check_refresh_settings(setup: Setup) -> Iterator[Finding]:
    """The Hub's own settings for refreshes do what they seem to do."""
    authenticator, spawner = setup.authenticator, setup.spawner
    cls = own_class(authenticator).__name__
    renew = setup.setting(spawner, "tokens_renew", True, "TokenSpawnerMixin")
    if name_provider(setup) == "mediawiki" and (
        authenticator.refresh_pre_spawn or authenticator.auth_refresh_age
    ):
        yield error(
            "refresh-fails",
            "The refresh_user of MWOAuthenticator raises a TypeError, and the Hub calls it.",
            "Spawns and pages fail with it. The tokens of MediaWiki have no end: there is nothing to refresh.",
            setup.setting(authenticator, "refresh_pre_spawn", False, cls),
            setup.setting(authenticator, "auth_refresh_age", 0, cls),
        )
    elif not spawner.tokens_renew and not authenticator.auth_refresh_age:
        yield warning(
            "never-refreshed",
            "auth_refresh_age = 0 and tokens_renew = False: nobody refreshes a login, whatever refresh_pre_spawn says.",
            "JupyterHub looks at auth_refresh_age first, and goes. Servers get the token of the login, dead or alive.",
            renew,
        )
    elif not spawner.tokens_renew and authenticator.refresh_pre_spawn and setup.specs:
        yield warning(
            "refresh-pre-spawn-alone",
            "tokens_renew = False leaves the tokens to refresh_pre_spawn.",
            "That only sees to it that a token works at this moment: it may end a second later. Requests with an API "
            "token start servers with a dead one (auth_refresh_strict), and spawns at a time spend one refresh token twice.",
            renew,
        )
    elif not authenticator.auth_refresh_age and setup.is_set(authenticator, "refresh_pre_spawn"):
        if authenticator.refresh_pre_spawn:
            yield warning(
                "refresh-pre-spawn-ignored",
                "refresh_pre_spawn = True has no effect, since auth_refresh_age = 0.",
                "Tokens are renewed all the same (tokens_renew), but groups and user info stay as at the login.",
                setup.setting(authenticator, "auth_refresh_age", 300, "Authenticator"),
            )
    if (
        getattr(authenticator, "userdata_from_id_token", False)
        and type(authenticator).token_to_user.__module__ == _STOCK
    ):
        yield warning(
            "userdata-from-id-token",
            "userdata_from_id_token = True.",
            "When the id_token has expired, the Hub's own refresh ends in an error 500 for the user; where one is missing, "
            "OAuthenticator puts the provider's answer, with its tokens, into the text of an error.",
            setup.setting(authenticator, "userdata_from_id_token", False, cls),
            _userdata_url(setup, cls),
        )


_STOCK = "oauthenticator.oauth2"  # other classes do not look at userdata_from_id_token


def _userdata_url(setup: Setup, cls: str) -> Setting | Words:
    url, known = setup.authenticator.token_url, "/protocol/openid-connect/token"
    if url.endswith(known):
        return setup.setting(
            setup.authenticator, "userdata_url", url.removesuffix("token") + "userinfo", cls
        )
    return Words(
        f"set c.{setup.section(setup.authenticator, 'userdata_url', cls)}.userdata_url to your provider's userinfo"
    )


def check_lifetime(setup: Setup) -> Iterator[Finding]:
    """New tokens reach running servers before the old ones end."""
    total, delay = _LIVES.get(name_provider(setup)), setup.spawner.delivery_delay
    if total is None or not 0 < delay < math.inf or not setup.spawner.tokens_renew:
        return
    late = [
        spec.name
        for spec in setup.of_login
        if spec.file and _arrives_late(setup, total, delay, spec.min_lifetime)
    ]
    if late:
        needed = (
            math.ceil(delay / 0.4 / 60) * 60
        )  # of its life, a tenth of the other half is for the scatter
        yield warning(
            "lifetime-too-short",
            f"A token of {name_provider(setup)} lives {total} seconds by default, and {delay:.0f} pass until a running "
            f"server sees a new one: {', '.join(late)}.",
            "Renewal begins when half of a life is over at the earliest: files hold a dead token for a part of the time. It is all "
            "well if your provider's tokens live longer.",
            Words(
                f"let the provider's tokens live {needed} seconds at least, or let kubelets look more often "
                f"(syncFrequency), and say so: tokens_sync_period = {int(total * 0.4)} or less"
            ),
        )


def _arrives_late(setup: Setup, total: float, delay: float, min_lifetime: float | None) -> bool:
    least = setup.spawner.tokens_min_lifetime if min_lifetime is None else min_lifetime
    return Lifetime(0, total, total).stale_at(least, delay, spread=1) + delay > total
