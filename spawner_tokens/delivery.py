"""One server: what it gets by its specs, hook and policy, and what has been delivered to it."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .foreign import call_foreign
from .metrics import count_delivery, observe_lifetimes
from .redaction import describe_error
from .refusal import Problem, explain, refuse
from .tokens.files import make_files
from .tokens.kind import Kind, note_changes
from .tokens.lifetime import Due, TokenId
from .tokens.lookup import copy_auth_state
from .tokens.record import Started
from .tokens.selection import (
    Login,
    Reason,
    Token,
    apply_hook_value,
    check,
    select,
    select_value,
)
from .tokens.spec import TokenSpec


def find_requested_scopes(authenticator: Any) -> Iterable[str] | None:
    """The scopes that the authenticator asks the provider for; ``None`` if that is not known."""
    scope = getattr(authenticator, "scope", None)
    return scope if isinstance(scope, (list, tuple, set)) else None


class HookFailed(Exception):
    """``tokens_hook`` raised, was cancelled, or returned something else. The text has no value."""

    discreet = True  # see describe_error()


@dataclass(frozen=True)
class _Change:
    """Tokens for a running server.

    ``source``: the digest of the auth_state that they are from, and whether its login has ended.
    ``kinds`` are the tokens' by name.
    """

    source: tuple[bytes, bool]
    tokens: Sequence[Token]
    kinds: Mapping[str, Kind]


class ServerDelivery:
    """The server of a Spawner with :class:`~spawner_tokens.mixin.TokenSpawnerMixin`.

    ``started`` is what it was started with. While it is ``running``, it is a
    :class:`~spawner_tokens.renewal.schedule.Server`.
    """

    def __init__(self, spawner: Any) -> None:
        self.started = Started()
        self.running = False
        self._spawner = spawner
        self._lock = asyncio.Lock()  # a delivery and a withdrawal never overlap
        self._is_invalid = False
        # The digest of the auth_state whose tokens were delivered, and whether the login had ended.
        self._delivered_from: tuple[bytes, bool] | None = None
        self._delivered: Mapping[str, bytes] = {}  # name → digest
        self._kinds: Mapping[str, Kind] = {}

    # -- what it gets ----------------------------------------------------------------------------

    @property
    def specs(self) -> Sequence[TokenSpec]:
        return self.started.specs

    def find_short(self, login: Login, now: float) -> dict[TokenId, Due]:
        """The tokens, and when each will be too short-lived to be delivered at a start."""
        return self._find(login, now, lambda token, asked: token.lifetime.short_at(asked))

    def find_due(self, login: Login, now: float, spread: float) -> dict[TokenId, Due]:
        """The tokens, and when each should be renewed for the server that runs."""
        delay = self._spawner.delivery_delay
        return self._find(
            login, now, lambda token, asked: token.lifetime.stale_at(asked, delay, spread)
        )

    def _find(
        self, login: Login, now: float, find_time: Callable[[Token, float], float]
    ) -> dict[TokenId, Due]:
        default = self._spawner.tokens_min_lifetime
        found = {}
        for spec in self.specs:
            gets = spec.file or not self.running
            token = select_value(spec, login, now) if gets else Token(spec)
            if token.value is not None:
                asked = default if spec.min_lifetime is None else spec.min_lifetime
                lifetime = token.lifetime
                is_known = lifetime.total < math.inf
                life = lifetime.total if is_known else lifetime.left(now)
                due = Due(find_time(token, asked), lifetime.ends_at, life)
                found[spec.name, hash(token.value)] = due
        return found

    async def select(self, login: Login) -> list[Token]:
        """The tokens for a spawn. Raises as :func:`~spawner_tokens.refusal.refuse`."""
        spawner = self._spawner
        source = None if login.auth_state is None else (login.digest, False)
        try:
            tokens = await self._select_from(login)
        except HookFailed as failed:
            source = None  # the hook is to be called again while the server runs
            tokens = [
                Token(spec, reason=Reason.HOOK_FAILED, detail=str(failed)) for spec in self.specs
            ]
        self._delivered_from, self._kinds = source, note_changes(tokens, {})[1]
        self._log_problems(tokens)
        for token in tokens:
            if token.omitted and self._find_policy(token) != "skip":
                listed = ", ".join(f"{name} ({why})" for name, why in token.omitted.items())
                words = "%s: token %s comes without these variables: %s"
                spawner.log.info(words, spawner._log_name, token.spec.name, listed)
        self._refuse(tokens, lambda token: token.reason)
        return tokens

    async def _select_from(self, login: Login) -> list[Token]:
        """Raises :exc:`HookFailed`."""
        spawner = self._spawner
        requested = find_requested_scopes(spawner.authenticator)
        now = time.time()
        tokens = [select(spec, login, requested, now) for spec in self.specs]
        if self.started.hook is not None and login.auth_state is not None:
            tokens = await self._run_tokens_hook(self.started.hook, login, tokens)
        return [check(token, time.time(), spawner.tokens_min_lifetime) for token in tokens]

    async def _run_tokens_hook(
        self, hook: Callable[..., Any], login: Login, tokens: list[Token]
    ) -> list[Token]:
        spawner = self._spawner
        found = {token.spec.name: token.value for token in tokens if token.value is not None}
        try:
            state = copy_auth_state(login.auth_state or {})
            values = await call_foreign(hook, spawner, state, found)
        except Exception as error:
            raise HookFailed(describe_error(error)) from None
        if not isinstance(values, Mapping):
            problem = f"it did not return a dict of names and values, but {type(values).__name__}"
            raise HookFailed(problem)
        declared = {token.spec.name for token in tokens} | self.started.unknown.keys()
        for name in sorted(values.keys() - declared, key=str):
            words = "tokens_hook returned %r, which is not declared in tokens: ignored"
            spawner.log.warning(words, name)
        return [apply_hook_value(token, values, login) for token in tokens]

    def _find_policy(self, token: Token) -> str:
        policy: str = token.spec.missing or self._spawner.tokens_missing
        return policy

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

    def _log_problems(self, tokens: Iterable[Token]) -> None:
        spawner = self._spawner
        for token in tokens:
            policy = self._find_policy(token)
            if token.reason is not None and policy != "skip":
                level = logging.ERROR if policy == "refuse" else logging.WARNING
                words = explain(token.reason, token.detail)
                spawner.log.log(
                    level, "%s: token %s: %s", spawner._log_name, token.spec.name, words
                )

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
                await self._deliver_changed(files)
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

    async def prepare(self, login: Login, login_ended: bool) -> _Change | None:
        """What changed for the server that runs; ``None`` if nothing did.

        Without an auth_state, its tokens are withdrawn.

        Raises :exc:`HookFailed`: then the server keeps what it has.
        """
        if self._is_invalid:
            self._is_invalid, self._delivered_from, self._delivered = False, None, {}
        source = login.digest, login_ended
        if source == self._delivered_from:
            return None
        try:
            return _Change(source, *note_changes(await self._select_from(login), self._kinds))
        except HookFailed as failed:
            count_delivery(running=True, delivered=False)
            lost = ", ".join(self.started.unknown)
            without = f"; it was called without {lost}, whose spec is not known any more"
            words = f"tokens_hook failed ({failed}){without if lost else ''}"
            raise HookFailed(words) from None

    async def update(self, change: _Change) -> None:
        """Deliver what changed while the server runs. Raises what the backend raises."""
        (_, login_ended), tokens = change.source, change.tokens
        async with self._lock:
            if not self.running:
                return
            if changed := await self._deliver_changed(self.make_files(tokens, login_ended)):
                names = {name.removesuffix(".json") for name in changed}
                self._log_problems(each for each in tokens if each.spec.name in names)
                new = [each for each in tokens if each.spec.file and each.spec.name in changed]
                observe_lifetimes(new, time.time(), running=True)
            self._delivered_from, self._kinds = change.source, change.kinds

    async def _deliver_changed(self, files: Mapping[str, bytes | None]) -> set[str]:
        """Returns the names of those that have changed."""
        before = self._delivered
        after = {name: _digest(contents) for name, contents in files.items()}
        if after == before:
            return set()
        self._delivered, running = {}, self.running
        try:
            await self._spawner.deliver_files(files)
        except BaseException:
            if self.running == running:  # else it was cancelled because the server stops
                count_delivery(running=running, delivered=False)
            raise
        self._delivered = after
        count_delivery(running=running, delivered=True)
        names = before.keys() | after.keys()
        return {name for name in names if before.get(name) != after.get(name)}

    async def withdraw(self) -> None:
        """Withdraw the files. Errors are logged."""
        async with self._lock:
            self._delivered_from, self._delivered = None, {}
            try:
                await self._spawner.withdraw_locations()
            except Exception:
                words = "Could not remove the token files of %s"
                self._spawner.log.exception(words, self._spawner._log_name)


def _digest(contents: bytes | None) -> bytes:
    return b"" if contents is None else hashlib.sha256(contents).digest()
