"""One server that asks for its tokens: which it may have, how fresh they are, and how often."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from jupyterhub import orm

from ..delivery import ServerDelivery
from ..hook import HookFailed
from ..metrics import SUCCESS, UNCHANGED
from ..redaction import describe_error
from ..refusal import Problem, make_answer
from ..renewal import Renewal
from ..tokens.files import make_status
from ..tokens.guard import guard
from ..tokens.selection import Login, Reason, Token, check
from ..tokens.spec import TokenSpec

# Requests at once, and each second from then on. And those that may wait beside one per token.
_BURST, _RATE, _WAITING = 60, 1.0, 20
# Seconds until a renewed token has been prepared, and until a Hub that has just started knows it.
_PREPARED_IN, _STARTED_IN = 2.0, 10.0
# Seconds for a hook, less than those who ask wait; and to the next call of one that has failed.
_HOOK_TIME, _HOOK_PAUSE = 8.0, 10.0
# Seconds between two looks at what is stored, for a server that waits and that nothing watches.
_LOOK = 1.0


class PullRefused(Exception):
    """The answer to a request that is not granted. ``code``: HTTP's; ``status``: a pull's.

    ``retry_after`` is in seconds. Its text is for the server's user, and has no value.
    """

    def __init__(
        self, code: int, status: str, words: str, *, reason: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(words)
        self.code, self.status, self.words = code, status, words
        self.reason, self.retry_after = reason, retry_after


@dataclass(frozen=True)
class Answer:
    """A token for the server that asked for it. ``status``: a pull's; ``version``: to ask with."""

    status: str
    text: str = field(repr=False)
    facts: dict[str, Any]
    version: str


