"""The delivery's contents: tokens → the files and variables that a server gets. Pure builders."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timezone

from .selection import Reason, Token


def make_files(tokens: Iterable[Token], login_ended: bool = False) -> dict[str, bytes | None]:
    """File name → contents: ``<name>``, the token, and ``<name>.json``, which is never a secret.

    A token that is withheld has no file: ``None``.
    """
    files: dict[str, bytes | None] = {}
    for token in tokens:
        if token.spec.file:
            files[token.spec.name] = None if token.text is None else token.text.encode()
            files[f"{token.spec.name}.json"] = make_status(token, login_ended)
    return files


def make_status(token: Token, login_ended: bool = False) -> bytes:
    """What a notebook may know of a token.

    ``expires_at`` and ``renewed_at`` are ISO 8601 in UTC, ``scopes`` is a list; each is null where unknown.
    ``status`` is ``ok`` or a value of :class:`~spawner_tokens.selection.Reason`: ``login_ended`` for a token with an
    end, if the provider has said that it will not be renewed.
    """
    ends = token.text is not None and token.lifetime.expires_at is not None
    reason = Reason.LOGIN_ENDED if login_ended and ends else token.reason
    status = {
        "expires_at": _iso(token.lifetime.expires_at),
        "renewed_at": _iso(token.lifetime.issued_at),
        "scopes": None if token.scopes is None else list(token.scopes),
        "status": reason.value if reason else "ok",
    }
    return json.dumps(status, indent=2).encode() + b"\n"


def _iso(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def make_env(tokens: Iterable[Token], directory: str | None) -> dict[str, str]:
    """Variable → text. ``directory`` is where the server sees the files; ``None`` if it got none."""
    env = {}
    if directory is not None:
        env["SPAWNER_TOKENS_DIR"] = directory
    for token in tokens:
        if token.text is None:
            continue
        env.update(token.companions)
        env.update(dict.fromkeys(token.spec.env, token.text))
        if directory is not None and token.spec.file_env:
            env[token.spec.file_env] = f"{directory}/{token.spec.name}"
    return env
