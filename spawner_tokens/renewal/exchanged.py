"""What is known of one exchange of a user: its last answer or failure, and when to ask again."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..tokens.lifetime import Lifetime, find_lifetime, jwt_claims
from ..tokens.lookup import find_answer_scopes
from ..tokens.selection import Exchanged, Reason
from .grant import Failure, FailureKind
from .pace import FIRST_PAUSE, FIRST_RETRY, LAST_PAUSE, LAST_RETRY, backoff
from .recall import DRIFT, find_offset

# Two requests for the same subject are at least this share of the exchanged token's life apart.
_SHARE = 0.2
# Requests in a row, each for another subject as soon as the last was answered, that need not wait.
_SUBJECTS_AT_ONCE = 5
# Errors by which a provider denies an exchange for this subject token (RFC 6749, section 5.2; RFC
# 8693, section 2.2.2; "invalid_token" is Keycloak's, before 26.2). Errors that end a login do, too.
_DENIALS = (
    *("invalid_target", "invalid_scope", "access_denied", "invalid_request"),
    "invalid_token",
)
# Errors about the client. They deny nothing: the server keeps the token that was exchanged before.
OF_CLIENT = ("unauthorized_client", "unsupported_grant_type")

# When a token is to be exchanged again, by its life: in seconds since the epoch.
FindDue = Callable[[Lifetime], float]


@dataclass(frozen=True)
class _Answer:
    """What the provider gave for the subject with this digest.

    ``owner``: :func:`find_owner` of the login's token that it began with. ``offset``:
    :func:`.find_offset` when it was asked.
    """

    subject: bytes
    owner: Any
    value: str = field(repr=False)
    lifetime: Lifetime
    scopes: tuple[str, ...] | None
    offset: float


@dataclass(eq=False)
class KnownExchange:
    """What is known of one exchange of a user, for one subject token after the other.

    ``clock`` gives seconds since the epoch. ``task`` is the request that runs.
    """

    clock: Callable[[], float]
    task: asyncio.Task[None] | None = None
    _answer: _Answer | None = None
    _asked: bytes = b""  # the digest of the subject of the last request
    _failure: Failure | None = None  # why there is nothing newer than the answer
    _attempts: int = 0  # requests in a row that brought no live token
    _hurried: int = 0  # requests in a row, each for another subject as soon as it could be
    # By the event loop's clock: for the same subject, and for another one.
    _not_before: float = 0.0
    _others_not_before: float = -math.inf

    @property
    def has_failed(self) -> bool:
        return self._attempts > 0

    @property
    def ends_at(self) -> float:
        """When what there is ends, in seconds since the epoch; infinite if there is nothing."""
        return self._answer.lifetime.ends_at if self._answer is not None else math.inf

    def is_due(self, subject: str, find_due: FindDue) -> bool:
        """Whether there is no answer for this subject, or one that is due."""
        if self._answer is None or self._answer.subject != _digest(subject):
            return True
        was_set_back = self._answer.offset - find_offset(self.clock) > DRIFT
        return was_set_back or find_due(self._answer.lifetime) <= self.clock()

    def may_ask(self, subject: str) -> bool:
        """Whether a request for this subject would not be too early."""
        return asyncio.get_running_loop().time() >= self._find_not_before(subject)

    def _find_not_before(self, subject: str) -> float:
        is_about_subject = self._failure is None or is_denial(self._failure)
        is_new = is_about_subject and self._asked != _digest(subject)
        return min(self._others_not_before, self._not_before) if is_new else self._not_before

    def note_request(self, subject: str) -> None:
        """A key that is a function may find another subject whenever it is called."""
        is_soon = asyncio.get_running_loop().time() < self._others_not_before + FIRST_RETRY
        is_hurried = is_soon and self._asked != _digest(subject)
        self._hurried = self._hurried + 1 if is_hurried else 0

    def note_answer(
        self, subject: str, owner: Any, answer: Mapping[str, Any], asked_at: float, offset: float
    ) -> None:
        """``asked_at`` and ``offset`` are of when the provider was asked."""
        value = answer["access_token"]
        times = {name: answer.get(name) for name in ("expires_in", "expires_at")}
        lifetime = find_lifetime(value, {**times, "created_at": asked_at}, asked_at)
        scopes = find_answer_scopes(value, answer)
        self._asked, self._failure = _digest(subject), None
        self._answer = _Answer(self._asked, owner, value, lifetime, scopes, offset)
        life = lifetime.left(self.clock())
        self._attempts = 0 if life > 0 else self._attempts + 1
        pause = max(FIRST_RETRY, life * _SHARE if math.isfinite(life) else 0.0)
        if self._attempts:  # it has ended already
            pause = backoff(self._attempts, FIRST_PAUSE, LAST_PAUSE)
        self._put_off(pause)

    def note_failure(self, subject: str, failure: Failure) -> bool:
        """Returns whether it is another one than before."""
        before, denied = self._failure, is_denial(failure)
        self._asked, self._failure = _digest(subject), failure
        self._attempts += 1
        first, last = (FIRST_PAUSE, LAST_PAUSE) if denied else (FIRST_RETRY, LAST_RETRY)
        self._put_off(max(backoff(self._attempts, first, last), failure.retry_after))
        return before is None or (before.kind, is_denial(before)) != (failure.kind, denied)

    def _put_off(self, seconds: float) -> None:
        now, many = asyncio.get_running_loop().time(), self._hurried - _SUBJECTS_AT_ONCE
        self._not_before = now + seconds
        self._others_not_before = now + (backoff(many, FIRST_PAUSE, LAST_PAUSE) if many > 0 else 0)

    def make_result(self, subject: Exchanged, owner: Any, find_due: FindDue) -> Exchanged:
        """What there is to give for a subject token, which may be missing or have ended."""
        failure, again_at = self._failure, self._find_again(subject, find_due)
        digest = _digest(subject.value or "")
        if failure is not None and is_denial(failure) and self._asked == digest:
            self._answer, reason = None, Reason.EXCHANGE_DENIED  # it does not come back
            return Exchanged(reason=reason, detail=failure.words, due_at=again_at)
        now, answer = self.clock(), self._answer
        can_ask = subject.lifetime.left(now) > 0
        if answer is not None and len({answer.owner, owner} - {None}) < 2:
            lives = answer.lifetime.left(now) > 0
            if lives:  # what becomes of it is to be seen at its end
                again_at = min(again_at, answer.lifetime.ends_at)
            if lives or (answer.subject == digest and failure is None and can_ask):
                return Exchanged(answer.value, answer.lifetime, answer.scopes, due_at=again_at)
        words = failure.words if failure else subject.detail or "no answer yet"
        if not can_ask:
            words = "the token that it is exchanged for has expired"
        return Exchanged(reason=Reason.EXCHANGE_FAILED, detail=words, due_at=again_at)

    def _find_again(self, subject: Exchanged, find_due: FindDue) -> float:
        """When to ask again, in seconds since the epoch."""
        now = self.clock()
        if subject.value is None:
            return subject.due_at
        if self.task is not None or subject.lifetime.left(now) <= 0:
            return math.inf  # it comes with the answer, or with the next subject
        passed = asyncio.get_running_loop().time()
        not_before = now + max(0.0, self._find_not_before(subject.value) - passed)
        if self._answer is None or self.is_due(subject.value, find_due):
            return not_before
        return max(not_before, find_due(self._answer.lifetime))


def is_denial(failure: Failure) -> bool:
    """Whether the provider does not give what is asked for this subject."""
    return failure.kind is FailureKind.REJECTED or failure.words in _DENIALS


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogatepass")).digest()


def find_owner(text: str) -> Any:
    """Whose token it is, if it is a JWT that says so (RFC 7519, section 4.1.2)."""
    owner = jwt_claims(text).get("sub")
    return owner if isinstance(owner, str) else None
