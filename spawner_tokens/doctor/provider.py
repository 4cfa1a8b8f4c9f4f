"""The provider behind an authenticator, and what a login at it leaves in auth_state."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from .setup import Setup

# Provider → its class, or an address that GenericOAuthenticator is given for it.
_PROVIDERS = {
    "github": r"GitHubOAuthenticator|https://github\.com/.*|https?://.*/api/v3/user",
    "gitlab": r"GitLabOAuthenticator|https?://gitlab\..*|https?://.*/api/v4/user",
    "bitbucket": r"BitbucketOAuthenticator|https://bitbucket\.org/.*",
    "google": r"GoogleOAuthenticator|https://(accounts\.google|(oauth2|www)\.googleapis)\.com/.*",
    "azuread": r"AzureAdOAuthenticator|https://login\.(microsoftonline\.(com|us)|windows\.net)/.*",
    "globus": "GlobusOAuthenticator",
    "mediawiki": "MWOAuthenticator",
    "openshift": "OpenShiftOAuthenticator",
    "cilogon": r"CILogonOAuthenticator|https://cilogon\.org/.*",
    "auth0": r"Auth0OAuthenticator|https://[^/]*\.auth0\.com/.*",
    "okta": r"OktaOAuthenticator|https://[^/]*\.okta(preview)?\.com/.*",
    "keycloak": r"https?://.*/protocol/openid-connect/.*",
    "cognito": r"https://[^/]*\.amazoncognito\.com/.*",
}
# A login at these has no id_token, whatever it asks for.
_NO_ID_TOKEN = ("github", "bitbucket", "mediawiki", "openshift")
_STORED = {
    "globus": ("tokens", "client_id"),
    "mediawiki": ("ACCESS_TOKEN_KEY", "ACCESS_TOKEN_SECRET"),
}
_STORING = re.compile("authenticate|auth_state|auth_model|token|refresh|fetch|hook")
_HOOKS = (
    *("modify_auth_state_hook", "refresh_user_hook"),
    *("post_auth_hook", "reconcile_auth_state_hook"),
)


def name_provider(setup: Setup) -> str:
    """The provider's name: the preset's, where there is one. One that is not known is ``oidc``."""
    authenticator = setup.authenticator
    names = [base.__name__ for base in type(authenticator).__mro__]
    for url in ("token_url", "authorize_url", "userdata_url"):
        names.append(str(getattr(authenticator, url, "")))
    for provider, pattern in _PROVIDERS.items():
        if any(re.fullmatch(pattern, name) for name in names):
            return provider
    fields = (each for each in setup.tokens.values() if isinstance(each, Mapping))
    return "nbgallery" if "nbgallery" in (each.get("preset") for each in fields) else "oidc"


def own_class(authenticator: Any) -> type:
    """OAuthenticator's class, where the admin's own one derives from it."""
    mro = type(authenticator).__mro__
    return next((base for base in mro if base.__module__.startswith("oauthenticator.")), mro[0])


def list_stored(setup: Setup) -> Sequence[str]:
    """What a login stores, as keys of auth_state. None are listed where that is not known."""
    authenticator, provider = setup.authenticator, name_provider(setup)
    mro = type(authenticator).__mro__
    own = [name for base in mro[: mro.index(own_class(authenticator))] for name in vars(base)]
    # A hook or a class of the admin's may store what OAuthenticator's class does not.
    if setup.spawner.tokens_hook is not None or any(map(_STORING.search, own)):
        return ()
    if any(getattr(authenticator, hook, None) is not None for hook in _HOOKS):
        return ()
    stored = _STORED.get(provider, ("access_token", "id_token"))
    return [key for key in stored if key != "id_token" or provider not in _NO_ID_TOKEN]
