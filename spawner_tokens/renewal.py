"""The renewal: who flies when, for spawns, for running servers and for the Hub itself; and who sees what changed."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

from jupyterhub import orm

from .discretion import describe
from .flight import Crew, Flight
from .grant import GrantFailed, Kind
from .journal import AuthState, Journal
from .lifetime import find_lifetime
from .selection import find_token_response

# Scheduled renewals at a time, and deliveries to running servers at a time.
_AT_ONCE = 5
# Seconds to the next try after a failure: doubled each time, and scattered.
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0
_LONGEST_TIMER = 86400.0


Key = tuple[str, int]  # a token's name and its hash


class Server(Protocol):
    """A running server, as its Spawner shows it to us."""

    def find_stale(self, auth_state: AuthState, spread: float) -> Mapping[Key, float]:
        """Each token that it gets → when that should be renewed, as :meth:`.Lifetime.stale_at` has it."""

    async def show(self, auth_state: AuthState, login_ended: bool) -> None:
        """Deliver what changed. May raise anything: then it is called again."""


@dataclass(eq=False)
class _Delivery:
    """How far a running server is behind the changes of its user's auth_state."""

    wanted: int = 0
    done: int = 0
    task: asyncio.Task[None] | None = None


@dataclass(eq=False)
class _Account:
    """What is known of a user between flights. Tokens are known here by their hashes alone."""

    user: Any
    deliveries: dict[Server, _Delivery] = field(default_factory=dict)
    flight: Flight | None = None
    timer: asyncio.TimerHandle | None = None
    turn: asyncio.Task[None] | None = None
    spread: float = field(default_factory=random.random)
    failures: int = 0
    failure: GrantFailed | None = None
    retry_at: float = 0.0
    rejected: int | None = None
    unmoved: set[Key] = field(default_factory=set)  # renewals leave these as they are
    told: set[Key] = field(default_factory=set)


