"""Checks of the login: whether its tokens are kept, and whether the keys of the specs are among them."""

from __future__ import annotations

import difflib
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

from jupyterhub.crypto import KEY_ENV, CryptKeeper
from traitlets.config import Config

from ..tokens.lookup import is_token_key, names_refresh_token
from ..tokens.presets import PRESETS, PROVIDERS
from ..tokens.spec import TokenSpec
from .finding import Code, Finding, Setting, Shell, Words, error, warning
from .provider import (
    list_paths,
    make_auth_state,
    name_of_class,
    name_provider,
    own_class,
    stores,
    stores_more,
)
from .scopes import mend_scope
from .setup import Setup

_KEY = Shell(
    f"export {KEY_ENV}=$(openssl rand -hex 32)  # once: keep it in the environment of the Hub's service"
)


def check_auth_state(setup: Setup) -> Iterator[Finding]:
    """Auth state is kept, and encrypted with a good key."""
    if not setup.authenticator.enable_auth_state:
        yield error(
            "auth-state-off",
            "The Hub does not keep the tokens of a login: auth state is off.",
            "Without it there is nothing to deliver: all tokens have the status auth_state_off.",
            setup.setting(setup.authenticator, "enable_auth_state", True, "Authenticator"),
        )
    keeper = dict(setup.config.CryptKeeper)
    threads = {"n_threads": keeper.pop("n_threads")} if "n_threads" in keeper else {}
    try:
        CryptKeeper(config=Config(CryptKeeper=threads)).executor  # which has no thread yet
    except Exception:
        yield error(
            "crypt-key-bad",
            "c.CryptKeeper.n_threads is no number of threads.",
            "The Hub cannot encrypt with it, nor decrypt.",
            Setting(
                ("CryptKeeper", "n_threads"),
                1,
                "or no such line: then as many as there are processors",
            ),
        )
    if setup.is_chart and "keys" not in keeper:  # the chart makes one itself
        return
    try:
        keys = CryptKeeper(config=Config(CryptKeeper=keeper)).keys
    except Exception:  # its text has the key
        yield error(
            "crypt-key-bad",
            f"A crypt key is none: a key is 32 bytes, as 64 hexadecimal digits or in base64, in {KEY_ENV} "
            "or c.CryptKeeper.keys.",
            "The Hub does not start with it.",
            *_mend_keys(setup, keeper),
        )
        return
    if not keys:
        yield error(
            "crypt-key-missing",
            f"There is no crypt key: {KEY_ENV} is not set where this command runs.",
            "The Hub keeps auth_state encrypted or not at all: it does not start with auth state on and no key. If the "
            "Hub's service has a key, run this command with the same environment.",
            _KEY,
        )


def _mend_keys(setup: Setup, keeper: Mapping[str, object]) -> Iterator[Code | Shell | Words]:
    """A good key stays: what the database has is encrypted with it."""
    given, place = keeper.get("keys"), "c.CryptKeeper.keys"
    if "keys" not in keeper:
        given, place = (
            [key for key in os.environ.get(KEY_ENV, "").split(";") if key.strip()],
            KEY_ENV,
        )
    keys = given if isinstance(given, (list, tuple)) else []
    bad = [str(number) for number, key in enumerate(keys, 1) if not _is_key(key)]
    if len(bad) < len(keys):
        yield Words(
            f"remove the bad one from {place}, number {', '.join(bad)} of {len(keys)}, and keep what is good"
        )
    elif setup.is_chart:
        yield Words(
            "the chart makes a key itself: remove", ("hub", "config", "CryptKeeper", "keys")
        )
    else:
        yield from [Code("del c.CryptKeeper.keys")] if "keys" in keeper else []
        yield _KEY


def _is_key(key: object) -> bool:
    try:
        return bool(CryptKeeper(config=Config(CryptKeeper={"keys": [key]})).keys)
    except Exception:
        return False


def check_authenticator(setup: Setup) -> Iterator[Finding]:
    """A login brings tokens."""
    authenticator = setup.authenticator
    name = type(authenticator).__name__
    if (
        type(authenticator).__module__.startswith("jupyterhub.")
        and authenticator.post_auth_hook is None
    ):
        yield error(
            "login-without-tokens",
            f"Users log in by {name}, which asks no OAuth provider: there will be no token.",
            "All tokens are absent.",
            Setting(
                ("JupyterHub", "authenticator_class"),
                _likely_authenticator(setup),
                "and its own settings",
            ),
        )


def _likely_authenticator(setup: Setup) -> str:
    """The entry point of OAuthenticator's that goes with the presets."""
    presets = [fields.get("preset") for fields in setup.tokens.values() if isinstance(fields, dict)]
    known = [
        str(preset)
        for preset in presets
        if preset in PROVIDERS and preset not in ("oidc", "nbgallery")
    ]
    return known[0] if known else "generic-oauth"


