"""The provider behind an authenticator, and what a login at it leaves in auth_state."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from inspect import isawaitable
from types import SimpleNamespace
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
    "cilogon": "CILogonOAuthenticator",
    "auth0": "Auth0OAuthenticator",
    "keycloak": r"https?://.*/protocol/openid-connect/.*",
    "cognito": r"https://[^/]*\.amazoncognito\.com/.*",
}
# A login at these has no id_token, whatever it asks for.
_NO_ID_TOKEN = ("github", "bitbucket", "mediawiki", "openshift")
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


def list_stored(setup: Setup) -> list[str]:
    """The dotted paths of what a login stores. None are listed where that is not known."""
    authenticator = setup.authenticator
    if setup.spawner.tokens_hook is not None or _stores_more(authenticator):
        return []
    try:
        return list(_list_paths(asyncio.run(_build(authenticator, _make_answer(setup)))))
    except Exception:
        return []


async def _build(authenticator: Any, answer: Mapping[str, Any]) -> Any:
    state = authenticator.build_auth_state_dict(answer, {})
    return await state if isawaitable(state) else state


def _stores_more(authenticator: Any) -> bool:
    """Whether a hook or a class of the admin's may store what OAuthenticator's class does not."""
    mro = type(authenticator).__mro__
    own = {name for base in mro[: mro.index(own_class(authenticator))] for name in vars(base)}
    return any(getattr(authenticator, hook, None) is not None for hook in _HOOKS) or any(
        re.search("authenticate|auth_state|auth_model|token|refresh|fetch|hook", name)
        for name in own
    )


def _make_answer(setup: Setup) -> dict[str, Any]:
    """What the provider answers to a login."""
    provider, scopes = name_provider(setup), " ".join(setup.authenticator.scope)
    answer: dict[str, Any] = {"access_token": "a", "token_type": "bearer", "scope": scopes}
    if provider not in _NO_ID_TOKEN:
        answer["id_token"] = "i"
    if provider == "globus":
        servers = re.findall(
            r"urn:globus:auth:scope:([^:]+):|auth\.globus\.org/scopes/([^/]+)/", scopes
        )
        others = [{"access_token": "a", "resource_server": old or new} for old, new in servers]
        answer |= {"resource_server": "auth.globus.org", "other_tokens": others}
    if provider == "mediawiki":
        answer["access_token"] = SimpleNamespace(key="k", secret="s")
    return answer


def _list_paths(node: Any, prefix: str = "") -> Iterator[str]:
    """The dotted paths to everything that is stored."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _list_paths(value, f"{prefix}{key}.")
    elif node is not None:
        yield prefix.removesuffix(".")


def may_store(authenticator: Any, stored: list[str], key: str) -> bool:
    """Whether a path leads to something. The inside of the provider's own answers is not known."""
    root, _, inside = key.partition(".")
    is_answer = root in (authenticator.user_auth_state_key, "token_response")
    return key in stored or bool(inside and is_answer)