class Renewal:
    """Keeps the tokens of a Hub's users fresh: one for each Hub, which :meth:`of` finds or installs.

    ``min_lifetime`` and ``timeout`` (seconds) are for the Hub's own refreshes, ``clock`` gives seconds since the epoch.
    """

    def __init__(
        self,
        authenticator: Any,
        session: Any,
        *,
        min_lifetime: float,
        timeout: float,
        log: logging.Logger,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._authenticator = authenticator
        self._min_lifetime = min_lifetime
        self._timeout = timeout
        self._log = log
        self._clock = clock
        self._accounts: dict[int, _Account] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._hands = asyncio.Semaphore(_AT_ONCE)
        self._journal = Journal(session, clock, log, self._see_save)
        self._crew = Crew.of(authenticator, self._journal, clock, log)
        authenticator.refresh_user = self.refresh_user

    @classmethod
    def of(cls, authenticator: Any, session: Any, **settings: Any) -> Renewal:
        """The renewal of this authenticator's Hub: its instance's ``refresh_user`` is ours from now on."""
        installed = getattr(authenticator.refresh_user, "__self__", None)
        return installed if isinstance(installed, cls) else cls(authenticator, session, **settings)

    # -- the Hub's own refreshes -----------------------------------------------------------------

    async def refresh_user(self, user: Any, handler: Any = None, **arguments: Any) -> Any:
        """In place of the authenticator's own, which is asked once for all who ask at the same time.

        Returns what it returned but for the auth_state, which is stored by then; ``True`` if it had no answer in
        time, or the provider was in no state to give one. Raises what it raised.
        """
        if not self._authenticator.enable_auth_state or Flight.aboard() is not None:
            return await self._crew.refresh_user(user, handler, **arguments)
        account = self._account(user)
        flight = account.flight or self._depart(account, renews=bool(self._find_due(account, self._find_login)))
        flight.want_check(handler, arguments)
        if not await flight.wait(flight.departed_at + self._timeout):
            self._log.warning("No answer yet whether %s is still logged in: staying so", user.name)
            return True
        if flight.error is not None:
            raise flight.error
        return dict(flight.verdict) if isinstance(flight.verdict, dict) else flight.verdict

    def _find_login(self, auth_state: AuthState) -> Mapping[Key, float]:
        value = auth_state.get("access_token")
        if not isinstance(value, str):
            return {}
        lifetime = find_lifetime(value, find_token_response(value, auth_state))
        return {("", hash(value)): lifetime.stale_at(self._min_lifetime, 0, 1)}

    # -- spawns ----------------------------------------------------------------------------------

    async def ensure(self, user: Any, find_stale: Callable[[AuthState], Mapping[Key, float]], seconds: float) -> None:
        """Renew what is stale by ``find_stale(auth_state)``: each token → when it should be renewed.

        Waits for the provider no longer than ``seconds``, which count from the departure of a flight that is in the air
        already. What goes wrong is logged, and the tokens are as they were.
        """
        account = self._account(user)
        deadline = None
        while self._find_due(account, find_stale):
            flight = account.flight or self._depart(account, renews=True)
            deadline = deadline or flight.departed_at + seconds
            if not await flight.wait(deadline):
                self._log.warning("No answer yet with new tokens for %s: not waiting any longer", user.name)
                return
            self._note_unmoved(account, flight, find_stale)

    # -- running servers -------------------------------------------------------------------------

    def watch(self, user: Any, server: Server) -> None:
        """From now on, renew a running server's tokens in time, and show it each change."""
        account = self._account(user)
        account.deliveries[server] = _Delivery()
        Context().run(self._deliver, account, server)
        Context().run(self._plan, account)

    def unwatch(self, user: Any, server: Server) -> None:
        """Forget a server. A delivery to it that has begun ends by itself."""
        account = self._accounts.get(user.orm_user.id)
        if account is not None and account.deliveries.pop(server, None) is not None:
            self._plan(account)

    def _see_save(self, user: orm.User) -> None:
        account = self._accounts.get(user.id)
        if account is not None and account.deliveries:
            # By then it is there to be read. A timer must not keep the context of a flight, and so its tokens.
            asyncio.get_running_loop().call_soon(self._change, account, context=Context())

    def _change(self, account: _Account) -> None:
        for server in account.deliveries:
            self._deliver(account, server)
        self._plan(account)

    def _deliver(self, account: _Account, server: Server) -> None:
        delivery = account.deliveries[server]
        delivery.wanted += 1
        if delivery.task is None or delivery.task.done():
            delivery.task = asyncio.create_task(self._keep_up(account, server, delivery))

    async def _keep_up(self, account: _Account, server: Server, delivery: _Delivery) -> None:
        failures = 0
        while account.deliveries.get(server) is delivery and delivery.done != delivery.wanted:
            wanted = delivery.wanted
            try:
                async with self._hands:
                    auth_state = self._journal.read(account.user.orm_user)
                    if auth_state is not None:
                        await server.show(auth_state, account.rejected == _mark(auth_state))
            except Exception as error:
                if not failures:
                    self._log.error("Cannot deliver to a server of %s yet: %s", account.user.name, describe(error))
                failures += 1
                await asyncio.sleep(_backoff(failures))
            else:
                delivery.done = wanted

    # -- the schedule ----------------------------------------------------------------------------

    def _plan(self, account: _Account) -> None:
        """Set the timer to the first renewal that the user's running servers need."""
        if account.timer is not None:
            account.timer.cancel()
            account.timer = None
        auth_state = self._journal.read(account.user.orm_user) if account.deliveries else None
        if auth_state is None:
            return
        stale = self._find_servers(account)(auth_state)
        ours = {key for key in stale if key not in account.unmoved and self._can_renew(account, auth_state)}
        at = max(min((stale[key] for key in ours), default=math.inf), account.retry_at)
        if at < math.inf:
            seconds = min(max(at - self._clock(), 0.0), _LONGEST_TIMER)
            account.timer = asyncio.get_running_loop().call_later(seconds, self._come_due, account)
        lost = {key for key, end in stale.items() if math.isfinite(end)} - ours - account.told
        if lost and account.rejected != _mark(auth_state):
            account.told |= lost
            names = ", ".join(sorted(name for name, _ in lost))
            self._log.warning("Nothing renews these tokens of %s, which have an end: %s", account.user.name, names)

    def _find_servers(self, account: _Account) -> Callable[[AuthState], Mapping[Key, float]]:
        def find_stale(auth_state: AuthState) -> Mapping[Key, float]:
            stale: dict[Key, float] = {}
            for server in account.deliveries:
                for key, at in server.find_stale(auth_state, account.spread).items():
                    stale[key] = min(at, stale.get(key, at))
            return stale

        return find_stale

    def _come_due(self, account: _Account) -> None:
        account.timer = None
        if account.turn is None or account.turn.done():
            account.turn = asyncio.create_task(self._take_turn(account))

    async def _take_turn(self, account: _Account) -> None:
        find_stale = self._find_servers(account)
        try:
            async with self._turns:
                if self._find_due(account, find_stale):
                    flight = account.flight or self._depart(account, renews=True)
                    await asyncio.wait({flight.task})
                    self._note_unmoved(account, flight, find_stale)
        except Exception as error:
            self._log.error("Cannot look after the tokens of %s now: %s", account.user.name, describe(error))
            account.retry_at = self._clock() + _LAST_RETRY
        self._plan(account)

    # -- flights ---------------------------------------------------------------------------------

    def _account(self, user: Any) -> _Account:
        account = self._accounts.get(user.orm_user.id)
        if account is None:
            account = self._accounts[user.orm_user.id] = _Account(user)
        account.user = user
        return account

    def _find_due(self, account: _Account, find_stale: Callable[[AuthState], Mapping[Key, float]]) -> set[Key]:
        """What is stale and can be renewed now."""
        auth_state = self._journal.read(account.user.orm_user)
        now = self._clock()
        if auth_state is None or now < account.retry_at or not self._can_renew(account, auth_state):
            return set()
        return {key for key, at in find_stale(auth_state).items() if at <= now} - account.unmoved

    def _can_renew(self, account: _Account, auth_state: AuthState) -> bool:
        if account.rejected == _mark(auth_state):
            return False
        by_grant = self._crew.provider is not None and bool(auth_state.get("refresh_token"))
        return by_grant or self._crew.asks_authenticator

    def _note_unmoved(
        self, account: _Account, flight: Flight, find_stale: Callable[[AuthState], Mapping[Key, float]]
    ) -> None:
        if flight.renewed:
            account.unmoved |= self._find_due(account, find_stale)

    def _depart(self, account: _Account, *, renews: bool) -> Flight:
        held = account.failure if self._clock() < account.retry_at else None
        flight = account.flight = Flight(self._crew, account.user, renews=renews, held=held)
        flight.task.add_done_callback(lambda task: self._land(account, flight))
        return flight

    def _land(self, account: _Account, flight: Flight) -> None:
        account.flight = None
        name, failure = account.user.name, flight.failure
        if flight.renewed:
            self._log.info("Renewed the tokens of %s", name)
            account.failures, account.failure, account.retry_at, account.rejected = 0, None, 0.0, None
        elif failure is not None and failure is not account.failure:
            if failure.kind is Kind.REJECTED and flight.seen is not None:
                account.rejected = _mark(flight.seen)
                Context().run(self._change, account)
            if account.failure is None or account.failure.kind is not failure.kind:
                level = logging.ERROR if failure.kind is Kind.MISCONFIGURED else logging.WARNING
                self._log.log(level, "Could not renew the tokens of %s (%s): %s", name, failure, failure.kind.value)
            account.failures += 1
            account.failure = failure
            account.retry_at = self._clock() + max(_backoff(account.failures), failure.retry_after)


def _mark(auth_state: AuthState) -> int:
    """Which login an auth_state comes from."""
    return hash(auth_state.get("refresh_token") or json.dumps(auth_state, sort_keys=True))


def _backoff(failures: int) -> float:
    return float(min(_FIRST_RETRY * 2 ** min(failures - 1, 16), _LAST_RETRY)) * random.uniform(0.5, 1)
