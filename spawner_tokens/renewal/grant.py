"""The grant: what a refresh token brings at the provider, or why it brings nothing."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tornado.httpclient import HTTPClientError
from tornado.web import HTTPError

# Seconds that a grant may take. Whoever waits for it need not: but an answer that nobody hears is a lost refresh token.
_PATIENCE = 60.0
_LONGEST_RETRY_AFTER = 3600.0
# Grants at a time. The Hub's HTTP client has 10 places in all, and logins need some when a provider hangs.
_PLACES = 7


class Kind(Enum):
    """Why there is no new token, and so what is to be done."""

    TRANSIENT = "keeping the current tokens and asking again"
    MISCONFIGURED = (
        "keeping the current tokens; an admin has to look at the authenticator's configuration"
    )
    REJECTED = "the user has to log in again"


@dataclass(frozen=True)
class Failure:
    """Why there is no new token. ``words`` have no value in them; ``retry_after`` seconds the provider asks for."""

    kind: Kind
    words: str
    retry_after: float = 0.0


class GrantFailed(Exception):
    """There is no new token."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


@dataclass
class Notes:
    """What the authenticator's requests met: the last answer with status 200, or the last error."""

    answered: bool = False
    answer: Any = field(default=None, repr=False)
    error: Exception | None = field(default=None, repr=False)
    patient: bool = False

    @property
    def is_garbage(self) -> bool:
        """Whether the last answer was nothing that a provider would say of a token or a user."""
        return self.answered and not (isinstance(self.answer, Mapping) and self.answer)


_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


class Provider:
    """The way of an OAuthenticator to its provider. Its requests are made by the authenticator's own methods."""

    def __init__(self, authenticator: Any) -> None:
        self._authenticator = authenticator
        self._get_token_info = authenticator.get_token_info
        self._httpfetch = authenticator.httpfetch
        self._places = asyncio.Semaphore(_PLACES)
        authenticator.httpfetch = self._fetch

    @staticmethod
    def serves(authenticator: Any) -> bool:
        """Whether an authenticator has the methods of :class:`oauthenticator.oauth2.OAuthenticator` for a grant."""
        names = ("build_refresh_token_request_params", "get_token_info", "httpfetch")
        return all(callable(getattr(authenticator, name, None)) for name in names)

    async def grant(self, refresh_token: str) -> dict[str, Any]:
        """The provider's answer (RFC 6749, section 6), which has an ``access_token``. Raises :exc:`GrantFailed`."""
        async with self._places:
            with note(patient=True) as notes:
                try:
                    params = self._authenticator.build_refresh_token_request_params(refresh_token)
                    answer = await asyncio.wait_for(
                        self._get_token_info(None, params), 2 * _PATIENCE
                    )
                except Exception as error:
                    failure = explain_failure(error, notes)
                else:
                    if isinstance(answer, Mapping) and _is_text(answer.get("access_token")):
                        return {name: value for name, value in answer.items() if _fits(name, value)}
                    failure = _NO_TOKEN
        raise GrantFailed(failure)

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
        notes.answer = notes.error = None  # a timer may keep the context, and so the notes


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _fits(name: str, value: Any) -> bool:
    """Whether a field of an answer is what RFC 6749 says of it, as far as it would harm if it were not."""
    if name == "scope":
        return isinstance(value, str) or (
            isinstance(value, list) and all(isinstance(each, str) for each in value)
        )
    return name not in ("refresh_token", "id_token", "token_type") or _is_text(value)


def explain_failure(error: Exception, notes: Notes) -> Failure:
    """Why a grant raised this error.

    GitHub's errors have the status 200. A status of 4xx without an error of OAuth (RFC 6749, section 5.2) comes from
    something between the Hub and the provider's OAuth, or from a wrong URL.
    """
    if notes.answered:
        code = notes.answer.get("error") if isinstance(notes.answer, Mapping) else None
        return _explain_code(code) if code else _NO_TOKEN
    if is_transient(error):
        return Failure(Kind.TRANSIENT, _name(error), _retry_after(error))
    if isinstance(error, HTTPClientError) and (code := _oauth_error(error)):
        return _explain_code(code)
    return Failure(Kind.MISCONFIGURED, _name(error))


def is_transient(error: Exception | None) -> bool:
    """Whether an error tells of the network, or of a provider in trouble, and nothing of the user."""
    if isinstance(error, HTTPClientError):  # 599 is tornado's own, for no answer
        headers = error.response.headers if error.response else {}
        # GitHub's have the status 403.
        is_limit = "Retry-After" in headers or headers.get("X-RateLimit-Remaining") == "0"
        return (
            error.code >= 500 or error.code in (408, 425, 429) or (error.code == 403 and is_limit)
        )
    if isinstance(error, HTTPError):
        return error.status_code >= 500
    return isinstance(error, (OSError, asyncio.TimeoutError, json.JSONDecodeError))


_NO_TOKEN = Failure(Kind.TRANSIENT, "an answer without a token")
# RFC 6749's, and what providers say in place of invalid_grant: GitHub, Slack, OpenID Connect (Azure).
_REJECTIONS = (
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "bad_refresh_token",
    "invalid_refresh_token",
    "interaction_required",
    "login_required",
    "consent_required",
)
_DELAYS = ("temporarily_unavailable", "server_error", "slow_down")


def _explain_code(code: Any) -> Failure:
    words = (
        code
        if isinstance(code, str) and re.fullmatch(r"\w{1,40}", code, re.ASCII)
        else "an error of its own"
    )
    if code in _REJECTIONS:
        return Failure(Kind.REJECTED, words)
    return Failure(Kind.TRANSIENT if code in _DELAYS else Kind.MISCONFIGURED, words)


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
    return (
        min(float(header), _LONGEST_RETRY_AFTER) if header.isascii() and header.isdigit() else 0.0
    )
