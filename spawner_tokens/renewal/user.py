"""One user's renewal: what is known of it between two refreshes, and so when the next one is."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from ..metrics import SUCCESS, UNCHANGED, count_renewal
from ..tokens.lifetime import Due, TokenId, find_lifetime
from ..tokens.lookup import find_dicts
from .grant import Failure, FailureKind
from .outcome import Outcome
from .refresh import Refresh, Tools
from .store import AuthState, Fingerprint, fingerprint

# Seconds to the next try after a failure: doubled each time, and scattered.
# Two renewals are at least the first of them apart.
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0
# The same after a renewal that left a token due: it brought nothing, and the next one may not, too.
_FIRST_PAUSE, _LAST_PAUSE = 2.0, 600.0
# Scheduled renewals are this share of a token's life apart, or so many seconds if the provider
# names no life.
_SHARE, _WITHOUT_LIFE = 0.2, 600.0

# Seconds after its end until a token has ended by the provider's clock, too.
_CLOCK_DIFFERENCE = 2.0

# By an auth_state and the time, in seconds since the epoch.
FindDue = Callable[[AuthState, float], Mapping[TokenId, Due]]


def backoff(failures: int, first: float = _FIRST_RETRY, last: float = _LAST_RETRY) -> float:
    """Seconds to wait after so many failures in a row, at least one."""
    return min(first * 2.0 ** min(failures - 1, 16), last) * random.uniform(0.5, 1)


def find_life(auth_state: AuthState) -> float:
    """The life that the provider gives the login's tokens, in seconds; infinite if unknown.

    Where there are several, the shortest.
    """
    tokens = [(node.get("access_token"), node) for node in find_dicts(auth_state)]
    lives = [find_lifetime(token, node).total for token, node in tokens if isinstance(token, str)]
    return min(lives, default=math.inf)


class _Result(NamedTuple):
    """What ``refresh_user`` returned or raised, for the auth_state with this fingerprint."""

    fingerprint: Fingerprint
    auth_model: Any
    error: Exception | None

    @classmethod
    def from_outcome(cls, outcome: Outcome) -> _Result:
        return cls(outcome.fingerprint, outcome.auth_model, outcome.error)


class Pace:
    """How long scheduled renewals of one user have to wait, whatever the specs ask for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._renewed_at = 0.0, 0.0  # by the event loop's clock, and by the Hub's
        self._wait = 0.0
        self._idle = 0  # renewals in a row that left tokens due

    @property
    def left(self) -> float:
        """Seconds. The loop's clock stands while the machine sleeps, the Hub's may be set."""
        loop_time, time = self._renewed_at
        passed = max(asyncio.get_running_loop().time() - loop_time, self._clock() - time)
        return max(0.0, self._wait - passed)

    def note_renewal(self, life: float) -> None:
        """A renewal was made, of tokens that live for ``life`` seconds; infinite if unknown."""
        self._renewed_at = asyncio.get_running_loop().time(), self._clock()
        self._wait = _WITHOUT_LIFE if math.isinf(life) else life * _SHARE

    def note_progress(self, is_progress: bool) -> bool:
        """Wait longer after a renewal that left tokens due. Whether that is the first in a row."""
        self._idle = 0 if is_progress else self._idle + 1
        if self._idle:
            self._wait = max(self._wait, backoff(self._idle, _FIRST_PAUSE, _LAST_PAUSE))
        return self._idle == 1


