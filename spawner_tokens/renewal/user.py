"""One user's renewal: what is known of it between two refreshes, and so when the next one is."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

from ..metrics import SUCCESS, UNCHANGED, count_renewal
from ..tokens.lifetime import Due, TokenId
from ..tokens.selection import Login, Reason
from .auth_state import Fingerprint, fingerprint
from .grant import Failure, FailureKind
from .outcome import Outcome
from .pace import (
    FIRST_PAUSE,
    FIRST_RETRY,
    LAST_PAUSE,
    LAST_RETRY,
    Pace,
    backoff,
    find_shortest_life,
)
from .refresh import Refresh, Tools

# Seconds after its end until a token has ended by the provider's clock, too.
_CLOCK_DIFFERENCE = 2.0
# By a login and the time, in seconds since the epoch.
FindDue = Callable[[Login, float], Mapping[TokenId, Due]]


class _Result(NamedTuple):
    """What ``refresh_user`` returned or raised, for the auth_state with this fingerprint."""

    fingerprint: Fingerprint
    auth_model: Any
    error: Exception | None

    @classmethod
    def from_outcome(cls, outcome: Outcome) -> _Result:
        return cls(outcome.fingerprint, outcome.auth_model, outcome.error)


class UserRenewal:
    """Decides when a user's tokens are renewed, and lets all who ask at once share one refresh.

    Tokens are known here by their hashes alone. ``on_ended`` is called when the login has ended,
    and when it has not after all.
    """

    def __init__(self, tools: Tools, user: Any, on_ended: Callable[[], None]) -> None:
        self.tools = tools
        self.user = user
        self.name = user.name  # a database that is down cannot be asked for it
        self.retry_at = 0.0  # by the event loop's clock
        self._on_ended = on_ended
        self._refresh: Refresh | None = None
        self._failures = 0
        self._failure: Failure | None = None
        self._rejected: Fingerprint | None = None
        # Where the provider does not say so, and the authenticator alone does.
        self._denied: Fingerprint | None = None
        # A token that a renewal did not change → when to try again, in seconds since the epoch.
        self._not_renewable_until: dict[TokenId, float] = {}
        # A result that arrived after its caller timed out: the next caller gets it.
        self._undelivered_result: _Result | None = None
        # A token's name → the renewals in a row whose new token was due at once.
        self._idle: dict[str, int] = {}
        # What the last renewal left, and how long the next one of that has to wait.
        self._renewed: Fingerprint | None = None
        self._pace = Pace(tools.clock)

    async def read(self) -> Login:
        """The user's login, as it is stored; without an auth_state if the Hub does not keep any."""
        if not self.tools.authenticators.hubs.keeps_auth_state:
            return Login(reason=Reason.AUTH_STATE_OFF)
        login = await self.tools.store.load(self.user.orm_user)
        renewed = self._renewed if self._refresh is None else None
        if renewed and renewed != fingerprint(login.auth_state):
            self._renewed, self._pace = None, Pace(self.tools.clock)  # a login came after it
        return login

    @property
    def is_withdrawn(self) -> bool:
        """Whether nothing is stored of the user's login."""
        return self.user.orm_user.encrypted_auth_state is None

    def forget_failures(self) -> None:
        """A login came, with the tokens that were there before, perhaps."""
        self._failures, self._failure, self.retry_at = 0, None, 0.0
        self._rejected = self._denied = None

    def has_ended(self, auth_state: Mapping[str, Any] | None) -> bool:
        """Whether the provider has ended this login, or the authenticator says so."""
        return self._rejected is not None and self._rejected == fingerprint(auth_state)

    def can_renew(self, auth_state: Mapping[str, Any]) -> bool:
        """Whether there is a way to renew this auth_state's tokens."""
        if self.has_ended(auth_state) and self._failure is not None and self._failure.is_final:
            return False
        adapter = self.tools.authenticators.find(self.name, auth_state)
        return adapter.can_grant(auth_state) or adapter.renews_itself

    def find_times(self, due: Mapping[TokenId, Due]) -> dict[TokenId, float]:
        """When each token is to be renewed; infinite for those that renewals do not change.

        Forgets the tokens that are not among these.
        """
        known = self._not_renewable_until.items()
        self._not_renewable_until = {key: at for key, at in known if key in due or not key[0]}
        return self._find_times(due)

    def find_pause(self, life: float) -> float:
        """Seconds until tokens that live for ``life`` seconds may be renewed as scheduled."""
        return max(self.retry_at - self._now(), self._pace.find_left(life), 0.0)

    async def find_renewable(self, find_due: FindDue, *, paced: bool = True) -> set[TokenId]:
        """The tokens that are due and can be renewed now; if not ``paced``, though one just was."""
        login = await self.read()
        auth_state = login.auth_state
        if auth_state is None or self._now() < self.retry_at or not self.can_renew(auth_state):
            return set()
        now = self.tools.clock()
        due = find_due(login, now)
        if paced and self.find_pause(find_shortest_life(due)) > 0:
            return set()
        return {key for key, at in self._find_times(due).items() if at <= now}

    async def renew(
        self,
        find_due: FindDue,
        seconds: float = math.inf,
        *,
        paced: bool = False,
        in_turn: Callable[[int], AbstractAsyncContextManager[None]] | None = None,
    ) -> bool:
        """Renew until no token is due, or none can be renewed now.

        Waits at most ``seconds``, which count from the start of a refresh that runs already.
        Returns whether it was done by then. A scheduled renewal is ``paced``, and has ``in_turn``:
        a place among all users' renewals, by its failures in a row, while the provider is asked.
        """
        deadline, is_scheduled = None, in_turn is not None
        while due := await self.find_renewable(find_due, paced=paced or is_scheduled):
            if in_turn is None:
                refresh = await self.get_refresh(due)
            else:
                async with in_turn(self._failures):
                    due = await self.find_renewable(find_due)  # by now it may be done
                    if not due:
                        break
                    refresh = await self.get_refresh(due)
                    await refresh.wait_for_answer()
            deadline = deadline or refresh.started_at + seconds
            outcome = await refresh.wait(deadline)
            if outcome is None:
                return False
            await self._note_progress(refresh, outcome, find_due, is_scheduled=is_scheduled)
        return True

    async def check(
        self, find_due: FindDue, handler: Any, arguments: Mapping[str, Any], seconds: float
    ) -> Any:
        """What the authenticator's ``refresh_user`` returns or raises.

        Raises :exc:`TimeoutError` after so many ``seconds``; the result that arrives later is
        returned to the next caller.
        """
        login = await self.read()
        result, self._undelivered_result = self._undelivered_result, None
        if result is None or result.fingerprint != fingerprint(login.auth_state):
            due = await self.find_renewable(find_due)
            life = find_shortest_life(find_due(login, self.tools.clock()))
            may_confirm = not self.find_pause(life)
            refresh = await self.get_refresh(due, may_confirm=may_confirm)
            refresh.request_check(handler, arguments)
            outcome = await refresh.wait(refresh.started_at + seconds)
            if outcome is None:
                raise TimeoutError
            await self._note_progress(refresh, outcome, find_due)
            self._undelivered_result = None
            result = _Result.from_outcome(outcome)
        if result.error is not None:
            raise result.error
        model = result.auth_model
        return dict(model) if isinstance(model, dict) else model

    async def get_refresh(self, due: set[TokenId], *, may_confirm: bool = True) -> Refresh:
        """The refresh that runs, or a new one for what is due: see there."""
        auth_state = (await self.read()).auth_state
        if self._refresh is not None and not self._refresh.task.done():
            return self._refresh
        has_ended = auth_state is not None and self.has_ended(auth_state)
        standing = self._failure if has_ended or self._now() < self.retry_at else None
        refresh = Refresh(
            self.tools,
            self.tools.authenticators.find(self.name, auth_state),
            self.user,
            due=due,
            standing_failure=standing,
            may_confirm=may_confirm,
            is_denied=has_ended or self._denied == fingerprint(auth_state),
        )
        self._refresh = refresh
        self._pace.note_request()
        refresh.task.add_done_callback(lambda task: self._finish(task, standing))
        return refresh

    # -- inside ----------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _find_times(self, due: Mapping[TokenId, Due]) -> dict[TokenId, float]:
        if self._failure is not None and not self._failure.by_provider:
            return dict.fromkeys(due, 0.0)  # try again soon: the authenticator may be wrong
        until = self._not_renewable_until
        return {key: max(at.stale_at, until.get(key, at.stale_at)) for key, at in due.items()}

    async def _note_progress(
        self, refresh: Refresh, outcome: Outcome, find_due: FindDue, *, is_scheduled: bool = False
    ) -> None:
        """A token that a renewal did not change is tried again after its end.

        One whose new token is due at once is tried again ever later, in half of its life at most.
        """
        if not outcome.renewed:
            return
        now = self.tools.clock()
        found = find_due(await self.read(), now)
        after = {key: due for key, due in found.items() if due.stale_at <= now}
        for key in refresh.due & after.keys():
            again_at = after[key].ends_at + _CLOCK_DIFFERENCE
            self._not_renewable_until[key] = again_at if now < again_at else math.inf
        if is_scheduled:
            new = {key: due for key, due in after.items() if key not in refresh.due}
            self._note_idle(new, {name for name, _ in after}, now)

    def _note_idle(self, new: Mapping[TokenId, Due], names: set[str], now: float) -> None:
        self._idle = {name: number for name, number in self._idle.items() if name in names}
        first = sorted(name for name, _ in new if name not in self._idle)
        for key, due in new.items():
            self._idle[key[0]] = self._idle.get(key[0], 0) + 1
            pause = backoff(self._idle[key[0]], FIRST_PAUSE, LAST_PAUSE)
            left = due.ends_at - now
            self._not_renewable_until[key] = now + (min(pause, left / 2) if left > 0 else pause)
        if first:
            words = "A renewal for %s left these tokens due, so the next ones wait longer: %s"
            self.tools.log.warning(words, self.name, ", ".join(first))

    def _finish(self, task: asyncio.Task[Outcome], standing: Failure | None) -> None:
        self._refresh = None
        if task.cancelled():
            self._put_off()
            return
        outcome = task.result()
        if outcome.requested and (outcome.auth_model is not True or outcome.error is not None):
            self._undelivered_result = _Result.from_outcome(outcome)
        is_kept = outcome.failure is None and bool(outcome.auth_model)
        self._denied = None if is_kept or outcome.failure else outcome.stored
        if outcome.renewed:
            count_renewal(SUCCESS if outcome.changed else UNCHANGED)
            if outcome.changed:
                self.tools.log.info("Renewed the tokens of %s", self.name)
            had_ended, self._rejected = self._rejected is not None, None
            self._failures, self._failure = 0, None
            self.retry_at = self._now() + FIRST_RETRY
            self._pace.note_renewal()
            self._renewed = outcome.stored
            if had_ended:
                self._on_ended()
        elif outcome.failure is not None and outcome.failure is not standing:
            self._note_failure(outcome, outcome.failure)

    def _note_failure(self, outcome: Outcome, failure: Failure) -> None:
        if outcome.attempted:
            count_renewal(failure.kind.name.lower())
        is_news = self._failure is None or self._failure.kind is not failure.kind
        self._failure = failure
        last = LAST_RETRY if failure.by_provider else LAST_PAUSE
        self._put_off(failure.retry_after, last)
        if is_news:
            is_admins = failure.kind is FailureKind.MISCONFIGURED
            level = logging.ERROR if is_admins else logging.WARNING
            words = "Could not renew the tokens of %s (%s): %s"
            self.tools.log.log(level, words, self.name, failure.words, failure.kind.value)
        if failure.kind is FailureKind.REJECTED:
            self._rejected = outcome.fingerprint
            self._on_ended()

    def _put_off(self, seconds: float = 0.0, last: float = LAST_RETRY) -> None:
        self._failures += 1
        pause = max(backoff(self._failures, last=last), seconds)
        self.retry_at = max(self.retry_at, self._now() + pause)
