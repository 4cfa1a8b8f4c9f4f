"""The provider behind an authenticator: which one it is, and what a login at it leaves in auth_state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from inspect import isawaitable
from types import SimpleNamespace
from typing import Any

from .setup import Setup

_BY_CLASS = {
    "GitHubOAuthenticator": "github",
    "GitLabOAuthenticator": "gitlab",
    "BitbucketOAuthenticator": "bitbucket",
    "GoogleOAuthenticator": "google",
    "AzureAdOAuthenticator": "azuread",
    "GlobusOAuthenticator": "globus",
    "MWOAuthenticator": "mediawiki",
    "OpenShiftOAuthenticator": "openshift",
    "CILogonOAuthenticator": "cilogon",
    "Auth0OAuthenticator": "auth0",
}

# Of the classes for any provider, by the addresses that they are given.
_BY_URL = (
    (
        re.compile(r"https://github\.com/|https?://.*/api/v3/user$"),
        "github",
    ),  # the latter of GitHub Enterprise
    (re.compile(r"https?://gitlab\.|https?://.*/api/v4/user$"), "gitlab"),
    (re.compile(r"https://bitbucket\.org/"), "bitbucket"),
    (re.compile(r"https://(accounts\.google\.com|(oauth2|www)\.googleapis\.com)/"), "google"),
    (re.compile(r"https://login\.(microsoftonline\.(com|us)|windows\.net)/"), "azuread"),
    (re.compile(r"https?://.*/protocol/openid-connect/"), "keycloak"),
    (re.compile(r"https://[^/]*\.amazoncognito\.com/"), "cognito"),
)
_URLS = ("token_url", "authorize_url", "userdata_url")

# Their logins have no id_token, whatever is asked for.
NO_ID_TOKEN = ("github", "bitbucket", "mediawiki", "openshift")

# Hooks and methods that may put more into auth_state than the class does, or get more from the provider.
_HOOKS = (
    "modify_auth_state_hook",
    "refresh_user_hook",
    "post_auth_hook",
    "reconcile_auth_state_hook",
)
_METHODS = (
    *(
        "authenticate",
        "get_authenticated_user",
        "refresh_user",
        "run_post_auth_hook",
        "_call_modify_auth_state_hook",
    ),
    *(
        "build_access_tokens_request_params",
        "build_refresh_token_request_params",
        "build_token_info_request_headers",
    ),
    *("get_token_info", "httpfetch", "fetch", "token_to_user", "_token_to_auth_model"),
    *("build_auth_state_dict", "update_auth_model"),
)


def name_provider(setup: Setup) -> str:
    """The provider's name: as the preset's, where there is one; ``keycloak`` and ``oidc`` for generic ones."""
    authenticator = setup.authenticator
    if provider := name_of_class(authenticator):
        return provider
    urls = [str(getattr(authenticator, name, "")) for name in _URLS]
    for pattern, provider in _BY_URL:
        if any(map(pattern.match, urls)):
            return provider
    presets = {
        fields.get("preset") for fields in setup.tokens.values() if isinstance(fields, Mapping)
    }
    return "nbgallery" if "nbgallery" in presets else "oidc"


def name_of_class(authenticator: Any) -> str | None:
    """The provider of a class that is for one alone: it keeps the user info where the preset looks for it."""
    names = (base.__name__ for base in type(authenticator).__mro__)
    return next((_BY_CLASS[name] for name in names if name in _BY_CLASS), None)


def is_app(client_id: str) -> bool:
    """Whether a client id is one of a GitHub App."""
    return client_id.startswith("Iv")


def is_oauth_app(client_id: str) -> bool:
    """Whether a client id is one of a GitHub OAuth App, or there is none; of another form, it may be either's."""
    return bool(re.match(r"Ov|[0-9a-f]{20}$|$", client_id))


def own_class(authenticator: Any) -> type:
    """The class of OAuthenticator's that a login is made by, where the admin's own one derives from it."""
    found = [
        base
        for base in type(authenticator).__mro__
        if base.__module__.startswith("oauthenticator.")
    ]
    return found[0] if found else type(authenticator)


def stores_more(authenticator: Any) -> bool:
    """Whether a hook or a class of the admin's own may store what the class of OAuthenticator's does not."""
    if any(getattr(authenticator, hook, None) is not None for hook in _HOOKS):
        return True
    mro = type(authenticator).__mro__
    return any(
        name in vars(base)
        for base in mro[: mro.index(own_class(authenticator))]
        for name in _METHODS
    )


async def make_auth_state(setup: Setup) -> Mapping[str, Any] | None:
    """What the authenticator's own class makes of an answer of its provider; ``None`` if that cannot be tried."""
    authenticator, provider = setup.authenticator, name_provider(setup)
    answer: dict[str, Any] = {
        "access_token": "a",
        "token_type": "bearer",
        "scope": " ".join(authenticator.scope),
    }
    if provider not in NO_ID_TOKEN:
        answer["id_token"] = "i"
    if provider == "globus":
        answer["resource_server"] = "auth.globus.org"
        answer["other_tokens"] = [
            {"access_token": "a", "resource_server": server}
            for server in _resource_servers(authenticator.scope)
        ]
    if provider == "mediawiki":
        answer["access_token"] = SimpleNamespace(key="k", secret="s")
    try:
        state = authenticator.build_auth_state_dict(answer, {})
        found = await state if isawaitable(state) else state
    except Exception:
        return None
    return found if isinstance(found, Mapping) else None


def _resource_servers(scopes: list[str]) -> Iterator[str]:
    for scope in scopes:
        if match := re.match(
            r"urn:globus:auth:scope:([^:]+):|https://auth\.globus\.org/scopes/([^/]+)/", scope
        ):
            yield match[1] or match[2]


def stores(authenticator: Any, state: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted path can lead to something: what is inside of the provider's own answers is not known."""
    if _walk(state, key.split(".")):
        return True
    root, _, rest = key.partition(".")
    return (
        bool(rest)
        and root in state
        and root in (authenticator.user_auth_state_key, "token_response")
    )


def _walk(node: Any, path: list[str]) -> bool:
    if not path:
        return node is not None
    if not isinstance(node, Mapping):
        return False
    return any(
        _walk(node[key], path[end:])
        for end in range(len(path), 0, -1)
        if (key := ".".join(path[:end])) in node
    )


def list_paths(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted paths to all that is stored."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from list_paths(value, f"{prefix}{key}.")
    elif node is not None:
        yield prefix.removesuffix(".")
