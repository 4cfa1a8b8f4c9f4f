"""The grant: what an answer of the provider, or an error on the way to it, means."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from tornado.httpclient import HTTPClientError, HTTPResponse
from tornado.web import HTTPError

_LONGEST_RETRY_AFTER = 3600.0  # seconds


class FailureKind(Enum):
    """Why there is no new token, and so what is to be done."""

    TRANSIENT = "keeping the current tokens and asking again"
    MISCONFIGURED = (
        "keeping the current tokens; an admin has to look at the authenticator's configuration"
    )
    REJECTED = "the user has to log in again"


@dataclass(frozen=True)
class Failure:
    """Why there is no new token.

    ``words`` hold no value of a token; ``retry_after`` is the seconds that the provider asks for.
    ``by_provider`` is false where the authenticator alone says that the user has to log in again.
    """

    kind: FailureKind
    words: str
    retry_after: float = 0.0
    by_provider: bool = True

    @property
    def is_final(self) -> bool:
        """Whether nothing is to be tried again."""
        return self.kind is FailureKind.REJECTED and self.by_provider


class GrantFailed(Exception):
    """There is no new token."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.words)
        self.failure = failure


@dataclass
class ResponseRecorder:
    """The result of the authenticator's last request: an answer of status 200, or an error.

    ``timeout`` is what the requests get that have no timeout of their own, in seconds. ``trouble``
    is the last error of any request that says nothing of the user.
    """

    timeout: float | None = None
    answered: bool = False
    answer: Any = field(default=None, repr=False)
    error: Exception | None = field(default=None, repr=False)
    trouble: Exception | None = field(default=None, repr=False)

    async def record(self, request: Awaitable[Any]) -> Any:
        """What a request returns. Raises what it raises."""
        self.answered, self.error = False, None
        try:
            self.answer = await request
        except Exception as error:
            self._note(error)
            raise
        if isinstance(self.answer, HTTPResponse) and self.answer.error:  # raise_error=False
            self._note(self.answer.error)
        else:
            self.answered = True
        return self.answer

    def _note(self, error: Any) -> None:
        self.error = error
        if is_transient(error):
            self.trouble = error

    @property
    def is_malformed(self) -> bool:
        """Whether the last answer was not an object with content, as each answer has to be."""
        is_answer = isinstance(self.answer, (Mapping, HTTPResponse))
        return self.answered and not (is_answer and self.answer)


_recorder: ContextVar[ResponseRecorder | None] = ContextVar("recorder", default=None)


def get_recorder() -> ResponseRecorder | None:
    """The recorder of the code that calls this."""
    return _recorder.get()


@contextmanager
def record_responses(timeout: float | None = None) -> Iterator[ResponseRecorder]:
    """Record the results of the requests that are made inside."""
    recorder = ResponseRecorder(timeout)
    token = _recorder.set(recorder)
    try:
        yield recorder
    finally:
        _recorder.reset(token)
        recorder.answer = recorder.error = recorder.trouble = (
            None  # a timer may keep this context for a while
        )


def read_answer(answer: Any) -> dict[str, Any] | None:
    """The fields of a token answer (RFC 6749, section 5.1) that have the right types.

    ``None`` if it has no ``access_token``.
    """
    if not isinstance(answer, Mapping) or not _is_text(answer.get("access_token")):
        return None
    return {name: value for name, value in answer.items() if _has_right_type(name, value)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _has_right_type(name: str, value: Any) -> bool:
    if name == "scope":
        is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
        return isinstance(value, str) or is_list
    return name not in ("refresh_token", "id_token", "token_type") or _is_text(value)


NO_TOKEN = Failure(FailureKind.TRANSIENT, "an answer without a token")

# RFC 6749's, and other providers' for invalid_grant: GitHub, Slack, OpenID Connect (Azure).
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


def explain_failure(error: Exception, recorder: ResponseRecorder) -> Failure:
    """Why a grant raised this error. GitHub's errors have the status 200."""
    return explain_answer(recorder.answer) if recorder.answered else explain_error(error)


def explain_answer(answer: Any) -> Failure:
    """Why an answer with the status 200 has no token."""
    code = answer.get("error") if isinstance(answer, Mapping) else None
    return _explain_code(code) if code else NO_TOKEN


def explain_error(error: Exception) -> Failure:
    """Why a request raised this error.

    A status of 4xx without an error of OAuth (RFC 6749, section 5.2) comes from a proxy before the
    provider, or from a wrong URL.
    """
    if is_transient(error):
        return Failure(FailureKind.TRANSIENT, _name_error(error), _find_retry_after(error))
    if isinstance(error, HTTPClientError) and (code := _find_oauth_error(error)):
        return _explain_code(code)
    return Failure(FailureKind.MISCONFIGURED, _name_error(error))


def is_transient(error: Exception | None) -> bool:
    """Whether an error is the network's or a provider's in trouble, and not about the user."""
    if isinstance(error, HTTPClientError):  # 599 is tornado's own, for no answer
        headers = error.response.headers if error.response else {}
        # GitHub's rate limits have the status 403.
        is_limit = "Retry-After" in headers or headers.get("X-RateLimit-Remaining") == "0"
        is_later = error.code >= 500 or error.code in (408, 425, 429)
        return is_later or (error.code == 403 and is_limit)
    if isinstance(error, HTTPError):
        return error.status_code >= 500
    return isinstance(error, (OSError, asyncio.TimeoutError, json.JSONDecodeError))


def _explain_code(code: Any) -> Failure:
    is_word = isinstance(code, str) and re.fullmatch(r"[A-Za-z_]{1,40}", code)
    words = code if is_word else "an error of its own"
    if code in _REJECTIONS:
        return Failure(FailureKind.REJECTED, words)
    kind = FailureKind.TRANSIENT if code in _DELAYS else FailureKind.MISCONFIGURED
    return Failure(kind, words)


def _find_oauth_error(error: HTTPClientError) -> Any:
    try:
        return json.loads(error.response.body)["error"] if error.response else None
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _name_error(error: Exception) -> str:
    status = getattr(error, "code", None) or getattr(error, "status_code", None)
    return f"HTTP {status}" if status and status != 599 else type(error).__name__


def _find_retry_after(error: Exception) -> float:
    """Seconds, where the provider says so (RFC 9110, section 10.2.3; dates are ignored)."""
    response = getattr(error, "response", None)
    header = response.headers.get("Retry-After", "") if response is not None else ""
    is_number = header.isascii() and header.isdigit()
    return min(float(header), _LONGEST_RETRY_AFTER) if is_number else 0.0
