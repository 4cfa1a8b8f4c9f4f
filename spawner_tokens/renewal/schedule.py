"""The schedule: when a user's running servers get new tokens, and when these are renewed."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol

from ..foreign import run_foreign
from ..redaction import describe_error
from ..tokens.lifetime import Due, TokenId
from ..tokens.selection import Login
from .auth_state import have_same_tokens
from .pace import backoff, find_shortest_life
from .places import Places
from .recall import DRIFT, LONGEST_TIMER, RecallTimer, find_offset
from .user import FindDue, UserRenewal

# Seconds for which a hook, a renewal and a delivery keep a place, if they take longer.
_HOOK_TIME, _RENEWAL_TIME, _DELIVERY_TIME = 1.0, 1.0, 1.0
# Seconds that a delivery may take.
DELIVERY_TIMEOUT = 30.0
# Deliveries in a row, each of another auth_state, that need not wait.
_CHANGES_AT_ONCE = 5
# Seconds to the next try after an error that should never happen.
_RETRY = 60.0


class Server(Protocol):
    """A running server.

    ``exchange_due``: when an exchange is to be asked for, in seconds since the epoch.
    """

    exchange_due: float

    def find_due(self, login: Login, now: float, spread: float) -> Mapping[TokenId, Due]:
        """The tokens that it gets. ``spread``: see :meth:`.Lifetime.stale_at`."""

    def find_recall_due(self, spread: float) -> float:
        """When what its hook gave is to be had anew, in seconds since the epoch."""

    def recall(self) -> None:
        """Have :meth:`prepare` get it anew, though the login has not changed."""

    async def prepare(self, login: Login, login_ended: bool) -> Any:
        """What changed; ``None`` if nothing did. No auth_state: what was stored is gone."""

    async def update(self, change: Any) -> None:
        """Deliver what changed. If one of both raises, they are called again, ever later.

        Both are cancelled at the server's end.
        """


@dataclass(eq=False)
class _Progress:
    """How many changes of the user's auth_state a server has to get, and how many it got."""

    recall_timer: RecallTimer
    wanted: int = 0
    done: int = 0
    task: asyncio.Task[None] | None = None


