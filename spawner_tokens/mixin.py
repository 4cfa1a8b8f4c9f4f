"""TokenSpawnerMixin: where the tokens meet the life of a JupyterHub Spawner."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from jupyterhub.crypto import CryptKeeper, EncryptionUnavailable
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from traitlets import TraitError, validate

from .account import Due, Key
from .delivery import make_env, make_files
from .discretion import describe
from .fields import SpecError
from .refusal import Problem, explain, make_refusal
from .renewal import Renewal
from .selection import Reason, Token, judge, pick, put
from .spec import TokenSpec, parse_tokens
from .traits import TokenTraits


class TokenSpawnerMixin(TokenTraits):
    """Hands the tokens of a user's login to their server. Mix it into any Spawner, mixin first::

        class MySpawner(TokenSpawnerMixin, SomeSpawner):
            pass

    As it is, it delivers environment variables. A backend that can also deliver files implements

    - :meth:`deliver_files` and :meth:`withdraw_files`,
    - :attr:`token_directory` if the files are not at ``token_mount_path``, and
    - :attr:`delivery_delay` if a running server sees new files only some time later.
    """

    # What get_env adds, from the start of a spawn to its end.
    _token_env: Mapping[str, str] = {}
    # Digests of what the server has been shown: of the auth_state, and of its files by name.
    _token_shown: tuple[bytes, bool] | None = None
    _token_digests: Mapping[str, bytes] = {}
    # What the running server was started with, as far as it is plain data: overrides are not made again.
    _token_specs: Mapping[str, Any] = {}
    # The server while it runs and sees renewals.
    _token_server: _RunningServer | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        before = cls.__mro__[: cls.__mro__.index(TokenSpawnerMixin)]
        if any(issubclass(base, Spawner) and not issubclass(base, TokenSpawnerMixin) for base in before):
            bases = sorted(cls.__bases__, key=lambda base: not issubclass(base, TokenSpawnerMixin))
            right = ", ".join(base.__name__ for base in bases)
            raise TypeError(
                f"class {cls.__name__}: the token mixin has to come first, or it may do nothing; "
                f"write class {cls.__name__}({right})"
            )

    @validate("tokens")
    def _validate_tokens(self, proposal: Any) -> Any:
        try:
            self._parse_tokens(proposal.value)
        except SpecError as error:
            raise TraitError(f"{type(self).__name__}.{error}") from None
        return proposal.value

    # -- for a backend ---------------------------------------------------------------------------

    # Seconds until a running server sees what was delivered.
    delivery_delay: float = 0.0

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        """Show these files to the server, each of them whole at any time: before it starts, and while it runs.

        ``files``: name → contents, or ``None`` for a file that must not be there any more. These are always all of
        the server's files. Raises :exc:`OSError` if it cannot: for a running server, it is called again.
        """
        raise NotImplementedError(f"{type(self).__name__} delivers no files")

    async def withdraw_files(self) -> None:
        """Remove all that :meth:`deliver_files` made for this server, known by its names alone.

        Called when a spawn begins, when it failed, and when the server has stopped; most often there is nothing.
        """

    @property
    def token_directory(self) -> str:
        """The directory of the files, as the server sees it."""
        return self.token_mount_path

    @classmethod
    def _delivers_files(cls) -> bool:
        return cls.deliver_files is not TokenSpawnerMixin.deliver_files

    # -- the life of a server --------------------------------------------------------------------

    async def start(self, *args: Any, **kwargs: Any) -> Any:
        # Only a real spawn passes here, after the group overrides and the pre_spawn_hook.
        await self.prepare_tokens()
        try:
            return await maybe_future(super().start(*args, **kwargs))
        finally:
            self._token_env = {}

    def get_env(self) -> dict[str, Any]:
        env: dict[str, Any] = super().get_env()
        for variable, text in self._token_env.items():
            if variable in self.environment:  # looked at here, since profiles may change it during the start
                self.log.warning(
                    "%s: Spawner.environment sets %s, which wins over the tokens", self._log_name, variable
                )
            else:
                env[variable] = text
        return env

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        # Called for each new Spawner: from the first one on, the Hub's own refreshes are ours.
        self._renewal  # noqa: B018
        self._token_specs = state.get("token_specs", {})

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self._token_specs:
            state["token_specs"] = self._token_specs
        return state

    def clear_state(self) -> None:
        super().clear_state()
        self._token_specs = {}

    def start_polling(self) -> None:
        # The server runs: it was spawned, or has been found by a Hub that starts.
        super().start_polling()
        self._stop_renewing()
        try:
            specs = [spec for spec in self._parse_tokens({**self.tokens, **self._token_specs}) if spec.file]
            if specs and (renewal := self._renewal) is not None:
                self._token_server = _RunningServer(self, specs, renewal)
                renewal.watch(self.user, self._token_server)
        except Exception as error:
            self.log.error("The tokens of %s will not be renewed: %s", self._log_name, describe(error))

    def stop_polling(self) -> None:
        super().stop_polling()
        self._stop_renewing()

    async def run_post_stop_hook(self) -> Any:
        # Runs after a stop and after a failed spawn, where stop() is not always called.
        try:
            return await maybe_future(super().run_post_stop_hook())
        finally:
            await self._withdraw()

    async def prepare_tokens(self) -> None:
        """Renew and select the tokens, and deliver the files; :meth:`get_env` then has the variables.

        Raises what :func:`~spawner_tokens.refusal.make_refusal` makes if a token is not as asked and its policy is
        ``refuse``.
        """
        await self._withdraw()
        try:
            specs = self._parse_tokens(self.tokens)  # overrides merge in place, past the validator
        except SpecError as error:
            self.log.error("Not starting %s: %s", self._log_name, error)
            raise make_refusal(self, [Problem(error.name, Reason.MISCONFIGURED)]) from None
        if not specs:
            return
        self._token_specs = {name: spec for name, spec in self.tokens.items() if _is_plain(spec)}
        if self._renewal is not None:
            await self._renewal.ensure(self.user, partial(self._find_short, specs), self.token_renew_timeout)
        tokens = await self._select(specs)
        self._hold_to_policy(tokens)
        delivered = await self._deliver(tokens)
        self._token_env = make_env(tokens, self.token_directory if delivered else None)
        names = ", ".join(token.spec.name for token in tokens if token.value is not None)
        self.log.info("Tokens for %s: %s", self._log_name, names or "none")

    # -- inside ----------------------------------------------------------------------------------

    def _parse_tokens(self, tokens: Mapping[str, Any]) -> tuple[TokenSpec, ...]:
        return parse_tokens(tokens, files=self._delivers_files())

    @property
    def _renewal(self) -> Renewal | None:
        if not self.token_renew:
            return None
        return Renewal.of(
            self.authenticator,
            self.user.db,
            min_lifetime=self.token_min_lifetime,
            timeout=self.token_renew_timeout,
            log=self.log,
        )

    def _stop_renewing(self) -> None:
        server, self._token_server = self._token_server, None
        if server is not None:
            server.renewal.unwatch(self.user, server)

    def _find_short(self, specs: Iterable[TokenSpec], auth_state: Mapping[str, Any]) -> dict[Key, Due]:
        """The tokens, and when each will be too short-lived to be handed over."""
        return self._find(specs, auth_state, lambda token: token.lifetime.short_at(self._asked(token)))

    def _find_stale(self, specs: Iterable[TokenSpec], auth_state: Mapping[str, Any], spread: float) -> dict[Key, Due]:
        """The tokens, and when each should be renewed for the server that runs."""
        delay = self.delivery_delay
        return self._find(specs, auth_state, lambda token: token.lifetime.stale_at(self._asked(token), delay, spread))

    def _find(
        self, specs: Iterable[TokenSpec], auth_state: Mapping[str, Any], find_time: Callable[[Token], float]
    ) -> dict[Key, Due]:
        return {
            (token.spec.name, hash(token.value)): Due(find_time(token), token.lifetime.ends_at)
            for token in (pick(spec, auth_state) for spec in specs)
            if token.value is not None
        }

    def _asked(self, token: Token) -> float:
        return self.token_min_lifetime if token.spec.min_lifetime is None else token.spec.min_lifetime

    async def _select(self, specs: Sequence[TokenSpec]) -> list[Token]:
        auth_state, problem = await self._read_auth_state()
        if auth_state is None:
            return [Token(spec, reason=problem) for spec in specs]
        self._token_shown = _digest(auth_state), False
        return await self._select_from(auth_state, specs)

    async def _select_from(self, auth_state: dict[str, Any], specs: Sequence[TokenSpec]) -> list[Token]:
        scope = getattr(self.authenticator, "scope", None)
        requested = scope if isinstance(scope, (list, tuple, set)) else None
        tokens = [pick(spec, auth_state, requested) for spec in specs]
        if self.token_hook is not None:
            tokens = await self._run_token_hook(auth_state, tokens)
        now = time.time()
        return [judge(token, now, self.token_min_lifetime) for token in tokens]

    async def _read_auth_state(self) -> tuple[dict[str, Any] | None, Reason | None]:
        if not self.authenticator.enable_auth_state:
            return None, Reason.AUTH_STATE_OFF
        try:
            CryptKeeper.instance().check_available()
        except EncryptionUnavailable:
            return None, Reason.NO_CRYPT_KEY
        if self.user.encrypted_auth_state is None:
            return None, Reason.NEVER_STORED
        auth_state = await self.user.get_auth_state()
        if auth_state is None:
            return None, Reason.UNDECRYPTABLE
        return auth_state if isinstance(auth_state, dict) else {}, None

    async def _run_token_hook(self, auth_state: dict[str, Any], tokens: list[Token]) -> list[Token]:
        found = {token.spec.name: token.value for token in tokens if token.value is not None}
        try:
            values = await maybe_future(self.token_hook(self, copy.deepcopy(auth_state), found))
        except Exception as error:
            failure = describe(error)
        else:
            if isinstance(values, Mapping):
                for name in sorted(values.keys() - {token.spec.name for token in tokens}, key=str):
                    self.log.warning("token_hook returned %r, which is not declared in tokens: ignored", name)
                return [put(token, values, auth_state) for token in tokens]
            failure = f"it returned no dict of names and values but {type(values).__name__}"
        return [token.withheld(Reason.HOOK_FAILED, failure) for token in tokens]

    def _policy(self, token: Token) -> str:
        return token.spec.missing or self.token_missing

    def _hold_to_policy(self, tokens: Sequence[Token]) -> None:
        self._log_problems(tokens)
        refused = [
            Problem(token.spec.name, token.reason, token.detail)
            for token in tokens
            if token.reason is not None and self._policy(token) == "refuse"
        ]
        if refused:
            raise make_refusal(self, refused)

    def _log_problems(self, tokens: Iterable[Token]) -> None:
        for token in tokens:
            policy = self._policy(token)
            if token.reason is not None and policy != "skip":
                level = logging.ERROR if policy == "refuse" else logging.WARNING
                words = explain(token.reason, token.detail)
                self.log.log(level, "%s: token %s: %s", self._log_name, token.spec.name, words)

    async def _deliver(self, tokens: Sequence[Token]) -> bool:
        files = make_files(tokens)
        if not files:
            return False
        try:
            async with self._token_lock:
                await self._deliver_changed(files)
        except OSError as error:
            self.log.error("Could not deliver the token files of %s: %s", self._log_name, error)
            await self._withdraw()
            refused = [
                Problem(token.spec.name, Reason.DELIVERY_FAILED)
                for token in tokens
                if token.spec.file and self._policy(token) == "refuse"
            ]
            if refused:
                raise make_refusal(self, refused) from None
            return False
        return True

    async def _show(self, server: _RunningServer, auth_state: dict[str, Any], login_ended: bool) -> None:
        shown = _digest(auth_state), login_ended
        if shown == self._token_shown:
            return
        tokens = await self._select_from(auth_state, server.specs)
        files = make_files(tokens, login_ended)
        async with self._token_lock:
            if self._token_server is not server:
                return
            if await self._deliver_changed(files):
                self._log_problems(tokens)
            self._token_shown = shown

    async def _deliver_changed(self, files: Mapping[str, bytes | None]) -> bool:
        digests = {name: _digest(contents) for name, contents in files.items()}
        if digests == self._token_digests:
            return False
        self._token_digests = {}
        await self.deliver_files(files)
        self._token_digests = digests
        return True

    async def _withdraw(self) -> None:
        async with self._token_lock:
            self._token_shown, self._token_digests = None, {}
            try:
                await self.withdraw_files()
            except Exception:
                self.log.exception("Could not remove the token files of %s", self._log_name)

    @cached_property
    def _token_lock(self) -> asyncio.Lock:
        """A delivery and a withdrawal never overlap."""
        return asyncio.Lock()


def _is_plain(spec: Any) -> bool:
    try:
        json.dumps(spec)
    except (TypeError, ValueError):
        return False
    return True


def _digest(value: Any) -> bytes:
    contents = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(contents).digest()


@dataclass(frozen=True, eq=False)
class _RunningServer:
    """A server as :class:`~spawner_tokens.renewal.Renewal` sees it, from when it runs until it stops."""

    spawner: TokenSpawnerMixin
    specs: Sequence[TokenSpec]
    renewal: Renewal

    def find_due(self, auth_state: dict[str, Any], spread: float) -> Mapping[Key, Due]:
        return self.spawner._find_stale(self.specs, auth_state, spread)

    async def show(self, auth_state: dict[str, Any], login_ended: bool) -> None:
        await self.spawner._show(self, auth_state, login_ended)
