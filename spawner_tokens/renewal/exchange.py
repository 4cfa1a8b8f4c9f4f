"""The exchanges: what the provider gives for tokens of a login, one request for all who wait."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from jupyterhub import orm

from ..metrics import SUCCESS, count_exchange
from ..redaction import describe_error
from ..tokens.due import FindExchangeDue
from ..tokens.exchange import Exchange
from ..tokens.selection import Exchanged, Login, Reason, select_found
from ..tokens.spec import TokenSpec
from .authenticators import Authenticators
from .exchanged import OF_CLIENT, FindDue, KnownExchange, find_owner, is_denial
from .grant import Failure, FailureKind, GrantFailed
from .oauthenticator import AuthenticatorAdapter
from .places import Places
from .recall import find_offset

# Requests at a time for each token_url, and of these those after a failure. Others keep a place for
# so many seconds at most, so that some that are not answered delay few.
_AT_ONCE, _RETRIES_AT_ONCE, _TIME = 20, 3, 1.0
# Seconds for which a running server's other tokens wait, so that one delivery has all of them.
_MOMENT = 0.5
# Exchanges of a user that are kept though the last caller did not ask for them.
_KEPT = 100

# An exchange, and the key of the token that it is for.
_Key = tuple[Exchange, Any]


@dataclass(eq=False)
class _User:
    known: dict[_Key, KnownExchange] = field(default_factory=dict)
    spread: float = field(default_factory=random.random)


@dataclass(frozen=True)
class _Request:
    """What a server wants for one spec. ``deadline`` is by the event loop's clock.

    ``user_id`` and ``name`` are the user's: a database that is down cannot be asked for them.
    """

    user: orm.User
    user_id: int
    name: str
    known: dict[_Key, KnownExchange]
    adapter: AuthenticatorAdapter
    spec: TokenSpec
    find_due: FindDue
    deadline: float
    waits: bool
    owner: Any = None  # of the login's token


class Exchanges:
    """A Hub's. What the provider gives is kept in memory alone.

    ``clock`` gives seconds since the epoch. ``on_change`` is called with a user and their id when a
    request for them is done.
    """

    def __init__(
        self, authenticators: Authenticators, clock: Callable[[], float], log: logging.Logger
    ) -> None:
        self.on_change: Callable[[orm.User, int], None] = lambda user, id: None
        self._authenticators, self._clock, self._log = authenticators, clock, log
        self._users: WeakKeyDictionary[orm.User, _User] = WeakKeyDictionary()
        # A token_url that does not answer delays no other.
        self._places: dict[str | None, Places] = defaultdict(
            lambda: Places(_AT_ONCE, _RETRIES_AT_ONCE)
        )

    @classmethod
    def alone(cls, known: dict[Any, Any], authenticator: Any, log: logging.Logger) -> Exchanges:
        """Those of a Hub without a renewal, whose authenticator stays as it is.

        ``known`` is what there is once for that Hub.
        """
        if cls not in known:
            known[cls] = cls(Authenticators(authenticator), time.time, log)
        found: Exchanges = known[cls]
        return found

    async def exchange(
        self,
        user: Any,
        login: Login,
        specs: Sequence[TokenSpec],
        find_due: FindExchangeDue,
        seconds: float | None,
    ) -> Login:
        """The login with what there is for these specs, which have an exchange.

        What is due by ``find_due``, or was for another subject token, is asked for. ``seconds``:
        how long the caller waits at most; a caller that waits is served first. ``None``: it does
        not wait.
        """
        if login.auth_state is None:
            self._users.pop(user.orm_user, None)
            return login
        known = self._users.setdefault(user.orm_user, _User())
        adapter = self._authenticators.find(user.name, login.auth_state)
        waits = seconds is not None
        deadline = asyncio.get_running_loop().time() + (_MOMENT if seconds is None else seconds)
        waiting = []
        for spec in specs:
            find = partial(find_due, spec, known.spread)
            who = user.orm_user, user.orm_user.id, user.name, known.known, adapter
            waiting.append(self._find(login, _Request(*who, spec, find, deadline, waits)))
        found = await asyncio.gather(*waiting)
        for key in [*known.known][: -max(_KEPT, 2 * len(specs))]:
            if known.known[key].task is None:
                del known.known[key]
        return login.with_exchanged(dict(zip((spec.name for spec in specs), found, strict=True)))

    # -- inside ----------------------------------------------------------------------------------

    async def _find(self, login: Login, request: _Request) -> Exchanged:
        spec, find_due = request.spec, request.find_due
        token = select_found(spec, login, self._clock())
        request = replace(request, owner=find_owner(token.value or ""))
        subject = Exchanged(token.value, token.lifetime, None, token.reason, token.detail)
        for exchange in (spec.exchange and spec.exchange.first, spec.exchange):
            if exchange is None or subject.reason not in (None, Reason.EXCHANGE_FAILED):
                continue
            known = _get_known(request, exchange, self._clock)
            if subject.value is not None and subject.lifetime.left(self._clock()) > 0:
                await self._keep_fresh(known, exchange, subject.value, request)
            subject = known.make_result(subject, request.owner, find_due)
        return subject

    async def _keep_fresh(
        self, known: KnownExchange, exchange: Exchange, subject: str, request: _Request
    ) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):  # the request that runs may be for another subject
            if not known.is_due(subject, request.find_due):
                return
            if known.task is None and known.may_ask(subject):
                known.note_request(subject)
                asking = self._ask(known, exchange, subject, request)
                # In an empty context: it would keep a refresh's, and so its tokens.
                known.task = Context().run(asyncio.ensure_future, asking)
            if known.task is None:
                return
            await asyncio.wait({known.task}, timeout=max(0.0, request.deadline - loop.time()))

    async def _ask(
        self, known: KnownExchange, exchange: Exchange, subject: str, request: _Request
    ) -> None:
        """Make one request. It goes on if a caller is cancelled."""
        places = self._places[exchange.token_url or request.adapter.token_url]
        priority, is_retry = (not request.waits, known.ends_at), known.has_failed
        seconds = None if is_retry else _TIME
        try:
            async with places.take(priority, is_retry=is_retry, seconds=seconds):
                asked_at, offset = self._clock(), find_offset(self._clock)
                answer = await request.adapter.exchange(exchange, subject)
            if str(answer.get("issued_token_type")).endswith(":refresh_token"):
                raise GrantFailed(Failure(FailureKind.MISCONFIGURED, "it gave a refresh token"))
            known.note_answer(subject, request.owner, answer, asked_at, offset)
            count_exchange(SUCCESS)
        except GrantFailed as failed:
            self._note_failure(known, subject, failed.failure, request)
        except Exception as error:  # which should never happen
            failure = Failure(FailureKind.MISCONFIGURED, describe_error(error))
            self._note_failure(known, subject, failure, request)
        finally:
            known.task = None
        self.on_change(request.user, request.user_id)

    def _note_failure(
        self, known: KnownExchange, subject: str, failure: Failure, request: _Request
    ) -> None:
        if failure.words in OF_CLIENT:
            failure = replace(failure, kind=FailureKind.MISCONFIGURED)
        count_exchange("denied" if is_denial(failure) else failure.kind.name.lower())
        if known.note_failure(subject, failure):
            is_admins = failure.kind is FailureKind.MISCONFIGURED
            level = logging.ERROR if is_admins else logging.WARNING
            words = "Could not exchange the token %s of %s: %s"
            self._log.log(level, words, request.spec.name, request.name, failure.words)


def _get_known(request: _Request, exchange: Exchange, clock: Callable[[], float]) -> KnownExchange:
    """What is known of it, which is the last that somebody has asked for, then."""
    key = request.spec.key
    # The name of the token that it is of says nothing that the key does not. A key may be a
    # function without a hash.
    both = replace(exchange, of=None), id(key) if callable(key) else key
    known = request.known.pop(both, None) or KnownExchange(clock)
    request.known[both] = known
    return known
