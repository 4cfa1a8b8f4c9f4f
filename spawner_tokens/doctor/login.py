"""Checks of the login: whether its tokens are kept, and whether the specs' keys are among them."""

from __future__ import annotations

from collections.abc import Iterator

from jupyterhub.crypto import KEY_ENV, CryptKeeper

from ..tokens.lookup import is_token_key, names_refresh_token
from .finding import Finding, error
from .provider import list_paths, make_auth_state, may_store, own_class, stores_more
from .setup import Setup


def check_authenticator(setup: Setup) -> Iterator[Finding]:
    """A login brings tokens."""
    authenticator = setup.authenticator
    is_hubs = type(authenticator).__module__.startswith("jupyterhub.")
    if is_hubs and authenticator.post_auth_hook is None:
        yield error(
            "login-without-tokens",
            f"Users log in by {type(authenticator).__name__}, which asks no OAuth provider.",
            "set c.JupyterHub.authenticator_class to one of OAuthenticator's, as 'generic-oauth'",
        )


def check_auth_state(setup: Setup) -> Iterator[Finding]:
    """The tokens of a login are kept."""
    authenticator = setup.authenticator
    if not authenticator.enable_auth_state:
        fix = setup.setting(authenticator, "enable_auth_state", True, "Authenticator")
        what = "The Hub does not keep the tokens of a login: auth state is off."
        yield error("auth-state-off", what, fix)


def check_crypt_key(setup: Setup) -> Iterator[Finding]:
    """There is a good crypt key."""
    if setup.is_chart and "keys" not in setup.config.CryptKeeper:  # the chart generates one
        return
    try:
        keeper = CryptKeeper(config=setup.config)
        keys, _ = keeper.keys, keeper.executor  # which refuses a bad number of threads
    except Exception:  # its text has the key
        yield error(
            "crypt-key-bad",
            f"A crypt key or another setting of c.CryptKeeper is not valid. A key is 32 bytes, "
            f"as 64 hexadecimal digits or in base64, in {KEY_ENV} or c.CryptKeeper.keys.",
            "replace the key that is not valid, and keep the others: the database may need them",
        )
        return
    if not keys:
        yield error(
            "crypt-key-missing",
            f"There is no crypt key: {KEY_ENV} is not set where this command runs.",
            f"export {KEY_ENV}=$(openssl rand -hex 32)  # once: keep it in the Hub's environment",
        )


def check_keys(setup: Setup) -> Iterator[Finding]:
    """The keys of the specs are in what the login stores."""
    authenticator = setup.authenticator
    if stores_more(authenticator) or setup.spawner.tokens_hook is not None:
        return
    state = make_auth_state(setup)
    if state is None:
        return
    known = [
        path
        for path in list_paths(state)
        if (is_token_key(path) or path.startswith("ACCESS_TOKEN"))
        and not names_refresh_token(path)
        and not path.startswith("token_response.")
    ]
    cls = own_class(authenticator).__name__
    for spec in setup.specs:
        if isinstance(spec.key, str) and not may_store(authenticator, state, spec.key):
            yield error(
                "key-never-stored",
                f"tokens[{spec.name!r}].key: {cls} never stores {spec.key!r}.",
                f"name a key that it stores: {', '.join(known)}",
            )
        elif spec.key == "id_token" and "openid" not in authenticator.scope:
            yield error(
                "id-token-not-asked",
                f"tokens[{spec.name!r}] wants the id_token, and the login does not ask for openid.",
                f'add "openid" to {setup.place(authenticator, "scope", cls)}',
            )
