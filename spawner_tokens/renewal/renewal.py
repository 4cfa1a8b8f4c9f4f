"""The renewal: one for each Hub, for its spawns, its running servers and its own refreshes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any, NamedTuple

from jupyterhub import orm
from sqlalchemy import inspect

from ..redaction import describe_error
from ..tokens.lifetime import Due, TokenId, find_lifetime
from ..tokens.selection import Login
from .authenticators import Authenticators
from .exchange import Exchanges
from .places import Places
from .recall import find_offset
from .refresh import Refresh, Tools
from .schedule import RunningServers, Server
from .store import AuthStateStore
from .user import FindDue, UserRenewal

# Deliveries at a time, and of these those after a failure.
_DELIVERIES_AT_ONCE, _RETRIES_AT_ONCE = 20, 3
# The same of hooks that prepare deliveries.
_HOOKS_AT_ONCE, _FAILED_HOOKS_AT_ONCE = 50, 10


class _User(NamedTuple):
    renewal: UserRenewal
    servers: RunningServers


class Renewal:
    """Keeps the tokens of a Hub's users fresh. The authenticator's ``refresh_user`` is ours then.

    ``exchanges`` are for all its users. ``min_lifetime`` and ``timeout`` (seconds) are for the
    Hub's own refreshes, ``clock`` gives seconds since the epoch.
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
        self._min_lifetime = min_lifetime
        self._timeout = timeout
        self._log = log
        self._users: dict[int, _User] = {}
        self._hooks = Places(_HOOKS_AT_ONCE, _FAILED_HOOKS_AT_ONCE)
        self._deliveries = Places(_DELIVERIES_AT_ONCE, _RETRIES_AT_ONCE)
        store = AuthStateStore(session, clock, log, self._see_save, self._see_deletion)
        authenticators = Authenticators(authenticator)
        authenticators.install(_find_grant, store.history.note_login, clock)
        self.exchanges = Exchanges(authenticators, clock, log)
        self.exchanges.on_change = self._see_exchange
        authenticator.refresh_user = self.refresh_user
        self._adapter = authenticators.hubs
        self._tools = Tools(authenticators, store, clock, log)
        self._offset: float | None = None
        with suppress(RuntimeError):  # no loop: the Hub does not run
            self._offset = find_offset(clock)

    async def refresh_user(self, user: Any, handler: Any = None, **arguments: Any) -> Any:
        """In place of the authenticator's own, which is called once for all who ask at a time.

        Returns what it returned without the auth_state, which is stored by then; ``True`` if it did
        not answer in time, or the provider could not. Raises what it raised.
        """
        if not self._adapter.keeps_auth_state or Refresh.current() is not None:
            return await self._adapter.refresh_user(user, handler, arguments)
        renewal = self._find_user(user).renewal
        try:
            return await renewal.check(self._find_login_due, handler, arguments, self._timeout)
        except TimeoutError:
            words = "No answer yet whether %s is still logged in: staying so"
            self._log.warning(words, user.name)
            return True

    async def ensure(
        self, user: Any, find_due: FindDue, seconds: float, *, paced: bool = False
    ) -> Login:
        """Renew what is due by ``find_due``, at once, but wait for at most so many ``seconds``.

        ``paced``: not if one of these was renewed less than a fifth of its life ago. Returns the
        login, as it is stored or will be when the database is not locked. Errors are logged, and
        the tokens are as they were.
        """
        renewal, servers = self._find_user(user)
        try:
            if not await renewal.renew(servers.correct(find_due), seconds, paced=paced):
                words = "No answer yet with new tokens for %s: not waiting any longer"
                self._log.warning(words, user.name)
        except Exception as error:
            words = "Cannot look after the tokens of %s now: %s"
            self._log.error(words, user.name, describe_error(error))
        return await renewal.read()

    def watch(self, user: Any, server: Server) -> None:
        """From now on, deliver each change to a running server, and renew its tokens in time."""
        self._find_user(user).servers.add(server)

    def deliver_again(self, user: Any, server: Server) -> None:
        """Update a running server that has lost its files."""
        self._find_user(user).servers.deliver_again(server)

    def unwatch(self, user: Any, server: Server) -> None:
        """Forget a server."""
        if (known := self._users.get(user.orm_user.id)) is not None:
            known.servers.remove(server)

    # -- inside ----------------------------------------------------------------------------------

    def _find_user(self, user: Any) -> _User:
        known = self._users.get(user.orm_user.id)
        # The id of a deleted user may come again.
        if known is None or known.renewal.user.orm_user is not user.orm_user:
            renewal = UserRenewal(self._tools, user, on_ended=lambda: servers.change())
            servers = RunningServers(renewal, self._hooks, self._deliveries, self._offset)
            known = self._users[user.orm_user.id] = _User(renewal, servers)
        return known

    def _see_save(self, orm_user: orm.User, is_login: bool) -> None:
        known = self._users.get(orm_user.id)
        if known is None or known.renewal.user.orm_user is not orm_user:
            return
        known.servers.note_save()
        if is_login:
            known.renewal.forget_failures()
        if known.servers:
            # The value can be read then.
            asyncio.get_running_loop().call_soon(known.servers.change, context=Context())

    def _see_exchange(self, orm_user: orm.User, user_id: int) -> None:
        """All servers of the user get what it brought, and those that wait know when to ask."""
        known = self._users.get(user_id)
        if known is not None and known.renewal.user.orm_user is orm_user:
            known.servers.change()

    def _see_deletion(self, orm_user: orm.User) -> None:
        with suppress(RuntimeError):  # no loop: the Hub does not run
            # It is final then, or was rolled back.
            asyncio.get_running_loop().call_soon(self._forget, orm_user, context=Context())

    def _forget(self, orm_user: orm.User) -> None:
        known = self._users.get(orm_user.id)
        is_known = known is not None and known.renewal.user.orm_user is orm_user
        if is_known and not inspect(orm_user).persistent:
            self._users.pop(orm_user.id).servers.remove_all()

    def _find_login_due(self, login: Login, now: float) -> Mapping[TokenId, Due]:
        value = (login.auth_state or {}).get("access_token")
        if not isinstance(value, str):
            return {}
        lifetime = find_lifetime(value, login.contents.answers.get(value, {}), now)
        stale_at = lifetime.stale_at(self._min_lifetime, 0, 1)
        return {("", hash(value)): Due(stale_at, lifetime.ends_at, lifetime.total)}


def _find_grant(refresh_token: Any) -> Any:
    refresh = Refresh.current()
    return refresh.grant if refresh is not None and refresh.owns(refresh_token) else None
