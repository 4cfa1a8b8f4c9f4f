"""Checks of the login: what it keeps, which keys and scopes it has, and how it is renewed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from jupyterhub.crypto import KEY_ENV, CryptKeeper

from .finding import Finding, error, not_looked_at, warning
from .provider import list_stored, name_provider, own_class
from .setup import Setup

_POWERFUL = re.compile(
    r"api|sudo|repo|admin_mode|admin(:.*)?|.*:admin|delete_repo|repository:delete|account:write"
    r"|workflow|(write|delete):packages|(create|manage)_runner|k8s_proxy|write_registry"
)
_GOOGLES = "https://www.googleapis.com/auth/userinfo."  # as which Google grants email and profile
# Those that give a refresh token with the scope offline_access, and those that need no scope.
_OFFLINE = ("auth0", "azuread", "cilogon", "okta")
_UNASKED = ("bitbucket", "cognito", "github", "gitlab", "keycloak", "mediawiki")
# Seconds that a token lives, at providers where few change that.
_LIVES = {"keycloak": 300, "gitlab": 7200, "google": 3600, "azuread": 3600, "bitbucket": 7200}


def check_authenticator(setup: Setup) -> Iterator[Finding]:
    """A login brings tokens."""
    name, module = type(setup.authenticator).__name__, type(setup.authenticator).__module__
    if setup.is_oauth:
        return
    if not module.startswith("jupyterhub.") or setup.authenticator.post_auth_hook is not None:
        yield not_looked_at("authenticator", f"the login, since {name} is not an OAuthenticator")
    else:
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
    cls, answers = own_class(authenticator), (authenticator.user_auth_state_key, "token_response")
    if not stored:
        what = "the specs' keys, since tokens_hook, a hook or a class of the config may store more"
        yield not_looked_at("keys", what)
    for spec in setup.specs if stored else ():
        root = "" if callable(spec.key) else spec.key.partition(".")[0]
        if root in ("", *answers):
            what = f"tokens[{spec.name!r}].key, which a function or the provider's answer decides"
            yield not_looked_at("keys", what)
        elif root not in stored:
            what = f"tokens[{spec.name!r}].key: {cls.__name__} never stores {spec.key!r}."
            yield error("key-never-stored", what, f"name a key that it stores: {', '.join(stored)}")
        elif root == "id_token" and "openid" not in authenticator.scope:
            what = f"tokens[{spec.name!r}] is the id_token, and the login does not ask for openid."
            fix = f'add "openid" to {setup.place(authenticator, "scope", cls.__name__)}'
            yield error("id-token-not-asked", what, fix)


def check_scopes(setup: Setup) -> Iterator[Finding]:
    """The login asks for the scopes that the tokens need, and for not much more."""
    provider, asked = name_provider(setup), list(setup.authenticator.scope)
    if provider == "bitbucket" and not asked:
        what = "the scopes, which Bitbucket grants as the consumer is registered for them"
        yield not_looked_at("scopes", what)
        return
    granted = asked or (["api"] if provider == "gitlab" else [])
    if provider == "google":
        granted = [*granted, *(_GOOGLES + scope for scope in asked)]
    cls = own_class(setup.authenticator).__name__
    place = setup.place(setup.authenticator, "scope", cls)
    for spec in (each for each in setup.of_login if each.exchange is None):
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
    is_offline = dict(authenticator.extra_authorize_params).get("access_type") == "offline"
    if provider == "google":
        if not is_offline and "access_type=offline" not in authenticator.authorize_url:
            place = setup.place(authenticator, "extra_authorize_params", cls)
            what = "The login does not ask Google for offline access."
            fix = f'add {{"access_type": "offline", "prompt": "consent"}} to {place}'
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
    elif "offline_access" in scopes or provider in _UNASKED:
        return
    elif provider in _OFFLINE:
        what = "The login does not ask for the scope offline_access."
        fix = f'add "offline_access" to {setup.place(authenticator, "scope", cls)}'
        yield warning("refresh-token-not-asked", what, fix)
    else:
        what = "whether this provider gives a refresh token: some do only with the scope "
        what += "offline_access, and others refuse a login that asks for it"
        yield not_looked_at("refresh-token", what)


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
    provider, delay = name_provider(setup), setup.spawner.delivery_delay
    total = _LIVES.get(provider)
    if total is None and 0 < delay < math.inf:
        yield not_looked_at("lifetime", "how long a token of this provider lives")
    # Renewal begins at half of a life; a tenth of the other half is for the scatter.
    elif total is not None and total * 0.4 < delay < math.inf:
        what = (
            f"A token of {provider} lives {total} seconds by default, and {delay:.0f} pass until "
            "a running server has a new one."
        )
        fix = (
            f"let tokens live {math.ceil(delay / 24) * 60} seconds at least, or let kubelets look "
            f"more often (syncFrequency) and set tokens_sync_period = {total * 4 // 10} or less"
        )
        yield warning("lifetime-too-short", what, fix)
