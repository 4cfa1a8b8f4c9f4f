"""Checks of the login: what it keeps, which keys and scopes it has, and how it is renewed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from jupyterhub.crypto import KEY_ENV, CryptKeeper

from ..tokens.lifetime import Lifetime
from ..tokens.lookup import is_token_key
from .finding import Finding, error, warning
from .provider import list_stored, may_store, name_provider, own_class
from .setup import Setup

_POWERFUL = re.compile(
    r"api|sudo|repo|admin_mode|admin(:.*)?|.*:admin|delete_repo|repository:delete|account:write"
    r"|workflow|(write|delete):packages|(create|manage)_runner|k8s_proxy|write_registry"
)
_GOOGLES = "https://www.googleapis.com/auth/userinfo."  # as which Google grants email and profile
# Seconds that a token lives, at providers where few change that.
_LIVES = {"keycloak": 300, "gitlab": 7200, "google": 3600, "azuread": 3600, "bitbucket": 7200}


def check_authenticator(setup: Setup) -> Iterator[Finding]:
    """A login brings tokens."""
    if not setup.is_oauth and setup.authenticator.post_auth_hook is None:
        name = type(setup.authenticator).__name__
        what = f"Users log in by {name}, which asks no OAuth provider."
        fix = "set c.JupyterHub.authenticator_class to one of OAuthenticator's, as 'generic-oauth'"
        yield error("login-without-tokens", what, fix)


def check_auth_state(setup: Setup) -> Iterator[Finding]:
    """The tokens of a login are kept."""
    if not setup.authenticator.enable_auth_state:
        what = "The Hub does not keep the tokens of a login: auth state is off."
        fix = setup.setting(setup.authenticator, "enable_auth_state", True, "Authenticator")
        yield error("auth-state-off", what, fix)


def check_crypt_key(setup: Setup) -> Iterator[Finding]:
    """There is a good crypt key."""
    if setup.is_chart and "keys" not in setup.config.CryptKeeper:  # the chart generates one
        return
    try:
        keeper = CryptKeeper(config=setup.config)
        keys, _ = keeper.keys, keeper.executor  # which refuses a bad number of threads
    except Exception:  # its text has the key
        what = (
            f"A crypt key or another setting of c.CryptKeeper is not valid. A key is 32 bytes, "
            f"as 64 hexadecimal digits or in base64, in {KEY_ENV} or c.CryptKeeper.keys."
        )
        fix = "replace the key that is not valid, and keep the others: the database may need them"
        yield error("crypt-key-bad", what, fix)
        return
    if not keys:
        what = f"There is no crypt key: {KEY_ENV} is not set where this command runs."
        fix = f"export {KEY_ENV}=$(openssl rand -hex 32)  # once: keep it in the Hub's environment"
        yield error("crypt-key-missing", what, fix)


def check_keys(setup: Setup) -> Iterator[Finding]:
    """The keys of the specs are in what the login stores."""
    authenticator, stored = setup.authenticator, list_stored(setup)
    cls = own_class(authenticator).__name__
    tokens = [key for key in stored if is_token_key(key) or key.startswith("ACCESS_TOKEN")]
    listed = ", ".join(key for key in tokens if not key.startswith("token_response."))
    for spec in setup.specs:
        if stored and not (callable(spec.key) or may_store(authenticator, stored, spec.key)):
            what = f"tokens[{spec.name!r}].key: {cls} never stores {spec.key!r}."
            yield error("key-never-stored", what, f"name a key that it stores: {listed}")
        elif stored and spec.key == "id_token" and "openid" not in authenticator.scope:
            what = (
                f"tokens[{spec.name!r}] wants the id_token, and the login does not ask for openid."
            )
            fix = f'add "openid" to {setup.place(authenticator, "scope", cls)}'
            yield error("id-token-not-asked", what, fix)


def check_scopes(setup: Setup) -> Iterator[Finding]:
    """The login asks for the scopes that the tokens need, and for not much more."""
    provider, asked = name_provider(setup), list(setup.authenticator.scope)
    if provider == "bitbucket" and not asked:  # it grants what the consumer is registered for
        return
    granted = asked or (["api"] if provider == "gitlab" else [])
    if provider == "google":
        granted = [*granted, *(_GOOGLES + scope for scope in asked)]
    cls = own_class(setup.authenticator).__name__
    place = setup.place(setup.authenticator, "scope", cls)
    for spec in setup.of_login:
        if missing := ", ".join(each for each in spec.required_scopes if each not in granted):
            what = f"tokens[{spec.name!r}] requires {missing}, and the login does not ask for it."
            fix = f"add {missing} to {place}, or remove it from required_scopes"
            yield error("scopes-not-asked", what, fix)
        if forbidden := ", ".join(each for each in spec.forbidden_scopes if each in granted):
            what = f"tokens[{spec.name!r}] forbids {forbidden}, and the login asks for it."
            fix = f"remove {forbidden} from {place}, or from forbidden_scopes"
            yield error("scopes-forbidden-asked", what, fix)
    known = {each for spec in setup.specs for each in spec.required_scopes + spec.forbidden_scopes}
    powerful = [each for each in granted if _POWERFUL.fullmatch(each) and each not in known]
    if powerful:
        what = f"The login asks for more than most servers need: {', '.join(powerful)}."
        what = what if asked else "The login asks for no scope, which at GitLab means api."
        fix = f"ask for less in {place}, or name what servers need in required_scopes of a spec"
        yield warning("scopes-too-powerful", what, fix)


def check_refresh_token(setup: Setup) -> Iterator[Finding]:
    """The provider is asked for a refresh token."""
    authenticator, provider = setup.authenticator, name_provider(setup)
    cls, scopes = own_class(authenticator).__name__, authenticator.scope
    # Without openid, a provider of plain OAuth 2 gives a refresh token unasked, or not at all.
    is_openid = provider in ("azuread", "auth0", "cilogon") or (
        provider == "oidc" and "openid" in scopes
    )
    is_offline = dict(authenticator.extra_authorize_params).get("access_type") == "offline"
    if provider == "google":
        if not is_offline and "access_type=offline" not in authenticator.authorize_url:
            place = setup.place(authenticator, "extra_authorize_params", cls)
            what = "The login does not ask Google for offline access."
            fix = f'add {{"access_type": "offline", "prompt": "consent"}} to {place}'
            yield warning("refresh-token-not-asked", what, fix)
    elif is_openid and "offline_access" not in scopes:
        what = "The login does not ask for the scope offline_access."
        fix = f'add "offline_access" to {setup.place(authenticator, "scope", cls)}'
        yield warning("refresh-token-not-asked", what, fix)
    elif provider == "github" and re.match(r"Ov|[0-9a-f]{20}$|$", authenticator.client_id):
        what = (
            "The client id is of an OAuth App of GitHub: its tokens have no end, and no refresh "
            "token. One that leaks works until somebody revokes it."
        )
        fix = "register a GitHub App with expiring user tokens, and use its client id (Iv…)"
        yield warning("refresh-token-never", what, fix)
    elif provider == "nbgallery":
        policy = setup.spawner.tokens_missing
        for spec in setup.of_login:
            if (spec.missing or policy) != "refuse":
                what = "NBGallery issues no refresh tokens: a server may start with a dead token."
                fix = f'set "missing": "refuse" in tokens[{spec.name!r}]: the user logs in again'
                yield warning("refresh-token-never", what, fix)


def check_refresh_user(setup: Setup) -> Iterator[Finding]:
    """The Hub's own refreshes are off, where MWOAuthenticator fails in them."""
    authenticator, cls = setup.authenticator, own_class(setup.authenticator).__name__
    if authenticator.refresh_pre_spawn or authenticator.auth_refresh_age:
        what = "The refresh_user of MWOAuthenticator raises a TypeError, and the Hub calls it."
        off = {"refresh_pre_spawn": False, "auth_refresh_age": 0}
        fix = "\n".join(setup.setting(authenticator, name, off[name], cls) for name in off)
        yield error("refresh-fails", what, fix)


def check_lifetime(setup: Setup) -> Iterator[Finding]:
    """New tokens reach running servers before the old ones expire."""
    provider, spawner = name_provider(setup), setup.spawner
    total, delay = _LIVES.get(provider, math.inf), spawner.delivery_delay
    late = []
    for spec in setup.of_login if 0 < delay < math.inf > total else ():
        least = spawner.tokens_min_lifetime if spec.min_lifetime is None else spec.min_lifetime
        renewed = Lifetime(0, total, total).stale_at(least, delay, spread=1)
        if spec.file and renewed + delay > total:
            late.append(spec.name)
    if late:
        # Renewal begins at half of a life; a tenth of the other half is for the scatter.
        needed = math.ceil(delay / 0.4 / 60) * 60
        what = (
            f"A token of {provider} lives {total} seconds by default, and {delay:.0f} pass until "
            f"a running server has a new one: {', '.join(late)}."
        )
        fix = (
            f"let tokens live {needed} seconds at least, or let kubelets look more often "
            f"(syncFrequency) and set tokens_sync_period = {int(total * 0.4)} or less"
        )
        yield warning("lifetime-too-short", what, fix)