class PulledServer:
    """A server that was started with ``tokens_pull``.

    ``renewal`` is the Hub's, ``None`` if tokens are not renewed; ``read_login`` reads the user's
    login then.
    """

    def __init__(
        self,
        spawner: Any,
        delivery: ServerDelivery,
        renewal: Renewal | None,
        read_login: Callable[[], Awaitable[Login]],
    ) -> None:
        self.spawner = spawner
        self._delivery, self._renewal, self._read_login = delivery, renewal, read_login
        self._budget, self._counted_at, self._waiting = float(_BURST), -math.inf, 0
        self._hook_at, self._preparing = -math.inf, asyncio.Lock()
        self._versioned: tuple[Any, str] = None, ""

    async def describe_all(self) -> dict[str, dict[str, Any]]:
        """Token name → what may be known of it, without its value. Raises :exc:`PullRefused`."""
        self._count()
        await self._prepare(None)
        return {spec.name: self._describe(self._find(spec.name)) for spec in self._specs}

    async def give(
        self, name: str, renewed_at: str | None, version: str | None, seconds: float
    ) -> Answer:
        """The token of this name, at once if it is not the one that was ``renewed_at`` then.

        So it is if its answer had another ``version``. Else it waits so many ``seconds`` for a
        newer one. Raises :exc:`PullRefused`.
        """
        self._count(waits=seconds > 0)
        if why := self._delivery.started.unknown.get(name):
            words = f"This token is not given any more: {why}. Stop the server, and start it again."
            raise PullRefused(403, "refused", words, reason="not_known")
        if name not in (names := [spec.name for spec in self._specs]):
            words = f"This server has no token of that name. It has: {', '.join(names) or 'none'}."
            raise PullRefused(404, "unknown", words, reason="unknown")
        await self._prepare(name)
        token, ends_at = self._get(name), time.monotonic() + seconds
        facts = self._describe(token)
        is_known = (facts["renewed_at"] or "") == renewed_at and version in (None, self._version)
        if seconds <= 0 or not is_known:
            return Answer(SUCCESS, token.text or "", facts, self._version)
        await self._wait(name, token.text, ends_at)
        newer = self._get(name)
        is_same = newer.text == token.text and self._describe(newer) == facts
        status = UNCHANGED if is_same else SUCCESS
        return Answer(status, newer.text or "", self._describe(newer), self._version)

    # -- inside ----------------------------------------------------------------------------------

    @property
    def _specs(self) -> list[TokenSpec]:
        """Of the tokens that are for the server itself, and not for what sees its files alone."""
        specs, shows = self._delivery.specs, self.spawner.shows_files
        return [spec for spec in specs if spec.env or shows or not spec.file]

    @property
    def _version(self) -> str:
        """Another text for each that ``current`` was, also at another Hub: it says nothing."""
        if self._versioned[0] is not self._delivery.current:
            self._versioned = self._delivery.current, secrets.token_hex(8)
        return self._versioned[1]

    def _count(self, *, waits: bool = False) -> None:
        now = time.monotonic()
        self._budget = min(_BURST, self._budget + (now - self._counted_at) * _RATE)
        self._counted_at = now
        if self._budget < 1 or (waits and self._waiting >= _WAITING + len(self._specs)):
            seconds = max(1, math.ceil((1 - self._budget) / _RATE))
            words = (
                f"This server asks too often: at most {_BURST} times at once, {_RATE:.0f} time a "
                f"second from then on, and with some {_WAITING} requests that wait. Ask with "
                "?wait=60&renewed_at=…, which is answered when there is a newer token."
            )
            raise PullRefused(429, "too_many", words, reason="too_many", retry_after=seconds)
        self._budget -= 1

    async def _wait(self, name: str, text: str | None, ends_at: float) -> None:
        """Wait for another token of this name, or until it is not given any more."""
        self._waiting += 1
        stored = None
        try:
            while (left := ends_at - time.monotonic()) > 0 and self._get(name).text == text:
                seconds = left if self._is_watched else min(left, _LOOK)
                await _wait_for(self._delivery.changed, seconds)
                if not self._is_watched:
                    before, stored = stored, self.spawner.user.encrypted_auth_state
                    if stored != before or self._is_short(name):
                        await self._prepare(name)
        finally:
            self._waiting -= 1

    async def _prepare(self, name: str | None) -> None:
        """Have the tokens in ``current``, and renew those of this name in time."""
        delivery, renewal, is_watched = self._delivery, self._renewal, self._is_watched
        if is_watched and delivery.current is not None and not self._is_short(name):
            return
        if renewal is not None:
            timeout = self.spawner.tokens_renew_timeout
            user, find_due = self.spawner.user, delivery.find_short
            login = await renewal.ensure(user, find_due, timeout, paced=True)
        else:
            login = await self._read_login()
        # What is exchanged delays no other token.
        asked = [each for each in delivery.specs if each.name == name and each.exchange]
        waits = bool(asked or delivery.started.hook)
        login = await delivery.exchange(login, early=True, waits=waits)
        if not is_watched:
            await self._prepare_here(login)
            return
        seconds = _STARTED_IN if delivery.current is None else _PREPARED_IN
        ends_at = time.monotonic() + seconds
        while not self._is_from(login) and (left := ends_at - time.monotonic()) > 0:
            await _wait_for(delivery.changed, left)

    @property
    def _is_watched(self) -> bool:
        """Whether the schedule renews its tokens: wrapspawner's servers are not seen to run."""
        return self._renewal is not None and self._delivery.running

    async def _prepare_here(self, login: Login) -> None:
        """As the schedule does for the servers that it watches: once for all who ask."""
        async with self._preparing:
            if self._is_from(login) or time.monotonic() < self._hook_at:
                return
            try:
                await asyncio.wait_for(self._delivery.prepare(login, False), _HOOK_TIME)
            except (HookFailed, asyncio.TimeoutError) as failed:
                self._hook_at = time.monotonic() + _HOOK_PAUSE
                words = "Cannot give the tokens of %s: %s"
                self.spawner.log.error(words, self.spawner._log_name, describe_error(failed))

    def _is_from(self, login: Login) -> bool:
        source = self._delivery.current.source if self._delivery.current else None
        return source is not None and source.is_from(login, self._delivery.is_shared())

    def _is_short(self, name: str | None) -> bool:
        token = self._look_up(name)
        if token is None or token.value is None:
            return False
        asked = token.spec.find_min_lifetime(self.spawner.tokens_min_lifetime)
        return token.lifetime.short_at(asked) <= time.time()

    def _look_up(self, name: str | None) -> Token | None:
        check_running(self.spawner.orm_spawner, stops=self.spawner.pending == "stop")
        tokens = self._delivery.current.tokens if self._delivery.current else ()
        return next((each for each in tokens if each.spec.name == name), None)

    def _find(self, name: str) -> Token:
        token = self._look_up(name)
        if token is None:
            words = "The Hub does not have this server's tokens yet. Ask again soon."
            raise PullRefused(503, "failure", words, reason="not_ready", retry_after=2)
        delivery = self._delivery  # a share may have come since it was prepared
        (token,) = guard([token], delivery.started.shared, delivery.is_shared())
        return check(token, time.time(), self.spawner.tokens_min_lifetime)

    def _get(self, name: str) -> Token:
        """The token of this name, with its value."""
        token = self._find(name)
        if token.text is None:
            reason = token.reason or Reason.ABSENT
            words = make_answer(self.spawner, Problem(name, reason, token.detail))
            code = 403 if reason is Reason.SHARED else 404
            raise PullRefused(code, "withheld", words, reason=reason.value)
        return token

    def _describe(self, token: Token) -> dict[str, Any]:
        source = self._delivery.current.source if self._delivery.current else None
        facts: dict[str, Any] = json.loads(make_status(token, bool(source and source.login_ended)))
        return facts


def check_running(row: orm.Spawner, *, stops: bool = False) -> None:
    """Raise :exc:`PullRefused` if a server ``stops``, or does not run: its token may be kept."""
    if stops or row.server is None:
        words = "For the Hub, this server has stopped, or does not run yet: it gets no tokens."
        raise PullRefused(403, "refused", words, reason="stopped")


async def _wait_for(event: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except asyncio.TimeoutError:
        pass
