"""A finding as data, and the table of all findings with the reason why each one matters."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

# Where the documentation is. Whoever moves it changes this line.
DOCUMENTATION = "https://spawner-tokens.readthedocs.io/en/latest/"


class Level(str, Enum):
    """``NOTE`` is for what was not looked at. The best one is first."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class Finding:
    """``what`` is wrong, ``why`` it matters, the ``fix`` as plain text, and where to ``see`` more.

    ``id`` is a key of :data:`WHY` for an error or a warning, and the name of the check otherwise.
    """

    id: str
    level: Level
    what: str
    why: str = ""
    fix: str = ""
    see: str = ""


# Every finding, and why it matters. The ids are stable.
WHY = {
    "auth-state-off": "There is nothing to deliver: every token has the status auth_state_off.",
    "crypt-key-missing": "With auth state on, the Hub does not start without a crypt key.",
    "crypt-key-bad": "The Hub does not start with a bad crypt key.",
    "login-without-tokens": "Every token is absent.",
    "mixin-missing": "Nothing reads the settings of the tokens.",
    "mixin-wrong": "Servers do not get the files, or do not start.",
    "tokens-none": "Nothing is delivered.",
    "section-unknown": "What is set there has no effect, and JupyterHub does not say so.",
    "trait-unknown": "It has no effect, which JupyterHub logs at the first spawn.",
    "spec-wrong": "JupyterHub refuses the specs: no server starts.",
    "key-never-stored": "The token is absent at each spawn.",
    "id-token-not-asked": "A provider gives an id_token only with the scope openid.",
    "scopes-not-asked": "The provider does not grant them: the token has the status scope_missing.",
    "scopes-forbidden-asked": "The token has the status scope_forbidden, and is withheld.",
    "scopes-too-powerful": "Each notebook, and each library in it, may do all of that.",
    "refresh-token-not-asked": "The user has to log in again when the token expires.",
    "refresh-token-never": "The tokens cannot be renewed.",
    "refresh-fails": "The Hub calls it: spawns and pages fail.",
    "lifetime-too-short": "Files hold an expired token for a part of the time.",
    "exchange-without-oauth": "Nothing can ask for it: the token is absent at each spawn.",
    "exchange-not-offered": "The provider refuses each request, and the token is absent.",
    "exchange-without-secret": "Most providers exchange no token for a client that has no secret.",
    "exchange-without-v2": "Azure knows the scopes that it asks for only at addresses with v2.0.",
    "environment-wins": "Servers find the admin's value there, and not the token's.",
    "null-ignored": "JupyterHub drops the key, and what a preset or a default gives stays.",
    "docker-variables-frozen": "The next start has the old variables. Files are renewed.",
    "hook-writes-tokens": "What a hook writes into the environment wins, and is never renewed.",
    "servers-read-auth-state": "All code of the user gets the refresh token.",
    "role-lets-others-in": "It leaves no record: tokens_shared does not see it.",
    "kubernetes-rights": "The Hub creates, replaces and deletes Secrets with tokens.",
    "config-fails": "The Hub does not start, or there is none.",
}


def make_address(id: str) -> str:
    """Where the documentation has the entry of this key of :data:`WHY`."""
    return f"{DOCUMENTATION}reference/findings.html#finding-{id}"


def error(id: str, what: str, fix: str) -> Finding:
    return Finding(id, Level.ERROR, what, WHY[id], fix, make_address(id))


def warning(id: str, what: str, fix: str) -> Finding:
    return Finding(id, Level.WARNING, what, WHY[id], fix, make_address(id))


def not_looked_at(id: str, what: str) -> Finding:
    return Finding(id, Level.NOTE, f"not looked at: {what}")
