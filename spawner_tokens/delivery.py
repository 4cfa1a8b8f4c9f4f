"""One server: what it gets by its specs, hook and policy, and what has been delivered to it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from .change import Change, Source
from .delivered import DeliveredFiles
from .hook import HookFailed, describe_failure, run_tokens_hook
from .metrics import count_delivery, observe_lifetimes
from .refusal import Problem, log_omitted, log_problems, refuse
from .sharing import SharingChanged, is_shared
from .tokens.due import FindExchangeDue, FindTime, find_due, find_hook_due, keep_lives
from .tokens.files import PUBLIC_FILE, make_files
from .tokens.guard import find_policy, guard, list_withheld
from .tokens.kind import Kind, note_changes
from .tokens.lifetime import Due, Lifetime, TokenId
from .tokens.record import Started
from .tokens.scopes import find_requested_scopes
from .tokens.selection import Login, Reason, Token, check, select
from .tokens.spec import TokenSpec

# By a login, specs with an exchange, when each is due, and whether somebody waits for them: the
# login with what there is.
_Exchange = Callable[[Login, Sequence[TokenSpec], FindExchangeDue, bool], Awaitable[Login]]


class ServerDelivery:
    """The server of a Spawner with :class:`~spawner_tokens.mixin.TokenSpawnerMixin`.

    ``exchange`` is the Hub's. ``started`` is what it was started with. While it is ``running``, it
    is a :class:`~spawner_tokens.renewal.schedule.Server`. ``current`` is what it may have now,
    ``None`` if nothing; ``changed`` is set, and replaced, when that is something else.
    """

    def __init__(self, spawner: Any, exchange: _Exchange) -> None:
        self.started = Started()
        self.running = False
        self.was_shared = False  # when it was started
        self.current: Change | None = None
        self.changed = asyncio.Event()
        self._spawner, self._exchange = spawner, exchange
        self._lock = asyncio.Lock()  # a delivery and a withdrawal never overlap
        self._is_invalid = False
        self._delivered_from: Source | None = None
        self._delivered = DeliveredFiles(spawner)
        self.exchange_due, self._hook_due = math.inf, math.inf
        self._kinds: Mapping[str, Kind] = {}

    # -- what it gets ----------------------------------------------------------------------------

    def is_shared(self) -> bool:
        """Whether others may use the server now. Raises as :func:`.sharing.is_shared`."""
        return is_shared(self._spawner._tokens_session, self._spawner.orm_spawner)

    @property
    def specs(self) -> Sequence[TokenSpec]:
        return self.started.specs

    def find_short(self, login: Login, now: float) -> dict[TokenId, Due]:
        """The tokens, and when each will be too short-lived to be delivered at a start."""
        return self._find(login, now, Lifetime.short_at)

    def find_due(self, login: Login, now: float, spread: float) -> dict[TokenId, Due]:
        """The tokens, and when each should be renewed for the server that runs."""
        return self._find(login, now, self._make_find_stale(spread))

    def find_recall_due(self, spread: float) -> float:
        """When what its hook gave is to be had anew, in seconds since the epoch."""
        tokens = self.current.tokens if self.current is not None else ()
        given = [token for token in tokens if self._gets(token.spec)]
        least = self._spawner.tokens_min_lifetime
        self._hook_due = find_hook_due(given, least, self._make_find_stale(spread))
        return self._hook_due

    def recall(self) -> None:
        """Have :meth:`prepare` get it anew, though the login has not changed."""
        if self._hook_due < math.inf:  # what is exchanged says itself whether it has changed
            self._delivered_from = None

    async def exchange(self, login: Login, *, early: bool = False, waits: bool = True) -> Login:
        """The login with what is exchanged for its tokens: at a start what lives long enough.

        For a server that runs that is renewed in time, and if ``early`` as at a start. ``waits``:
        whether what is not exchanged yet may be waited for.
        """
        spawner = self._spawner
        gets = [spec for spec in self.specs if self._gets(spec) or self.started.hook]

        def find_due(spec: TokenSpec, spread: float, life: Lifetime) -> float:
            asked = spec.find_min_lifetime(spawner.tokens_min_lifetime)
            if not self.running or (early and self.started.renews):
                return life.short_at(asked)
            stale_at = self._make_find_stale(spread)(life, asked)
            return stale_at if self.started.renews else math.inf

        specs = [spec for spec in gets if spec.exchange is not None]
        waits = waits and (early or not (self.running and self.started.renews))
        return await self._exchange(login, specs, find_due, waits) if specs else login

    def _make_find_stale(self, spread: float) -> FindTime:
        delay = self._spawner.delivery_delay if self._sees_files else 0.0
        return lambda life, asked: life.stale_at(asked, delay, spread)

    def _gets(self, spec: TokenSpec) -> bool:
        return spec.file or self.started.pull or not self.running

    def _find(self, login: Login, now: float, find_time: FindTime) -> dict[TokenId, Due]:
        specs = filter(self._gets, self.specs)
        return find_due(specs, login, now, self._spawner.tokens_min_lifetime, find_time)

    async def select(self, login: Login) -> list[Token]:
        """The tokens for a spawn. Raises as :func:`~spawner_tokens.refusal.refuse`."""
        spawner = self._spawner
        self.was_shared = shared = self.is_shared()
        login = await self.exchange(login)
        is_stored = login.auth_state is not None
        source = Source.from_login(login, False, shared) if is_stored else None
        try:
            tokens = await self._select_from(login)
        except HookFailed as failed:
            source = None  # the hook is to be called again while the server runs
            tokens = [
                Token(spec, reason=Reason.HOOK_FAILED, detail=str(failed)) for spec in self.specs
            ]
        tokens = guard(tokens, self.started.shared, shared)
        self._delivered_from, self._kinds = source, note_changes(tokens, {})[1]
        self._set_current(Change(source, tokens, self._kinds))
        log_problems(spawner, tokens, self._find_policy)
        log_omitted(spawner, tokens, self._find_policy)
        self._refuse(tokens, lambda token: token.reason)
        return tokens

    async def _select_from(self, login: Login) -> list[Token]:
        """Raises :exc:`HookFailed`."""
        spawner = self._spawner
        requested = find_requested_scopes(spawner.authenticator)
        now = time.time()
        tokens = [select(spec, login, requested, now) for spec in self.specs]
        hook, lost = self.started.hook, self.started.unknown.keys()
        if hook is not None and login.auth_state is not None:
            tokens = await run_tokens_hook(hook, spawner, login, tokens, lost)
            tokens = keep_lives(tokens, self.current.tokens if self.current else ())
        return [check(token, time.time(), spawner.tokens_min_lifetime) for token in tokens]

    def _find_policy(self, token: Token) -> str:
        return find_policy(token, self.started.shared, self._spawner.tokens_missing)

    def _refuse(
        self, tokens: Iterable[Token], find_reason: Callable[[Token], Reason | None]
    ) -> None:
        refused = [
            Problem(token.spec.name, reason, token.detail)
            for token in tokens
            if (reason := find_reason(token)) and self._find_policy(token) == "refuse"
        ]
        if refused:
            refuse(self._spawner, refused)

    # -- what is delivered -----------------------------------------------------------------------

    def make_files(
        self, tokens: Sequence[Token], login_ended: bool = False
    ) -> dict[str, bytes | None]:
        """All files that the server gets with these tokens."""
        spawner = self._spawner
        has_identity = any(spec.git_identity for spec in self.specs)
        return make_files(
            tokens,
            spawner.tokens_directory,
            public=has_identity and spawner.tokens_public_path is not None,
            variables=spawner.delivers_variables,
            login_ended=login_ended,
        )

    async def deliver(self, tokens: Sequence[Token]) -> bool:
        """Deliver the files before the server starts. Returns whether it could.

        Raises as :meth:`select`.
        """
        spawner, given, delivered = self._spawner, tokens, True
        try:
            async with self._lock:
                if files := self.make_files(tokens):
                    await spawner.keep_location()
                await self._delivered.deliver(files, running=self.running)
        except OSError as error:
            words = "Could not deliver the token files of %s: %s"
            spawner.log.error(words, spawner._log_name, error)
            await self.withdraw()
            by_file = spawner.delivers_variables
            failed = [token for token in tokens if token.spec.file or by_file]
            self._refuse(failed, lambda token: Reason.DELIVERY_FAILED)
            given, delivered = [each for each in tokens if each.spec.env and not by_file], False
        observe_lifetimes(given, time.time(), running=False)
        return delivered

    def invalidate(self) -> None:
        """The server has lost what was delivered: deliver all of it the next time."""
        self._is_invalid = True

    async def prepare(self, login: Login, login_ended: bool) -> Change | None:
        """What changed for the server that runs; ``None`` if nothing did.

        Without an auth_state, its tokens are withdrawn.

        Raises :exc:`HookFailed`, or as :meth:`is_shared`: then the server keeps what it has.
        """
        if self._is_invalid:
            self._is_invalid, self._delivered_from = False, None
            self._delivered.forget()
        if not login.exchanged:
            login = await self.exchange(login)
        self.exchange_due = min((e.due_at for e in login.exchanged.values()), default=math.inf)
        source = Source.from_login(login, login_ended, self.is_shared())
        if source == self._delivered_from:
            return None
        try:
            tokens = guard(await self._select_from(login), self.started.shared, source.is_shared)
        except HookFailed as failed:
            count_delivery(running=True, delivered=False)
            raise HookFailed(describe_failure(failed, self.started.unknown)) from None
        self._set_current(Change(source, *note_changes(tokens, self._kinds)))
        return self.current

    async def update(self, change: Change) -> None:
        """Deliver what changed while it runs. Raises as the backend, or :exc:`SharingChanged`."""
        assert change.source is not None  # it is of prepare()
        source, tokens = change.source, change.tokens
        async with self._lock:
            if not self.running:
                return
            if self.is_shared() != source.is_shared:
                raise SharingChanged
            given = self._delivered.list_known(tokens, self.started.hook is not None)
            files = self.make_files(given, source.login_ended) if self._sees_files else {}
            if not (are_all := len(given) == len(tokens)):
                files.pop(PUBLIC_FILE, None)
            deliver = self._delivered.deliver
            if files and (changed := await deliver(files, running=True, are_all=are_all)):
                names = {name.removesuffix(".json") for name in changed}
                named = [each for each in tokens if each.spec.name in names]
                log_problems(self._spawner, named, self._find_policy)
                new = [each for each in tokens if each.spec.file and each.spec.name in changed]
                observe_lifetimes(new, time.time(), running=True)
            self._delivered_from, self._kinds = change.source, change.kinds

    async def withhold(self) -> None:
        """Withdraw what a running server must not have if it is shared; log what it keeps.

        Neither its login nor a hook is asked. Raises what the backend raises.
        """
        spawner, withheld = self._spawner, list_withheld(self.started)
        async with self._lock:
            if not (withheld and self.is_shared()):
                return
            self._delivered_from = None
            if self.running and self._sees_files:
                place, variables = spawner.tokens_directory, spawner.delivers_variables
                files = make_files(withheld, place, variables=variables)
                await self._delivered.deliver(files, running=self.running, are_all=False)
        kept = [token.spec.name for token in withheld if token.spec.env or not self.running]
        if kept:
            words = "%s is shared, and its variables cannot be taken back; they may have: %s"
            spawner.log.warning(words, spawner._log_name, ", ".join(kept))

    @property
    def _sees_files(self) -> bool:
        return bool(self._spawner.delivery_delay < math.inf)

    def _set_current(self, current: Change | None) -> None:
        self.current = current
        self.changed.set()
        self.changed = asyncio.Event()

    async def withdraw(self) -> None:
        """Withdraw the files. Errors are logged."""
        self._set_current(None)
        async with self._lock:
            self._delivered_from = None
            self._delivered.forget()
            try:
                await self._spawner.withdraw_locations()
            except Exception:
                words = "Could not remove the token files of %s"
                self._spawner.log.exception(words, self._spawner._log_name)