class UserRenewal:
    """Decides when a user's tokens are renewed, and lets all who ask at once share one refresh.

    Tokens are known here by their hashes alone. ``on_rejected`` is called when the provider has
    ended the login.
    """

    def __init__(self, tools: Tools, user: Any, on_rejected: Callable[[], None]) -> None:
        self.tools = tools
        self.user = user
        self.name = user.name  # a database that is down cannot be asked for it
        self.retry_at = 0.0  # by the event loop's clock
        self._on_rejected = on_rejected
        self._refresh: Refresh | None = None
        self._failures = 0
        self._failure: Failure | None = None
        self._rejected: Fingerprint | None = None
        # A token that a renewal did not change → when to try again, in seconds since the epoch.
        self._not_renewable_until: dict[TokenId, float] = {}
        # A result that arrived after its caller timed out: the next caller gets it.
        self._undelivered_result: _Result | None = None
        # What the last renewal left, and how long the next one of that has to wait.
        self._renewed: Fingerprint | None = None
        self._pace = Pace(tools.clock)

    def read(self) -> AuthState | None:
        """The user's auth_state, as it is stored."""
        auth_state = self.tools.store.read(self.user.orm_user)
        if self._renewed is not None and self._renewed != fingerprint(auth_state):
            self._renewed, self._pace = None, Pace(self.tools.clock)  # a login came after it
        return auth_state

    def has_ended(self, auth_state: AuthState) -> bool:
        """Whether the provider has ended this login."""
        return self._rejected is not None and self._rejected == fingerprint(auth_state)

    def can_renew(self, auth_state: AuthState) -> bool:
        """Whether there is a way to renew this auth_state's tokens."""
        adapter = self.tools.adapter
        by_grant = adapter.can_grant and bool(auth_state.get("refresh_token"))
        return (by_grant or adapter.renews_itself) and not self.has_ended(auth_state)

    def find_times(self, due: Mapping[TokenId, Due]) -> dict[TokenId, float]:
        """When each token is to be renewed; infinite for those that renewals do not change.

        Forgets the tokens that are not among these.
        """
        known = self._not_renewable_until.items()
        self._not_renewable_until = {key: at for key, at in known if key in due or not key[0]}
        return self._find_times(due)

    @property
    def pause(self) -> float:
        """Seconds until a scheduled renewal may be made."""
        return max(self.retry_at - self._now(), self._pace.left, 0.0)

    def find_renewable(self, find_due: FindDue, *, paced: bool = True) -> set[TokenId]:
        """The tokens that are due and can be renewed now; if not ``paced``, though one just was."""
        pause = self.pause if paced else self.retry_at - self._now()
        auth_state = self.read()
        if auth_state is None or pause > 0 or not self.can_renew(auth_state):
            return set()
        now = self.tools.clock()
        times = self._find_times(find_due(auth_state, now))
        return {key for key, at in times.items() if at <= now}

    async def renew(
        self,
        find_due: FindDue,
        seconds: float = math.inf,
        *,
        paced: bool = True,
        in_turn: Callable[[bool], AbstractAsyncContextManager[None]] | None = None,
    ) -> bool:
        """Renew until no token is due, or none can be renewed now.

        Waits at most ``seconds``, which count from the start of a refresh that runs already.
        Returns whether it was done by then. ``paced``: see :meth:`find_renewable`.
        ``in_turn(is_retry)``: a place among all users' renewals, kept while the provider is asked.
        """
        deadline = None
        while due := self.find_renewable(find_due, paced=paced):
            if in_turn is None:
                refresh = self.get_refresh(renew=True)
            else:
                async with in_turn(self._failures > 0):
                    due = self.find_renewable(find_due, paced=paced)  # by now it may be done
                    if not due:
                        break
                    refresh = self.get_refresh(renew=True)
                    await refresh.wait_for_answer()
            deadline = deadline or refresh.started_at + seconds
            outcome = await refresh.wait(deadline)
            if outcome is None:
                return False
            self._note_progress(outcome, due, find_due)
        return True

    async def check(
        self, find_due: FindDue, handler: Any, arguments: Mapping[str, Any], seconds: float
    ) -> Any:
        """What the authenticator's ``refresh_user`` returns or raises.

        Raises :exc:`TimeoutError` after so many ``seconds``; the result that arrives later is
        returned to the next caller.
        """
        result, self._undelivered_result = self._undelivered_result, None
        if result is None or result.fingerprint != fingerprint(self.read()):
            due = self.find_renewable(find_due)
            refresh = self.get_refresh(renew=bool(due))
            refresh.request_check(handler, arguments)
            outcome = await refresh.wait(refresh.started_at + seconds)
            if outcome is None:
                raise TimeoutError
            self._note_progress(outcome, due, find_due)
            self._undelivered_result = None
            result = _Result.from_outcome(outcome)
        if result.error is not None:
            raise result.error
        model = result.auth_model
        return dict(model) if isinstance(model, dict) else model

    def get_refresh(self, *, renew: bool) -> Refresh:
        """The refresh that runs, or a new one."""
        if self._refresh is not None and not self._refresh.task.done():
            return self._refresh
        auth_state = self.read()
        has_ended = auth_state is not None and self.has_ended(auth_state)
        standing = self._failure if has_ended or self._now() < self.retry_at else None
        refresh = Refresh(self.tools, self.user, renew=renew, standing_failure=standing)
        self._refresh = refresh
        refresh.task.add_done_callback(lambda task: self._finish(task, standing))
        return refresh

    # -- inside ----------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _find_times(self, due: Mapping[TokenId, Due]) -> dict[TokenId, float]:
        until = self._not_renewable_until
        return {key: max(at.stale_at, until.get(key, at.stale_at)) for key, at in due.items()}

    def _note_progress(self, outcome: Outcome, before: set[TokenId], find_due: FindDue) -> None:
        """A token that a renewal did not change is tried again after its end.

        While renewals leave due what was due, the next one is ever later.
        """
        if not outcome.renewed:
            return
        now = self.tools.clock()
        found = find_due(self.read() or {}, now)
        after = {key: due for key, due in found.items() if due.stale_at <= now}
        for key in before & after.keys():
            again_at = after[key].ends_at + _CLOCK_DIFFERENCE
            self._not_renewable_until[key] = again_at if now < again_at else math.inf
        names = {name for name, _ in after}
        is_progress = not names or bool({name for name, _ in before} - names)
        if self._pace.note_progress(is_progress):
            words = "A renewal for %s left these tokens due, so the next ones wait longer: %s"
            listed = ", ".join(sorted(name or "the login" for name in names))
            self.tools.log.warning(words, self.name, listed)

    def _finish(self, task: asyncio.Task[Outcome], standing: Failure | None) -> None:
        self._refresh = None
        if task.cancelled():
            self._put_off()
            return
        outcome = task.result()
        if outcome.requested and (outcome.auth_model is not True or outcome.error is not None):
            self._undelivered_result = _Result.from_outcome(outcome)
        if outcome.renewed:
            count_renewal(SUCCESS if outcome.changed else UNCHANGED)
            if outcome.changed:
                self.tools.log.info("Renewed the tokens of %s", self.name)
            self._failures, self._failure, self._rejected = 0, None, None
            self.retry_at = self._now() + _FIRST_RETRY
            self._note_renewal()
        elif outcome.failure is not None and outcome.failure is not standing:
            self._note_failure(outcome, outcome.failure)

    def _note_renewal(self) -> None:
        auth_state = self.tools.store.read(self.user.orm_user) or {}
        self._renewed = fingerprint(auth_state)
        self._pace.note_renewal(find_life(auth_state))

    def _note_failure(self, outcome: Outcome, failure: Failure) -> None:
        if outcome.attempted:
            count_renewal(failure.kind.name.lower())
        is_news = self._failure is None or self._failure.kind is not failure.kind
        self._failure = failure
        self._put_off(failure.retry_after)
        if is_news:
            is_admins = failure.kind is FailureKind.MISCONFIGURED
            level = logging.ERROR if is_admins else logging.WARNING
            words = "Could not renew the tokens of %s (%s): %s"
            self.tools.log.log(level, words, self.name, failure.words, failure.kind.value)
        if failure.kind is FailureKind.REJECTED:
            self._rejected = outcome.fingerprint
            self._on_rejected()

    def _put_off(self, seconds: float = 0.0) -> None:
        self._failures += 1
        pause = max(backoff(self._failures), seconds)
        self.retry_at = max(self.retry_at, self._now() + pause)
