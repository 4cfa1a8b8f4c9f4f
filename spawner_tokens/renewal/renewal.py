"""The renewal: one for each Hub, for its spawns, for its running servers and for its own refreshes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextvars import Context
from typing import Any, NamedTuple

from jupyterhub import orm

from ..redaction import describe_error
from ..tokens.lifetime import find_lifetime
from ..tokens.selection import find_token_response
from .refresh import Crew, Flight
from .schedule import RunningServers, Server, PrioritySemaphore
from .store import AuthState, AuthStateStore
from .user import UserRenewal, Due, FindDue, Key

# Scheduled renewals at a time, and deliveries to running servers at a time.
_RENEWALS_AT_ONCE, _HANDS = 5, 20
_INSTALLED = "spawner_tokens.renewal"


class _User(NamedTuple):
    account: UserRenewal
    servers: RunningServers


class Renewal:
    """Keeps the tokens of a Hub's users fresh. :meth:`of` finds it, or installs it.

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
        self._users: dict[int, _User] = {}
        self._turns = PrioritySemaphore(_RENEWALS_AT_ONCE)
        self._hands = asyncio.Semaphore(_HANDS)
        journal = AuthStateStore(session, clock, log, self._see_save)
        self._crew = Crew.of(authenticator, journal, clock, log)
        authenticator.refresh_user = self.refresh_user
        session.info[_INSTALLED] = self

    @classmethod
    def of(cls, authenticator: Any, session: Any, **settings: Any) -> Renewal:
        """The renewal of the Hub with this database: its authenticator's ``refresh_user`` is ours from now on."""
        installed: Renewal | None = session.info.get(_INSTALLED)
        return installed or cls(authenticator, session, **settings)

    async def refresh_user(self, user: Any, handler: Any = None, **arguments: Any) -> Any:
        """In place of the authenticator's own, which is asked once for all who ask at the same time.

        Returns what it returned but for the auth_state, which is stored by then; ``True`` if it had no answer in
        time, or the provider was in no state to give one. Raises what it raised.
        """
        if not self._authenticator.enable_auth_state or Flight.aboard() is not None:
            return await self._crew.refresh_user(user, handler, **arguments)
        try:
            return await self._user(user).account.check(
                self._find_login, handler, arguments, self._timeout
            )
        except TimeoutError:
            self._log.warning("No answer yet whether %s is still logged in: staying so", user.name)
            return True

    async def ensure(self, user: Any, find_due: FindDue, seconds: float) -> None:
        """Renew what is due by ``find_due(auth_state)``, but wait no longer than ``seconds`` for the provider.

        What goes wrong is logged, and the tokens are as they were.
        """
        try:
            if not await self._user(user).account.renew(find_due, seconds):
                self._log.warning(
                    "No answer yet with new tokens for %s: not waiting any longer", user.name
                )
        except Exception as error:
            self._log.error(
                "Cannot look after the tokens of %s now: %s", user.name, describe_error(error)
            )

    def watch(self, user: Any, server: Server) -> None:
        """From now on, show a running server each change, and renew its tokens in time."""
        self._user(user).servers.add(server)

    def show_again(self, user: Any, server: Server) -> None:
        """A running server has lost what it has been shown."""
        self._user(user).servers.show_again(server)

    def unwatch(self, user: Any, server: Server) -> None:
        """Forget a server."""
        self._user(user).servers.remove(server)

    # -- inside ----------------------------------------------------------------------------------

    def _user(self, user: Any) -> _User:
        known = self._users.get(user.orm_user.id)
        if (
            known is None or known.account.user.orm_user is not user.orm_user
        ):  # the id of a deleted user comes again
            account = UserRenewal(self._crew, user, on_rejected=lambda: servers.change())
            servers = RunningServers(account, self._turns, self._hands)
            known = self._users[user.orm_user.id] = _User(account, servers)
        return known

    def _see_save(self, orm_user: orm.User) -> None:
        known = self._users.get(orm_user.id)
        if known is not None and known.servers and known.account.user.orm_user is orm_user:
            # By then it is there to be read.
            asyncio.get_running_loop().call_soon(known.servers.change, context=Context())

    def _find_login(self, auth_state: AuthState) -> Mapping[Key, Due]:
        value = auth_state.get("access_token")
        if not isinstance(value, str):
            return {}
        lifetime = find_lifetime(value, find_token_response(value, auth_state))
        return {
            ("", hash(value)): Due(lifetime.stale_at(self._min_lifetime, 0, 1), lifetime.ends_at)
        }
