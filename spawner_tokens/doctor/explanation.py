"""One user's tokens as a server of theirs would get them now, or why not, without a value."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from sqlalchemy.orm import Session
from traitlets.config import Config

from ..backends.hostfiles import find_private_directory
from ..backends.local import LocalTokenMixin, find_parent
from ..refusal import explain
from ..renewal import read_login
from ..sharing import is_shared
from ..tokens.files import make_env
from ..tokens.guard import find_policy, guard
from ..tokens.scopes import find_requested_scopes
from ..tokens.selection import Login, check, select
from ..tokens.spec import TokenSpec
from .database import read_database
from .loading import silenced
from .setup import Setup, set_up, stand_in


class ExplanationError(Exception):
    """There is nothing to explain. The text says why, and what to do."""


def explain_user(config: Config, username: str, server: str = "") -> dict[str, Any]:
    """What ``spawner-tokens explain --json`` prints.

    Times are in seconds since the epoch; ``None`` is not known. Raises :exc:`ExplanationError`, or
    :exc:`~.database.DatabaseError`.
    """
    with silenced():  # a logger of the config's may show rows
        with stand_in() as other:
            setup = _set_up(config, other)
        with read_database(setup.app.db_url, setup.app.db_kwargs) as session:
            user = _find_user(setup, session, username)
            row = session.query(orm.Spawner).filter_by(user_id=user.id, name=server).one_or_none()
            setup = _set_up(config, user, server)
            login, now = _read_login(setup, user.encrypted_auth_state), time.time()
            shared = row is not None and is_shared(session, row)
            return {
                "user": user.name,
                "server": server,
                "now": now,
                "tokens": [_explain(setup, spec, login, now, shared) for spec in setup.specs],
                "notes": [*_list_notes(setup, row), *_list_exchanged(setup)],
            }


def _set_up(config: Config, user: orm.User, server: str = "") -> Setup:
    setup = asyncio.run(set_up(config, user, server))
    for part, why in setup.failures.items():
        raise ExplanationError(f"the {part} of this config cannot be made: {why}")
    if not setup.has_mixin:
        name = setup.spawner_class.__name__
        raise ExplanationError(f"{name} hands over no tokens: run spawner-tokens doctor")
    if setup.spec_error:
        raise ExplanationError(str(setup.spec_error))
    return setup


def _find_user(setup: Setup, session: Session, name: str) -> orm.User:
    """By the name in the Hub, or one that logs in as it."""
    for each in (name, setup.authenticator.normalize_username(name)):
        user: orm.User | None = session.query(orm.User).filter_by(name=each).one_or_none()
        if user is not None:
            return user
    raise ExplanationError(f"the Hub's database has no user {name!r}")


def _read_login(setup: Setup, encrypted: bytes | None) -> Login:
    try:
        keeper = CryptKeeper(config=setup.config)
    except Exception:  # its text has the key
        raise ExplanationError("a crypt key is not valid: run spawner-tokens doctor") from None
    return read_login(setup.authenticator.enable_auth_state, encrypted, keeper)


def _explain(
    setup: Setup, spec: TokenSpec, login: Login, now: float, shared: bool
) -> dict[str, Any]:
    spawner = setup.spawner
    if spec.exchange is not None:  # which is in a Hub's memory alone: this is its subject token
        spec = replace(spec, exchange=None, required_scopes=(), forbidden_scopes=())
    try:
        token = select(spec, login, find_requested_scopes(setup.authenticator))
    except SystemExit:  # its text may be a value
        raise ExplanationError(f"a function of tokens[{spec.name!r}] exits") from None
    token = check(token, now, spawner.tokens_min_lifetime)
    (token,), where = guard([token], spawner.tokens_shared, shared), _find_directory(setup)
    text = token.text
    owned = {"SPAWNER_TOKENS_DIR", *spawner.admin_variables}  # the admin's own variables win
    path = f"{where}/{spec.name}" if spec.file and text is not None else None
    variables = [name for name in make_env([token], where) if name not in owned]
    asked = "hub" if spawner.tokens_pull else "variable" if variables else None
    return {
        "name": spec.name,
        "status": token.reason.value if token.reason else "ok",
        "why": explain(token.reason, token.detail) if token.reason else "",
        "policy": find_policy(token, spawner.tokens_shared, spawner.tokens_missing),
        "where": path or (None if text is None else asked),
        "variables": variables,
        "path": path,
        "length": None if text is None else len(text),
        "fingerprint": None if text is None else hashlib.sha256(text.encode()).hexdigest()[:12],
        "issued_at": token.lifetime.issued_at,
        "expires_at": token.lifetime.expires_at,
        "scopes": token.scopes,
    }


def _find_directory(setup: Setup) -> str:
    """Where the server finds its files; ``…`` where that is decided at its start."""
    spawner = setup.spawner
    if isinstance(spawner, LocalTokenMixin) and not spawner.trait_has_value("tokens_mount_path"):
        # The default of this trait makes a directory.
        if (found := find_private_directory(find_parent(spawner.log))) is None:
            return "…"
        spawner.tokens_mount_path = found
    try:
        return str(spawner.tokens_directory)
    except Exception:  # of a local server that was never started
        return "…"


def _list_notes(setup: Setup, row: orm.Spawner | None) -> Iterator[str]:
    spawner = setup.spawner
    if not setup.specs:
        yield "This config declares no tokens."
    claims = {variable for spec in setup.specs for variable in spec.claims}
    if won := claims & {*spawner.admin_variables}:
        yield f"Spawner.environment wins over the tokens with: {', '.join(sorted(won))}."
    if spawner.tokens_hook is not None:
        yield "tokens_hook is not run here: it may change, add or withhold values."
    if spawner.tokens_renew:
        yield "At a spawn, a token that is short-lived is renewed first; here nothing is."
    if spawner.tokens_pull:
        yield "The server may ask the Hub for these tokens: tokens_pull."
    for trait in ("group_overrides", "profile_list"):
        if getattr(spawner, trait, None):
            yield f"{trait} is not looked at: it may change the specs."
    if _find_directory(setup) == "…":
        yield "The directory of its files (…) is made when it starts."
    if row is not None and row.server_id is not None:
        yield "The server runs: its variables and specs are as they were when it started."


def _list_exchanged(setup: Setup) -> Iterator[str]:
    for spec in setup.specs:
        if spec.exchange is not None:
            yield f"{spec.name} is exchanged when a server needs it: here is its subject token."
