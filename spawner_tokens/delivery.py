"""One server: what it gets by its specs, hook and policy, and what it has been shown of it."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from jupyterhub.crypto import CryptKeeper, EncryptionUnavailable
from jupyterhub.utils import maybe_future

from .metrics import count_delivery, observe_lifetimes
from .redaction import describe_error
from .refusal import Problem, explain, make_refusal
from .tokens.files import make_files
from .tokens.lifetime import Due, Key
from .tokens.selection import Reason, Token, check, select, apply_hook_value
from .tokens.spec import TokenSpec


class ServerDelivery:
    """The server of a Spawner with :class:`~spawner_tokens.mixin.TokenSpawnerMixin`.

    ``specs`` are those that it was started with. While it ``runs``, it is a :class:`~spawner_tokens.renewal.schedule.Server`.
    """

    def __init__(self, spawner: Any) -> None:
        self.specs: Sequence[TokenSpec] = ()
        self.runs = False
        self._lost = False  # what it has been shown
        self._spawner = spawner
        self._lock = asyncio.Lock()  # a delivery and a withdrawal never overlap
        self._seen: tuple[bytes, bool] | None = (
            None  # of which auth_state it has been shown the tokens
        )
        self._files: Mapping[str, bytes] = {}  # name → digest

    # -- what it gets ----------------------------------------------------------------------------

    def find_short(self, auth_state: Mapping[str, Any]) -> dict[Key, Due]:
        """The tokens, and when each will be too short-lived to be handed over."""
        return self._find(auth_state, lambda token: token.lifetime.short_at(self._asked(token)))

    def find_due(self, auth_state: Mapping[str, Any], spread: float) -> dict[Key, Due]:
        """The tokens, and when each should be renewed for the server that runs."""
        delay = self._spawner.delivery_delay
        return self._find(
            auth_state, lambda token: token.lifetime.stale_at(self._asked(token), delay, spread)
        )

    def _find(
        self, auth_state: Mapping[str, Any], find_time: Callable[[Token], float]
    ) -> dict[Key, Due]:
        return {
            (token.spec.name, hash(token.value)): Due(find_time(token), token.lifetime.ends_at)
            for token in (
                select(spec, auth_state) for spec in self.specs if spec.file or not self.runs
            )
            if token.value is not None
        }

    def _asked(self, token: Token) -> float:
        least: float = self._spawner.tokens_min_lifetime
        return least if token.spec.min_lifetime is None else token.spec.min_lifetime

    async def select(self) -> list[Token]:
        """The tokens for a spawn.

        Raises what :func:`~spawner_tokens.refusal.make_refusal` makes if one is not as asked and its policy is
        ``refuse``.
        """
        auth_state, problem = await self._read_auth_state()
        if auth_state is None:
            tokens = [Token(spec, reason=problem) for spec in self.specs]
        else:
            tokens = await self._select_from(auth_state)
            self._seen = _digest(auth_state), False
        self._log_problems(tokens)
        self._refuse(tokens, lambda token: token.reason)
        return tokens

    async def _read_auth_state(self) -> tuple[dict[str, Any] | None, Reason | None]:
        user = self._spawner.user
        if not self._spawner.authenticator.enable_auth_state:
            return None, Reason.AUTH_STATE_OFF
        try:
            CryptKeeper.instance().check_available()
        except EncryptionUnavailable:
            return None, Reason.NO_CRYPT_KEY
        if user.encrypted_auth_state is None:
            return None, Reason.NEVER_STORED
        auth_state = await user.get_auth_state()
        if auth_state is None:
            return None, Reason.UNDECRYPTABLE
        return auth_state if isinstance(auth_state, dict) else {}, None

    async def _select_from(self, auth_state: dict[str, Any]) -> list[Token]:
        spawner = self._spawner
        scope = getattr(spawner.authenticator, "scope", None)
        requested = scope if isinstance(scope, (list, tuple, set)) else None
        tokens = [select(spec, auth_state, requested) for spec in self.specs]
        if spawner.tokens_hook is not None:
            tokens = await self._run_tokens_hook(auth_state, tokens)
        now = time.time()
        return [check(token, now, spawner.tokens_min_lifetime) for token in tokens]

    async def _run_tokens_hook(
        self, auth_state: dict[str, Any], tokens: list[Token]
    ) -> list[Token]:
        spawner = self._spawner
        found = {token.spec.name: token.value for token in tokens if token.value is not None}
        try:
            values = await maybe_future(
                spawner.tokens_hook(spawner, copy.deepcopy(auth_state), found)
            )
        except Exception as error:
            failure = describe_error(error)
        else:
            if isinstance(values, Mapping):
                for name in sorted(values.keys() - {token.spec.name for token in tokens}, key=str):
                    spawner.log.warning(
                        "tokens_hook returned %r, which is not declared in tokens: ignored", name
                    )
                return [apply_hook_value(token, values, auth_state) for token in tokens]
            failure = f"it returned no dict of names and values but {type(values).__name__}"
        return [token.withheld(Reason.HOOK_FAILED, failure) for token in tokens]

    def _policy(self, token: Token) -> str:
        policy: str = token.spec.missing or self._spawner.tokens_missing
        return policy

    def _refuse(
        self, tokens: Iterable[Token], find_reason: Callable[[Token], Reason | None]
    ) -> None:
        refused = [
            Problem(token.spec.name, reason, token.detail)
            for token in tokens
            if (reason := find_reason(token)) is not None and self._policy(token) == "refuse"
        ]
        if refused:
            raise make_refusal(self._spawner, refused) from None

    def _log_problems(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            policy = self._policy(token)
            if token.reason is not None and policy != "skip":
                level = logging.ERROR if policy == "refuse" else logging.WARNING
                words = explain(token.reason, token.detail)
                self._spawner.log.log(
                    level, "%s: token %s: %s", self._spawner._log_name, token.spec.name, words
                )

    # -- what it is shown ------------------------------------------------------------------------

    def make_files(
        self, tokens: Sequence[Token], login_ended: bool = False
    ) -> dict[str, bytes | None]:
        """All files that the server gets with these tokens."""
        spawner = self._spawner
        public = (
            any(spec.git_identity for spec in self.specs) and spawner.tokens_public_path is not None
        )
        return make_files(
            tokens,
            spawner.tokens_directory,
            public=public,
            variables=spawner.delivers_variables,
            login_ended=login_ended,
        )

    async def deliver(self, tokens: Sequence[Token]) -> bool:
        """Deliver the files before the server starts. Returns whether it could; raises as :meth:`select`."""
        given, delivered = tokens, True
        try:
            async with self._lock:
                await self._deliver_changed(self.make_files(tokens))
        except OSError as error:
            self._spawner.log.error(
                "Could not deliver the token files of %s: %s", self._spawner._log_name, error
            )
            await self.withdraw()
            by_file = self._spawner.delivers_variables
            self._refuse(
                [token for token in tokens if token.spec.file or by_file],
                lambda token: Reason.DELIVERY_FAILED,
            )
            given, delivered = [token for token in tokens if token.spec.env and not by_file], False
        observe_lifetimes(given, time.time(), running=False)
        return delivered

    def forget(self) -> None:
        """The server has lost what it has been shown: show it all of it the next time."""
        self._lost = True

    async def show(self, auth_state: dict[str, Any], login_ended: bool) -> None:
        """Deliver what changed while the server runs. Raises what the backend raises."""
        if self._lost:
            self._lost, self._seen, self._files = False, None, {}
        seen = _digest(auth_state), login_ended
        if seen == self._seen:
            return
        tokens = await self._select_from(auth_state)
        async with self._lock:
            if self.runs:
                if changed := await self._deliver_changed(self.make_files(tokens, login_ended)):
                    self._log_problems(tokens)
                    new = [
                        token for token in tokens if token.spec.file and token.spec.name in changed
                    ]
                    observe_lifetimes(new, time.time(), running=True)
                self._seen = seen

    async def _deliver_changed(self, files: Mapping[str, bytes | None]) -> set[str]:
        """Returns the names of those that have changed."""
        before, digests = self._files, {name: _digest(contents) for name, contents in files.items()}
        if digests == before:
            return set()
        self._files, running = {}, self.runs
        try:
            await self._spawner.deliver_files(files)
        except BaseException:
            if self.runs == running:  # else it was cancelled because the server stops
                count_delivery(running=running, delivered=False)
            raise
        self._files = digests
        count_delivery(running=running, delivered=True)
        return {
            name for name in before.keys() | digests.keys() if before.get(name) != digests.get(name)
        }

    async def withdraw(self) -> None:
        """Withdraw the files; what goes wrong is logged."""
        async with self._lock:
            self._seen, self._files = None, {}
            try:
                await self._spawner.withdraw_files()
            except Exception:
                self._spawner.log.exception(
                    "Could not remove the token files of %s", self._spawner._log_name
                )


def _digest(value: Any) -> bytes:
    contents = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(contents).digest()
