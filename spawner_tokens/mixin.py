"""TokenSpawnerMixin: the life of a JupyterHub Spawner, and what its tokens have to do with it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from jupyterhub.crypto import CryptKeeper
from jupyterhub.utils import maybe_future
from traitlets import TraitError, observe, validate

from .api import PulledServer, Pulls
from .backend import TokenBackend
from .combination import check_names, check_order
from .delivery import ServerDelivery
from .redaction import describe_error
from .refusal import Problem, refuse
from .renewal import Exchanges, Renewal, read_login, restore, withhold
from .sharing import Sharing
from .start import Start
from .tokens.fields import SpecError
from .tokens.record import RECORDED, Path, Started, find_functions, make_record, read_record
from .tokens.selection import Login, Reason, Token
from .tokens.spec import TokenSpec, parse_tokens


class TokenSpawnerMixin(TokenBackend):
    """Hands the tokens of a user's login to their server. Mix it into any Spawner, mixin first::

        class MySpawner(TokenSpawnerMixin, SomeSpawner):
            pass

    As it is, it delivers environment variables. For a backend that can also deliver files, see
    :class:`~spawner_tokens.backend.TokenBackend`. A Spawner that is made outside of a Hub, without
    an authenticator or a database, is as one without the mixin.
    """

    _tokens_start: Start | None = None
    # What the server was started with, since overrides are not made again: see make_record().
    _tokens_record: Any = None
    _tokens_pulled: PulledServer | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_order(cls, TokenSpawnerMixin)
        check_names(cls)

    @validate("tokens")
    def _validate_tokens(self, proposal: Any) -> Any:
        try:
            self._parse_tokens(proposal.value)
        except SpecError as error:
            raise TraitError(f"{type(self).__name__}.{error}") from None
        return proposal.value

    # -- the life of a server --------------------------------------------------------------------

    async def start(self, *args: Any, **kwargs: Any) -> Any:
        # Only a real spawn passes here, after the group overrides and the pre_spawn_hook.
        if self.tokens_hub is None:
            return await maybe_future(super().start(*args, **kwargs))
        self._tokens_start = Start(awaited=self._start_pending)
        self._tokens_location = None  # that of an earlier start
        try:
            if not self.prepares_in_start:
                await self.prepare_tokens()
            return await maybe_future(super().start(*args, **kwargs))
        finally:
            self._tokens_start = None

    def get_env(self) -> dict[str, Any]:
        env: dict[str, Any] = super().get_env()
        start, delivery = self._tokens_start, self._tokens_delivery
        if start is None:
            return env
        return start.render(self, delivery.started, env, is_shared=delivery.is_shared())

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._tokens_record = record = state.get("tokens_started")
        if record is None:  # it does not run, or runs since before there was a mixin
            record = make_record(self._tokens_traits, self._tokens_functions)
        self._tokens_delivery.started = read_record(
            record, self.tokens, self._tokens_functions, files=self.delivers_files()
        )
        # From the Hub's first Spawner on, its refreshes are ours, and what was left is removed.
        self._find_renewal()
        if self.tokens_hub is not None:
            # Here it is the configuration's: profiles and hooks may change this Spawner's traits.
            self.tokens_hub_name  # noqa: B018
            Pulls.get_or_install(self)
            with suppress(RuntimeError):  # no loop: the Hub does not run
                asyncio.get_running_loop()
                self.tokens_hub.sweeps.begin(self)

    @observe("orm_spawner")
    def _see_row(self, change: Any) -> None:
        # wrapspawner loads the state before, and calls no start_polling().
        if self.tokens_hub is not None:
            self._let_pull()

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self._tokens_record is not None:
            state["tokens_started"] = self._tokens_record
        return state

    def clear_state(self) -> None:
        super().clear_state()
        # The server has ended; wrapspawner keeps this object beside that of the next one.
        self._tokens_record = self._tokens_pulled = None

    def start_polling(self) -> None:
        # The server runs: it was spawned, or has been found by a Hub that starts.
        super().start_polling()
        self._stop_renewing()
        if self.tokens_hub is None:
            return
        try:
            delivery, renewal = self._tokens_delivery, self._find_renewal()
            for name, why in delivery.started.unknown.items():
                self.log.warning("%s: token %s stays as it is: %s", self._log_name, name, why)
            is_unknown = self.delivers_files() and delivery.started.unknown
            has_files = is_unknown or any(spec.file for spec in delivery.specs)
            if not self._tokens_locations:  # it was not recorded, or the delivery has failed
                self._tokens_location = self.make_location()
                self._tokens_locations = (self._tokens_location,)
            self.tokens_hub.sweeps.kept[self.orm_spawner.id] = self.tokens_location
            sees_files = bool(has_files) and self.delivery_delay < math.inf
            delivery.running = self._let_pull() or sees_files
            sharing = Sharing.from_session(self._tokens_session)
            sharing.watch(self.orm_spawner.id, delivery.was_shared, self._see_sharing)
            if renewal is not None and delivery.running:
                renewal.watch(self.user, delivery)
        except Exception as error:
            self.log.error("Not renewing tokens of %s: %s", self._log_name, describe_error(error))

    def stop_polling(self) -> None:
        super().stop_polling()
        self._stop_renewing()

    async def run_post_stop_hook(self) -> Any:
        # Runs after a stop and after a failed spawn, where stop() is not always called.
        try:
            return await maybe_future(super().run_post_stop_hook())
        finally:
            if self.tokens_hub is not None:
                await self.withdraw_tokens()

    # -- for a backend: see TokenBackend ---------------------------------------------------------

    @property
    def tokens_specs(self) -> Sequence[TokenSpec]:
        return self._tokens_delivery.specs if self.tokens_hub else ()

    @property
    def tokens_running(self) -> bool:
        return self._tokens_delivery.running

    @property
    def tokens_variables(self) -> frozenset[str]:
        return frozenset(self._tokens_start.env if self._tokens_start else ())

    async def prepare_tokens(self) -> None:
        if self._tokens_start is None:
            return
        delivery = self._tokens_delivery
        if not self.delivers_in_start:
            await delivery.withdraw()
        try:  # overrides merge in place, past the validator
            specs = self._parse_tokens(self.tokens)
        except SpecError as error:
            self.log.error("Not starting %s: %s", self._log_name, error)
            refuse(self, [Problem(error.name, Reason.MISCONFIGURED)])
        renews, shared, pull = self.tokens_renew, self.tokens_shared, self.tokens_pull
        delivery.started = Started(specs, self.tokens_hook, renews, {}, shared, pull)
        self._tokens_record = record = make_record(self._tokens_traits, self._tokens_functions)
        # Committed with the files' location: a Hub that is killed now may find the server running.
        self.orm_spawner.state = {**(self.orm_spawner.state or {}), "tokens_started": record}
        if not delivery.specs:
            return
        self._let_pull()
        if (renewal := self._find_renewal()) is not None:
            login = await renewal.ensure(self.user, delivery.find_short, self.tokens_renew_timeout)
        else:
            login = await self._read_login()
        tokens = await delivery.select(login)
        self._set_start(tokens, delivered=self.delivers_in_start)
        if not self.delivers_in_start:
            await self.deliver_tokens()
        await self._check_awaited()
        names = ", ".join(token.spec.name for token in tokens if token.value is not None)
        self.log.info("Tokens for %s: %s", self._log_name, names or "none")

    async def deliver_tokens(self) -> bool:
        if self._tokens_start is None:
            return False
        await self._check_awaited()
        tokens = self._tokens_start.tokens
        delivered = await self._tokens_delivery.deliver(tokens)
        await self._check_awaited()
        self._set_start(tokens, delivered=delivered)
        return delivered

    def redeliver_tokens(self) -> None:
        delivery = self._tokens_delivery
        delivery.invalidate()
        if (renewal := self._find_renewal()) is not None:
            renewal.deliver_again(self.user, delivery)
        elif self.tokens_running:
            restoring = restore(delivery, self._read_login, self._log_name, self.log)
            self._tokens_restoring = asyncio.ensure_future(restoring)

    async def withdraw_tokens(self) -> None:
        await self._tokens_delivery.withdraw()

    # -- inside ----------------------------------------------------------------------------------

    async def _check_awaited(self) -> None:
        """JupyterHub 5 does not cancel a start that took too long."""
        start = self._tokens_start
        if start is not None and start.awaited and not self._start_pending:
            await self.withdraw_tokens()
            raise TimeoutError(f"the Hub does not wait for {self._log_name} any longer")

    def _set_start(self, tokens: Sequence[Token], *, delivered: bool) -> None:
        assert self._tokens_start is not None
        delivery = self._tokens_delivery
        files, pull = delivery.make_files(tokens) if delivered else {}, delivery.started.pull
        self._tokens_start = self._tokens_start.give(self, tokens, files, pull=pull)

    def _parse_tokens(self, tokens: Mapping[str, Any]) -> tuple[TokenSpec, ...]:
        return parse_tokens(tokens, files=self.delivers_files(), pull=self.tokens_pull)

    @property
    def _tokens_traits(self) -> Mapping[str, Any]:
        return {name: getattr(self, name) for name in RECORDED}

    @cached_property
    def _tokens_functions(self) -> Mapping[Path, Any]:
        return find_functions(self._tokens_traits)  # load_state() asks, before any override

    @cached_property
    def _tokens_delivery(self) -> ServerDelivery:
        return ServerDelivery(self, self._exchange)

    async def _exchange(self, login: Login, specs: Any, find_due: Any, waits: bool) -> Login:
        hub, start, seconds = self.tokens_hub, self._tokens_start, self.tokens_renew_timeout
        assert hub is not None  # only a Spawner of a Hub has a login
        renewal = self._find_renewal() or hub.renewal
        if renewal is None:
            exchanges = Exchanges.alone(hub.known, self.authenticator, self.log)
        else:
            exchanges = renewal.exchanges
        left = seconds if start is None else start.find_left(seconds)
        return await exchanges.exchange(self.user, login, specs, find_due, left if waits else None)

    def _see_sharing(self, places: Any) -> None:
        """From now on others may use the server that runs, or they may not any more."""
        withholding = withhold(self._tokens_delivery, places, self._log_name, self.log)
        self._tokens_withholding = asyncio.ensure_future(withholding)
        self.redeliver_tokens()

    async def _read_login(self) -> Login:
        stored = bool(self.authenticator.enable_auth_state), self.user.encrypted_auth_state
        return await asyncio.to_thread(read_login, *stored, CryptKeeper.instance())

    def _find_renewal(self) -> Renewal | None:
        hub = self.tokens_hub
        if hub is None or not self._tokens_delivery.started.renews:
            return None
        if hub.renewal is None:
            hub.renewal = Renewal(
                self.authenticator,
                self._tokens_session,
                min_lifetime=self.tokens_min_lifetime,
                timeout=self.tokens_renew_timeout,
                log=self.log,
            )
        renewal: Renewal = hub.renewal
        return renewal

    def _let_pull(self) -> bool:
        """Let the server ask for its tokens, if it was started so."""
        if pull := (delivery := self._tokens_delivery).started.pull:
            server = PulledServer(self, delivery, self._find_renewal(), self._read_login)
            self._tokens_pulled = Pulls.get_or_install(self).add(server)
        return pull

    def _stop_renewing(self) -> None:
        delivery, hub = self._tokens_delivery, self.tokens_hub
        was_running, delivery.running = delivery.running, False
        if hub is not None:
            Sharing.from_session(self._tokens_session).unwatch(self.orm_spawner.id)
        if was_running and hub is not None and hub.renewal is not None:
            hub.renewal.unwatch(self.user, delivery)
