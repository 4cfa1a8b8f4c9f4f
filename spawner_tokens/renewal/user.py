"""An account: what is known of a user between flights, and so who flies when."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from ..metrics import SUCCESS, UNCHANGED, count_renewal
from ..tokens.lifetime import Due, Key
from .grant import Failure, Kind
from .refresh import Crew, Flight
from .store import AuthState, mark

# Seconds to the next try after a failure: doubled each time, and scattered. No two renewals are nearer than the first.
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0

# Seconds after which a token has ended for the provider, too.
_SURELY = 2.0

FindDue = Callable[[AuthState], Mapping[Key, Due]]


def backoff(failures: int) -> float:
    """Seconds to wait after so many failures in a row, at least one."""
    return float(min(_FIRST_RETRY * 2 ** min(failures - 1, 16), _LAST_RETRY)) * random.uniform(
        0.5, 1
    )


class UserRenewal:
    """One user's flights. Tokens are known here by their hashes alone.

    ``on_rejected`` is called when the provider says that the login is over.
    """

    def __init__(self, crew: Crew, user: Any, on_rejected: Callable[[], None]) -> None:
        self.crew = crew
        self.user = user
        self.name = user.name  # a database that is down cannot be asked for it
        self.retry_at = 0.0  # by the event loop's clock
        self._on_rejected = on_rejected
        self._flight: Flight | None = None
        self._failures = 0
        self._failure: Failure | None = None
        self._rejected: int | None = None
        self._unmoved: dict[
            Key, float
        ] = {}  # what a renewal has left as it was → when to try again
        self._unheard: tuple[int, Any, Exception | None] | None = None

    def read(self) -> AuthState | None:
        """The user's auth_state, as it is stored."""
        return self.crew.journal.read(self.user.orm_user)

    def has_ended(self, auth_state: AuthState) -> bool:
        """Whether the provider has said that this login is over."""
        return self._rejected is not None and self._rejected == mark(auth_state)

    def can_renew(self, auth_state: AuthState) -> bool:
        """Whether there is a way to renew this auth_state's tokens."""
        by_grant = self.crew.provider is not None and bool(auth_state.get("refresh_token"))
        return (by_grant or self.crew.asks_authenticator) and not self.has_ended(auth_state)

    def find_first(self, due: Mapping[Key, Due]) -> dict[Key, float]:
        """When each token's turn comes: infinite for those that renewals do not change."""
        self._unmoved = {key: at for key, at in self._unmoved.items() if key in due or not key[0]}
        return self._find_turns(due)

    def find(self, find_due: FindDue) -> set[Key]:
        """What is due and can be renewed now."""
        auth_state = self.read()
        if auth_state is None or self._now() < self.retry_at or not self.can_renew(auth_state):
            return set()
        now = self.crew.clock()
        return {key for key, at in self._find_turns(find_due(auth_state)).items() if at <= now}

    async def renew(self, find_due: FindDue, seconds: float = math.inf) -> bool:
        """Renew until nothing is due, or nothing can be done about it now.

        Waits no longer than ``seconds``, which count from the departure of a flight that is in the air already.
        Returns whether it has seen the end.
        """
        deadline = None
        while due := self.find(find_due):
            flight = self.board(renews=True)
            deadline = deadline or flight.departed_at + seconds
            if not await flight.wait(deadline):
                return False
            self._note_progress(flight, due, find_due)
        return True

    async def check(
        self, find_due: FindDue, handler: Any, arguments: Mapping[str, Any], seconds: float
    ) -> Any:
        """What the authenticator's ``refresh_user`` returns or raises; :exc:`TimeoutError` if that takes too long.

        What nobody had the time to hear is what the next one hears who asks.
        """
        heard, self._unheard = self._unheard, None
        if heard is None or heard[0] != mark(self.read()):
            due = self.find(find_due)
            flight = self.board(renews=bool(due))
            flight.want_check(handler, arguments)
            if not await flight.wait(flight.departed_at + seconds):
                raise TimeoutError
            self._note_progress(flight, due, find_due)
            heard, self._unheard = (0, flight.verdict, flight.error), None
        _, verdict, error = heard
        if error is not None:
            raise error
        return dict(verdict) if isinstance(verdict, dict) else verdict

    def board(self, *, renews: bool) -> Flight:
        """The flight that is in the air, or a new one."""
        if self._flight is not None and not self._flight.task.done():
            return self._flight
        auth_state = self.read()
        stands = self._now() < self.retry_at or (
            auth_state is not None and self.has_ended(auth_state)
        )
        flight = self._flight = Flight(
            self.crew, self.user, renews=renews, held=self._failure if stands else None
        )
        flight.task.add_done_callback(lambda task: self._land(flight))
        return flight

    # -- inside ----------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _find_turns(self, due: Mapping[Key, Due]) -> dict[Key, float]:
        return {
            key: max(at.stale_at, self._unmoved.get(key, at.stale_at)) for key, at in due.items()
        }

    def _note_progress(self, flight: Flight, before: set[Key], find_due: FindDue) -> None:
        """What a renewal leaves as it is will be tried again at its end; what is due again at once, a little later."""
        if not flight.renewed:
            return
        now = self.crew.clock()
        after = {
            key: due for key, due in find_due(self.read() or {}).items() if due.stale_at <= now
        }
        for key in before & after.keys():
            again_at = after[key].ends_at + _SURELY
            self._unmoved[key] = again_at if now < again_at else math.inf
        if after.keys() - before:
            self._put_off()

    def _land(self, flight: Flight) -> None:
        self._flight = None
        if flight.wants_check and (flight.verdict is not True or flight.error is not None):
            self._unheard = flight.mark, flight.verdict, flight.error
        failure = flight.failure
        if flight.renewed:
            if flight.changed:
                self.crew.log.info("Renewed the tokens of %s", self.name)
            count_renewal(SUCCESS if flight.changed else UNCHANGED)
            self._failures, self._failure, self._rejected = 0, None, None
            self.retry_at = self._now() + _FIRST_RETRY
        elif failure is not None and failure is not flight.held:
            if flight.tried:
                count_renewal(failure.kind.name.lower())
            is_news = self._failure is None or self._failure.kind is not failure.kind
            self._failure = failure
            self._put_off(failure.retry_after)
            if is_news:
                level = logging.ERROR if failure.kind is Kind.MISCONFIGURED else logging.WARNING
                words = "Could not renew the tokens of %s (%s): %s"
                self.crew.log.log(level, words, self.name, failure.words, failure.kind.value)
            if failure.kind is Kind.REJECTED:
                self._rejected = flight.mark
                self._on_rejected()

    def _put_off(self, seconds: float = 0.0) -> None:
        self._failures += 1
        self.retry_at = max(self.retry_at, self._now() + max(backoff(self._failures), seconds))