async def check_keys(setup: Setup) -> AsyncIterator[Finding]:
    """The keys of the specs are in what the login stores."""
    authenticator = setup.authenticator
    if (
        stores_more(authenticator) or setup.spawner.tokens_hook is not None
    ):  # it may give values that the login does not
        return
    state = await make_auth_state(setup)
    if state is None:
        return
    known = [path for path in list_paths(state) if not names_refresh_token(path)]
    cls = own_class(authenticator).__name__
    for spec in setup.specs:
        fields = setup.tokens[spec.name]
        if isinstance(spec.key, str) and not stores(authenticator, state, spec.key):
            yield error(
                "key-never-stored",
                f"tokens[{spec.name!r}].key: {cls} never stores {spec.key!r}.",
                "The token is absent at each spawn.",
                *_nearest_key(setup, spec, known),
            )
        elif spec.key == "id_token" and "openid" not in authenticator.scope:
            yield error(
                "id-token-not-asked",
                f"tokens[{spec.name!r}] wants the id_token, and the login does not ask for the scope openid.",
                "A provider of OpenID Connect gives an id_token only with it.",
                mend_scope(setup),
            )
        lost = [
            variable
            for variable, key in spec.variables.items()
            if isinstance(key, str) and not stores(authenticator, state, key)
        ]
        if lost:
            keys = ", ".join(f"{variable} ({spec.variables[variable]})" for variable in lost)
            yield warning(
                "variable-never-stored",
                f"tokens[{spec.name!r}]: {cls} never stores what these variables are to hold: {keys}.",
                "They are left out, silently.",
                *_mend_variables(setup, spec, fields, lost, known),
            )


def _nearest_key(
    setup: Setup, spec: TokenSpec, known: Iterable[str]
) -> list[Setting | Code | Words]:
    tokens = [path for path in known if is_token_key(path) or path == "ACCESS_TOKEN_SECRET"]
    if spec.key == "id_token":  # another token would be none
        return [
            Words(
                f"this login has no id_token; remove tokens[{spec.name!r}], or log in at a provider that gives one"
            )
        ]
    others = [path for path in tokens if path != "id_token"]
    place, _, last = str(spec.key).rpartition(".")
    if (
        place
        and last not in others
        and not difflib.get_close_matches(place, {path.rpartition(".")[0] for path in known})
    ):
        found = ", ".join(others)
        return [
            Words(
                f"this login has {found}; if it is none of them, let tokens_hook get tokens[{spec.name!r}]"
            )
        ]
    # An id_token is never what "token" means: only its own name, misspelt, where there is one.
    has_id_token = "openid" in setup.authenticator.scope and "id_token" in tokens
    near = difflib.get_close_matches(
        str(spec.key), ["id_token"] if has_id_token else [], cutoff=0.8
    )
    near = near or difflib.get_close_matches(str(spec.key), others, n=1, cutoff=0.6)
    near = near or [path for path in others if path == "access_token"]
    near = near or difflib.get_close_matches(str(spec.key), others, n=1, cutoff=0)
    return (
        setup.of_token(spec.name, "key", near[0])
        if near
        else [Words("look at what the login stores")]
    )


def _mend_variables(
    setup: Setup, spec: TokenSpec, fields: object, lost: list[str], known: list[str]
) -> list[Setting | Code | Words]:
    assert isinstance(fields, Mapping)
    given, preset = fields.get("preset"), _fitting_preset(setup)
    if (
        "variables" not in fields
        and preset is not None
        and given not in (preset, name_provider(setup))
    ):
        return setup.of_token(spec.name, "preset", preset)
    user_key = setup.authenticator.user_auth_state_key
    mended: dict[str, object] = dict(fields.get("variables") or spec.variables)
    for variable, key in spec.variables.items():
        if variable in lost and isinstance(key, str):
            near = difflib.get_close_matches(key, known, n=1)
            claim = key.rpartition(".")[2]
            key = (
                f"{user_key}.{claim}"
                if key.count(".")
                else (near[0] if near else f"{user_key}.{claim}")
            )
            if is_token_key(key):
                key = f"{user_key}.{claim}"
            mended[variable] = key
    return setup.of_token(spec.name, "variables", mended)


def _fitting_preset(setup: Setup) -> str | None:
    """The preset that knows where this login keeps the user info."""
    provider = name_of_class(setup.authenticator) or (
        "nbgallery" if name_provider(setup) == "nbgallery" else "oidc"
    )
    provider = {"auth0": "oidc", "cilogon": "oidc"}.get(provider, provider)
    return (
        provider if provider in PRESETS and PROVIDERS[provider].get("url", "") is not None else None
    )
