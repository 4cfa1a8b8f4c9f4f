"""The running servers of a user: what they are shown, and when their tokens are renewed."""

from __future__ import annotations

import asyncio
import heapq
import math
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from contextvars import Context
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from ..redaction import describe_error
from .store import AuthState
from .user import UserRenewal, Due, Key, backoff

# Seconds that a delivery may take, and to the next look when something went wrong that never should.
_LONGEST_DELIVERY = 30.0
_NEXT_LOOK = 60.0
# Seconds. A timer of the event loop knows nothing of a clock that was set, or of a machine that slept.
_LONGEST_TIMER = 600.0


class Server(Protocol):
    """A running server, as its Spawner shows it to us."""

    def find_due(self, auth_state: AuthState, spread: float) -> Mapping[Key, Due]:
        """The tokens that it gets. ``spread``: see :meth:`.Lifetime.stale_at`."""

    async def show(self, auth_state: AuthState, login_ended: bool) -> None:
        """Deliver what changed. May raise anything: then it is called again. Is cancelled when the server stops."""


@dataclass(eq=False)
class _Delivery:
    """How far a server is behind the changes of its user's auth_state."""

    wanted: int = 0
    done: int = 0
    task: asyncio.Task[None] | None = None


class RunningServers:
    """One user's. ``turns`` and ``hands`` are shared by all users: for renewals, and for deliveries."""

    def __init__(
        self, account: UserRenewal, turns: PrioritySemaphore, hands: asyncio.Semaphore
    ) -> None:
        self._account = account
        self._turns = turns
        self._hands = hands
        self._deliveries: dict[Server, _Delivery] = {}
        self._spread = random.random()
        self._due_at = self._ends_at = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Task[None] | None = None
        self._told: set[Key] = set()

    def __bool__(self) -> bool:
        return bool(self._deliveries)

    def add(self, server: Server) -> None:
        """From now on, show it each change, and renew its tokens in time."""
        self._deliveries[server] = _Delivery()
        # In a context of its own, here and below: a timer that kept a flight's would keep its tokens.
        Context().run(self._deliver, server)
        Context().run(self._plan)

    def remove(self, server: Server) -> None:
        delivery = self._deliveries.pop(server, None)
        if delivery is not None and delivery.task is not None:
            delivery.task.cancel()
        Context().run(self._plan)

    def show_again(self, server: Server) -> None:
        """A server has to be shown what it has been shown already."""
        if server in self._deliveries:
            Context().run(self._deliver, server)

    def change(self) -> None:
        """The user's auth_state has changed, or what is known of it."""
        Context().run(self._change)

    def _change(self) -> None:
        for server in self._deliveries:
            self._deliver(server)
        self._plan()

    # -- what they are shown ---------------------------------------------------------------------

    def _deliver(self, server: Server) -> None:
        delivery = self._deliveries[server]
        delivery.wanted += 1
        if delivery.task is None:
            delivery.task = asyncio.create_task(self._keep_up(server, delivery))

    async def _keep_up(self, server: Server, delivery: _Delivery) -> None:
        account, failures = self._account, 0
        while delivery.done != delivery.wanted:
            wanted = delivery.wanted
            try:
                async with self._hands:
                    auth_state = account.read()
                    if auth_state is not None:
                        shown = server.show(auth_state, account.has_ended(auth_state))
                        await asyncio.wait_for(shown, _LONGEST_DELIVERY)
            except Exception as error:
                if not failures:
                    words = "Cannot deliver to a server of %s yet: %s"
                    account.crew.log.error(words, account.name, describe_error(error))
                failures += 1
                await asyncio.sleep(backoff(failures))
            else:
                delivery.done = wanted
        delivery.task = None

    # -- when their tokens are renewed -----------------------------------------------------------

    def _plan(self) -> None:
        """Set the timer to the first renewal that one of them needs. Never raises."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._due_at = self._find_first() if self._deliveries else math.inf
        except Exception as error:
            self._excuse(error)
            self._due_at = self._account.crew.clock() + _NEXT_LOOK
        self._set_timer()

    def _set_timer(self) -> None:
        if self._due_at < math.inf:
            loop = asyncio.get_running_loop()
            seconds = max(
                self._due_at - self._account.crew.clock(), self._account.retry_at - loop.time(), 0.0
            )
            self._timer = loop.call_later(min(seconds, _LONGEST_TIMER), self._come_due)

    def _come_due(self) -> None:
        self._timer = None
        if self._account.crew.clock() < self._due_at:
            self._set_timer()
        elif self._turn is None:
            self._turn = asyncio.create_task(self._take_turn())

    async def _take_turn(self) -> None:
        try:
            async with self._turns.take(self._ends_at):
                await self._account.renew(self._find_due)
        except Exception as error:
            self._excuse(error)
        self._turn = None
        self._plan()

    def _excuse(self, error: Exception) -> None:
        words = "Cannot look after the tokens of %s now: %s"
        self._account.crew.log.error(words, self._account.name, describe_error(error))

    def _find_due(self, auth_state: AuthState) -> Mapping[Key, Due]:
        found: dict[Key, Due] = {}
        for server in self._deliveries:
            for key, due in server.find_due(auth_state, self._spread).items():
                found[key] = min(due, found.get(key, due))
        return found

    def _find_first(self) -> float:
        account, auth_state = self._account, self._account.read()
        if auth_state is None:
            return math.inf
        due = self._find_due(auth_state)
        first = account.find_first(due) if account.can_renew(auth_state) else {}
        lost = {
            key
            for key, at in due.items()
            if at.ends_at < math.inf and first.get(key, math.inf) == math.inf
        }
        if not account.has_ended(auth_state) and (news := lost - self._told):
            self._told |= news
            names = ", ".join(sorted(name for name, _ in news))
            words = "Nothing renews these tokens of %s, which have an end: %s"
            account.crew.log.warning(words, account.name, names)
        self._ends_at = min((at.ends_at for at in due.values()), default=math.inf)
        return min(first.values(), default=math.inf)


class PrioritySemaphore:
    """A semaphore with ``places``, whose next is not who waits longest, but who comes with the least number."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._order = count()
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []

    @asynccontextmanager
    async def take(self, number: float) -> AsyncIterator[None]:
        if self._free:
            self._free -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (number, next(self._order), turn))
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
