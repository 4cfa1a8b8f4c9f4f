"""The grant: what a refresh token brings at the provider, or why it brings nothing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError

# Seconds that a grant may take. Whoever waits for it need not: but an answer that nobody hears is a lost refresh token.
_PATIENCE = 60.0
_LONGEST_RETRY_AFTER = 3600.0


class Kind(Enum):
    """Why there is no new token, and so what is to be done."""

    TRANSIENT = "keeping the current tokens and asking again"
    MISCONFIGURED = "keeping the current tokens; an admin has to look at the authenticator's configuration"
    REJECTED = "the user has to log in again"


class GrantFailed(Exception):
    """There is no new token. The text has no value in it; ``retry_after``: seconds that the provider asks for."""

    def __init__(self, kind: Kind, words: str, retry_after: float = 0.0) -> None:
        super().__init__(words)
        self.kind = kind
        self.retry_after = retry_after


@dataclass
class Notes:
    """What the authenticator's requests met: the last answer with status 200, or the last error."""

    answer: Any = None
    answered: bool = False
    error: Exception | None = None
    patient: bool = False


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


class Provider:
    """The way of an OAuthenticator to its provider. Its requests are made by the authenticator's own methods."""

    def __init__(self, authenticator: Any) -> None:
        self._authenticator = authenticator
        self._get_token_info = authenticator.get_token_info
        self._httpfetch = authenticator.httpfetch
        authenticator.httpfetch = self._fetch

    @staticmethod
    def serves(authenticator: Any) -> bool:
        """Whether an authenticator has the methods of :class:`oauthenticator.oauth2.OAuthenticator` for a grant."""
        names = ("build_refresh_token_request_params", "get_token_info", "httpfetch")
        return all(callable(getattr(authenticator, name, None)) for name in names)

    async def grant(self, refresh_token: str) -> dict[str, Any]:
        """The provider's answer (RFC 6749, section 6), which has an ``access_token``. Raises :exc:`GrantFailed`."""
        with note(patient=True) as notes:
            try:
                params = self._authenticator.build_refresh_token_request_params(refresh_token)
                answer = await self._get_token_info(None, params)
                token = answer["access_token"]
            except Exception as error:
                raise explain_failure(error, notes) from None
        if not isinstance(token, str) or not token:
            raise GrantFailed(Kind.TRANSIENT, "an answer without a token")
        return dict(answer)

    async def _fetch(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        notes = _notes.get()
        if notes is None:
            return await self._httpfetch(url, *args, **kwargs)
        if notes.patient and "request_timeout" not in self._authenticator.http_request_kwargs:
            kwargs.setdefault("request_timeout", _PATIENCE)
        notes.answered, notes.error = False, None
        try:
            notes.answer = await self._httpfetch(url, *args, **kwargs)
        except Exception as error:
            notes.error = error
            raise
        notes.answered = True
        return notes.answer


@contextmanager
def note(*, patient: bool = False) -> Iterator[Notes]:
    """Note what the requests meet that are made inside."""
    notes = Notes(patient=patient)
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def explain_failure(error: Exception, notes: Notes) -> GrantFailed:
    """Why a grant raised this error.

    GitHub's errors have the status 200. A status of 4xx without an error of OAuth (RFC 6749, section 5.2) comes from
    something between the Hub and the provider's OAuth, or from a wrong URL.
    """
    if notes.answered:
        code = notes.answer.get("error") if isinstance(notes.answer, Mapping) else None
        return _explain_code(code) if code else GrantFailed(Kind.TRANSIENT, "an answer without a token")
    if is_transient(error):
        return GrantFailed(Kind.TRANSIENT, _name(error), _retry_after(error))
    if isinstance(error, HTTPClientError) and (code := _oauth_error(error)):
        return _explain_code(code)
    return GrantFailed(Kind.MISCONFIGURED, _name(error))


def is_transient(error: Exception | None) -> bool:
    """Whether an error tells of the network, or of a provider in trouble, and nothing of the user."""
    if isinstance(error, HTTPClientError):  # 599 is tornado's own, for no answer
        return error.code >= 500 or error.code in (408, 425, 429)
    if isinstance(error, HTTPError):
        return error.status_code >= 500
    return isinstance(error, (OSError, asyncio.TimeoutError, json.JSONDecodeError))


# What providers say in place of RFC 6749's invalid_grant: GitHub, Slack, OpenID Connect (Azure).
_REJECTIONS = (
    "invalid_grant",
    "bad_refresh_token",
    "invalid_refresh_token",
    "interaction_required",
    "login_required",
    "consent_required",
)
_DELAYS = ("temporarily_unavailable", "server_error", "slow_down")


def _explain_code(code: Any) -> GrantFailed:
    words = code if isinstance(code, str) and re.fullmatch(r"\w{1,40}", code, re.ASCII) else "an error of its own"
    if code in _REJECTIONS:
        return GrantFailed(Kind.REJECTED, words)
    return GrantFailed(Kind.TRANSIENT if code in _DELAYS else Kind.MISCONFIGURED, words)


def _oauth_error(error: HTTPClientError) -> Any:
    try:
        return json.loads(error.response.body)["error"] if error.response else None
    except (KeyError, TypeError, ValueError):
        return None


def _name(error: Exception) -> str:
    status = getattr(error, "code", None) or getattr(error, "status_code", None)
    return f"HTTP {status}" if status and status != 599 else type(error).__name__


def _retry_after(error: Exception) -> float:
    """Seconds, where the provider says so (RFC 9110, section 10.2.3; a date is not looked at)."""
    response = getattr(error, "response", None)
    header = response.headers.get("Retry-After", "") if response is not None else ""
    return min(float(header), _LONGEST_RETRY_AFTER) if header.isascii() and header.isdigit() else 0.0