class RunningServers:
    """One user's. The places for hooks and deliveries are those of all users.

    ``offset``: :func:`.find_offset` at the Hub's start, if it is known. What is stored was there.
    """

    def __init__(
        self,
        renewal: UserRenewal,
        hooks: Places,
        deliveries: Places,
        offset: float | None = None,
    ) -> None:
        self._renewal = renewal
        self._adapter = renewal.tools.authenticators.hubs
        self._hooks = hooks
        self._deliveries = deliveries
        self._servers: dict[Server, _Progress] = {}
        self._spread = random.random()
        self._due_at = self._ends_at = self._life = math.inf
        self._offset = self._find_offset()
        self._offset_at_save = self._offset if offset is None else offset
        # By how many seconds the Hub's clock was set back since a token was first planned.
        self._set_back: dict[TokenId, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._planning: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._logged: set[TokenId] = set()

    def __bool__(self) -> bool:
        return bool(self._servers)

    def add(self, server: Server) -> None:
        """From now on, deliver each change to it, and renew its tokens in time."""
        timer = RecallTimer(
            lambda: server.find_recall_due(self._spread),
            lambda: server.exchange_due,
            lambda: self._recall(server),
            self._renewal.tools.clock,
        )
        self._servers[server] = _Progress(timer)
        # In an empty context, here and below: a timer would keep a refresh's, and so its tokens.
        Context().run(self._deliver, server)
        Context().run(self._plan)

    def remove(self, *servers: Server) -> None:
        for server in servers:
            if (progress := self._servers.pop(server, None)) is not None:
                progress.recall_timer.cancel()
                if progress.task is not None:
                    progress.task.cancel()
        Context().run(self._plan)

    def remove_all(self) -> None:
        self.remove(*self._servers)

    def deliver_again(self, server: Server) -> None:
        """Update a server though the auth_state has not changed."""
        if server in self._servers:
            Context().run(self._deliver, server)

    def change(self) -> None:
        """Take notice of a new auth_state, or of a login that has ended."""
        Context().run(self._change)

    def _change(self) -> None:
        for server in self._servers:
            self._deliver(server)
        self._plan()

    def note_save(self) -> None:
        """All tokens are as old as that by now, at least."""
        self._offset_at_save = self._find_offset()

    def correct(self, find_due: FindDue) -> FindDue:
        """The same function, for a Hub whose clock was set back since a token was saved."""
        if abs(self._find_offset() - self._offset) > DRIFT:
            Context().run(self._plan)
        return lambda login, now: self._correct(find_due(login, now))

    # -- deliveries ------------------------------------------------------------------------------

    def _deliver(self, server: Server) -> None:
        progress = self._servers[server]
        progress.wanted += 1
        progress.recall_timer.cancel()
        if progress.task is None:
            progress.task = asyncio.create_task(self._keep_updated(server, progress))

    async def _keep_updated(self, server: Server, progress: _Progress) -> None:
        renewal, failures, deliveries = self._renewal, 0, 0
        while progress.done != progress.wanted:
            wanted = progress.wanted
            try:
                await self._update(server, is_retry=failures > 0)
            except Exception as error:
                if not failures:
                    words = "Cannot deliver to a server of %s yet: %s"
                    renewal.tools.log.error(words, renewal.name, describe_error(error))
                failures += 1
                await asyncio.sleep(backoff(failures))
            else:
                progress.done, deliveries = wanted, deliveries + 1
                many = deliveries - _CHANGES_AT_ONCE
                if many > 0 and progress.wanted != wanted:
                    if many == 1:
                        words = "Each delivery for %s finds a new auth_state: does a hook save it?"
                        renewal.tools.log.warning(words, renewal.name)
                    await asyncio.sleep(backoff(many))
        progress.task = None
        progress.recall_timer.set()

    def _recall(self, server: Server) -> None:
        server.recall()
        self._deliver(server)

    async def _update(self, server: Server, *, is_retry: bool) -> None:
        renewal = self._renewal
        login = await renewal.read()
        if login.auth_state is None and not renewal.is_withdrawn:
            return
        async with self._hooks.take(is_retry=is_retry, seconds=_HOOK_TIME):
            preparation = server.prepare(login, renewal.has_ended(login.auth_state))
            change = await run_foreign(preparation, DELIVERY_TIMEOUT)
        if change is not None and have_same_tokens(login, await renewal.read()):
            async with self._deliveries.take(is_retry=is_retry, seconds=_DELIVERY_TIME):
                await run_foreign(server.update(change), DELIVERY_TIMEOUT)

    # -- renewals --------------------------------------------------------------------------------

    def _plan(self) -> None:
        """Set the timer to the first renewal that a server needs."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._note_offset()
        if self._planning is not None:
            self._planning.cancel()
        self._due_at = math.inf
        self._planning = asyncio.create_task(self._find_and_set()) if self._servers else None

    async def _find_and_set(self) -> None:
        try:
            self._due_at = await self._find_first()
        except Exception as error:
            self._log_error(error)
            self._due_at = self._renewal.tools.clock() + _RETRY
        self._planning = None
        self._set_timer()

    def _set_timer(self) -> None:
        if self._due_at < math.inf:
            loop, clock = asyncio.get_running_loop(), self._renewal.tools.clock
            seconds = max(self._due_at - clock(), self._renewal.find_pause(self._life))
            self._timer = loop.call_later(min(seconds, LONGEST_TIMER), self._come_due)

    def _come_due(self) -> None:
        self._timer = None
        now = self._renewal.tools.clock()
        if abs(self._find_offset() - self._offset) > DRIFT:
            self._plan()  # the clock was set, or the machine has slept
        elif now < self._due_at or self._renewal.find_pause(self._life) > 0:
            self._set_timer()
        elif self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())

    def _find_offset(self) -> float:
        return find_offset(self._renewal.tools.clock)

    def _note_offset(self) -> None:
        """Tokens end no later because the Hub's clock was set back: renew them by the new one."""
        back, self._offset = self._offset - self._find_offset(), self._find_offset()
        if back > DRIFT:
            self._set_back = {key: seconds + back for key, seconds in self._set_back.items()}

    async def _renew(self) -> None:
        try:
            await self._renewal.renew(self._find_due, in_turn=self._take_turn)
        except Exception as error:
            self._log_error(error)
        self._renewing = None
        self._plan()

    def _take_turn(self, failures: int) -> AbstractAsyncContextManager[None]:
        return self._adapter.renewals.take(
            (failures, self._ends_at), is_retry=failures > 0, seconds=_RENEWAL_TIME
        )

    def _log_error(self, error: Exception) -> None:
        words = "Cannot look after the tokens of %s now: %s"
        self._renewal.tools.log.error(words, self._renewal.name, describe_error(error))

    def _find_due(self, login: Login, now: float) -> Mapping[TokenId, Due]:
        found: dict[TokenId, Due] = {}
        for server in self._servers:
            for key, due in server.find_due(login, now, self._spread).items():
                found[key] = min(due, found.get(key, due))
        return self._correct(found)

    def _correct(self, due: Mapping[TokenId, Due]) -> Mapping[TokenId, Due]:
        return {key: at.set_back(self._find_set_back(key)) for key, at in due.items()}

    def _find_set_back(self, key: TokenId) -> float:
        back = self._offset_at_save - self._find_offset()
        return self._set_back.get(key, back if back > DRIFT else 0.0)

    async def _find_first(self) -> float:
        renewal, login = self._renewal, await self._renewal.read()
        auth_state = login.auth_state
        if auth_state is None:
            return math.inf
        self._adapter = renewal.tools.authenticators.find(renewal.name, auth_state)
        due = self._find_due(login, renewal.tools.clock())
        self._set_back = {key: self._find_set_back(key) for key in due}
        times = renewal.find_times(due) if renewal.can_renew(auth_state) else {}
        if not renewal.has_ended(auth_state):
            self._log_lost(due, times)
        self._life = find_shortest_life(due)
        self._ends_at = min((at.ends_at for at in due.values()), default=math.inf)
        return min(times.values(), default=math.inf)

    def _log_lost(self, due: Mapping[TokenId, Due], times: Mapping[TokenId, float]) -> None:
        """Log once which tokens end and are not renewed."""
        ending = {key for key, at in due.items() if at.ends_at < math.inf}
        lost = {key for key in ending if times.get(key, math.inf) == math.inf} - self._logged
        if lost:
            self._logged |= lost
            names = ", ".join(sorted(name for name, _ in lost))
            words = "Nothing renews these tokens of %s, which have an end: %s"
            self._renewal.tools.log.warning(words, self._renewal.name, names)
