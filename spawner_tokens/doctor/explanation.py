"""One user's tokens as a server of theirs would get them now, or why not: told without a value."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography.fernet import InvalidToken
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from sqlalchemy.orm import Session
from traitlets.config import Config

from ..refusal import explain
from ..tokens.files import make_env
from ..tokens.selection import Reason, Token, check, select
from .database import read_database
from .loading import describe, unheard
from .setup import Setup, set_up, stand_in


class ExplanationError(Exception):
    """There is nothing to explain. The text says why, and what to do."""


@dataclass(frozen=True)
class Explained:
    """A token without its value. Times are seconds since the epoch; what is not known is ``None``."""

    name: str
    status: str
    why: str
    policy: str
    variables: Sequence[str]
    path: str | None
    length: int | None
    fingerprint: str | None
    issued_at: float | None
    expires_at: float | None
    scopes: Sequence[str] | None


@dataclass(frozen=True)
class Explanation:
    """``now`` in seconds since the epoch. ``notes`` are what else there is to know of this server."""

    user: str
    server: str
    now: float
    tokens: Sequence[Explained]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class _State:
    """A user's auth_state, or why there is none."""

    auth_state: Mapping[str, Any] | None = field(default=None, repr=False)
    reason: Reason | None = None


async def explain_user(
    config: Config, username: str, server: str = "", now: float | None = None
) -> Explanation:
    """Raises :exc:`ExplanationError`, or :exc:`~.database.DatabaseError`."""
    with unheard():  # a logger of the config's may show rows
        with stand_in() as nobody:
            setup = set_up(config, nobody)
            _expect_sound(setup)
        with read_database(setup.app.db_url, setup.app.db_kwargs) as session:
            user = _find_user(setup, session, username)
            row = session.query(orm.Spawner).filter_by(user_id=user.id, name=server).one_or_none()
            setup = set_up(config, user, server)
            _expect_sound(setup)
            state = _read_auth_state(setup, user.encrypted_auth_state)
            moment = time.time() if now is None else now
            directory, no_directory = _find_directory(setup, row)
            tokens = tuple(
                _tell(setup, _select(setup, state, spec, moment), directory) for spec in setup.specs
            )
            return Explanation(
                user.name, server, moment, tokens, tuple(_note(setup, row, no_directory))
            )


def _find_user(setup: Setup, session: Session, name: str) -> orm.User:
    """By the name in the Hub, or one that logs in as it."""
    for each in (name, setup.authenticator.normalize_username(name)):
        user: orm.User | None = session.query(orm.User).filter_by(name=each).one_or_none()
        if user is not None:
            return user
    raise ExplanationError(f"the Hub's database has no user {name!r}")


def _expect_sound(setup: Setup) -> None:
    for part, why in setup.failures.items():
        raise ExplanationError(f"the {part} of this config cannot be made: {why}")
    if setup.spawner_class is not None and not setup.has_mixin:
        raise ExplanationError(
            f"{setup.spawner_class.__name__} hands over no tokens: run spawner-tokens doctor"
        )
    for problem in setup.spec_errors:
        raise ExplanationError(str(problem))


def _read_auth_state(setup: Setup, encrypted: bytes | None) -> _State:
    """As the Hub reads it, but nothing is encrypted anew when there are several keys."""
    if not setup.authenticator.enable_auth_state:
        return _State(reason=Reason.AUTH_STATE_OFF)
    try:
        keeper = CryptKeeper(config=setup.config)
        fernet = keeper.fernet
    except Exception:  # its text has the key
        raise ExplanationError("a crypt key is none: run spawner-tokens doctor") from None
    if fernet is None:
        return _State(reason=Reason.NO_CRYPT_KEY)
    if encrypted is None:
        return _State(reason=Reason.NEVER_STORED)
    try:
        auth_state = keeper._decrypt(encrypted)
    except (InvalidToken, ValueError):
        return _State(reason=Reason.UNDECRYPTABLE)
    return _State(auth_state if isinstance(auth_state, dict) else {})


def _select(setup: Setup, state: _State, spec: Any, now: float) -> Token:
    if state.auth_state is None:
        return Token(spec, reason=state.reason)
    scope = getattr(setup.authenticator, "scope", None)
    requested = scope if isinstance(scope, (list, tuple, set)) else None
    try:
        picked = select(spec, state.auth_state, requested)
    except SystemExit:
        return Token(spec, reason=Reason.KEY_FAILED, detail="a function of it raised SystemExit")
    return check(picked, now, setup.spawner.tokens_min_lifetime)


def _find_directory(setup: Setup, row: orm.Spawner | None) -> tuple[str | None, str]:
    """Where the server sees its files, or ``None`` and why: it gets its place with its first start."""
    try:
        return setup.spawner.tokens_directory, ""
    except (Exception, SystemExit) as error:
        if row is None:
            return (
                None,
                "This server was never started: the directory of its files (…) is made with its first start.",
            )
        return (
            None,
            f"The directory of its files (…) cannot be told: {describe(error, setup.config)}.",
        )


def _tell(setup: Setup, token: Token, directory: str | None) -> Explained:
    spec, text, where = token.spec, token.text, directory or "…"
    owned = {"SPAWNER_TOKENS_DIR", *setup.spawner.environment}  # the admin's own variables win
    return Explained(
        name=spec.name,
        status=token.reason.value if token.reason else "ok",
        why=explain(token.reason, token.detail) if token.reason else "",
        policy=spec.missing or setup.spawner.tokens_missing,
        variables=tuple(name for name in make_env([token], where) if name not in owned),
        path=f"{where}/{spec.name}" if spec.file and text is not None else None,
        length=None if text is None else len(text),
        fingerprint=None if text is None else hashlib.sha256(text.encode()).hexdigest()[:12],
        issued_at=token.lifetime.issued_at,
        expires_at=token.lifetime.expires_at,
        scopes=token.scopes,
    )


def _note(setup: Setup, row: orm.Spawner | None, no_directory: str) -> list[str]:
    notes = [] if setup.specs else ["This config declares no tokens."]
    won = {
        variable
        for spec in setup.specs
        for variable in spec.claims
        if variable in setup.spawner.environment
    }
    if won:
        notes.append(f"Spawner.environment wins over the tokens with: {', '.join(sorted(won))}.")
    if setup.spawner.tokens_hook is not None:
        notes.append("tokens_hook is not run here: it may change, add or withhold values.")
    if setup.spawner.tokens_renew:
        notes.append("At a spawn, a token that is short-lived is renewed first; here nothing is.")
    for trait in ("group_overrides", "profile_list"):
        if getattr(setup.spawner, trait, None):
            notes.append(f"{trait} is not looked at: it may change the specs.")
    if no_directory:
        notes.append(no_directory)
    if row is not None and row.server_id is not None:
        notes.append("The server runs: its variables are as they were when it started.")
        plain = {
            name: spec
            for name, spec in ((row.state or {}).get("tokens_specs") or {}).items()
            if spec is not None
        }
        if any(
            json.loads(json.dumps(setup.tokens.get(name), default=str)) != spec
            for name, spec in plain.items()
        ):
            notes.append("It was started with other specs than this config has, and keeps those.")
    return notes
