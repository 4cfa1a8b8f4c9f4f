"""TokenSpawnerMixin: where the tokens meet the life of a JupyterHub Spawner."""

from __future__ import annotations

import asyncio
import json
import math
import weakref
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from jupyterhub.objects import Hub
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from traitlets import TraitError, validate

from .backend import TokenBackend
from .delivery import ServerDelivery
from .redaction import describe_error
from .refusal import Problem, make_refusal
from .renewal.renewal import Renewal
from .tokens.fields import SpecError
from .tokens.files import PUBLIC_FILE, make_env
from .tokens.git import make_config, make_variables
from .tokens.selection import Reason, Token
from .tokens.spec import TokenSpec, parse_tokens


class TokenSpawnerMixin(TokenBackend):
    """Hands the tokens of a user's login to their server. Mix it into any Spawner, mixin first::

        class MySpawner(TokenSpawnerMixin, SomeSpawner):
            pass

    As it is, it delivers environment variables. For a backend that can also deliver files, see
    :class:`~spawner_tokens.backend.TokenBackend`.
    """

    # What get_env adds, from the start of a spawn to its end: variables, and entries of git's configuration.
    _tokens_env: Mapping[str, str] = {}
    _tokens_git: Sequence[tuple[str, str]] = ()
    # Between the two: what was selected for the server that starts.
    _tokens_prepared: Sequence[Token] = ()
    # What the running server was started with, since overrides are not made again; what is no plain data is ``None``
    # there, and looked up in the config. ``None`` in all if that is not known.
    _tokens_specs: Mapping[str, Any] | None = None
    # Whether somebody waits for this start.
    _tokens_hub_waits: bool = False
    # Who looks after the server while it runs.
    _tokens_renewal: Renewal | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        before = cls.__mro__[: cls.__mro__.index(TokenSpawnerMixin)]
        if any(
            issubclass(base, Spawner) and not issubclass(base, TokenSpawnerMixin) for base in before
        ):
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

    async def deliver_tokens(self) -> bool:
        """Deliver what was prepared for the server that starts. Returns whether it got its files.

        If not, :meth:`get_env` names none of them from here on. Raises as :meth:`prepare_tokens`.
        """
        await self._check_that_hub_waits()
        delivered = await self._tokens_delivery.deliver(self._tokens_prepared)
        await self._check_that_hub_waits()
        self._set_variables(delivered)
        return delivered

    async def wait_for_sweep(self) -> None:
        """Wait until :meth:`sweep_files` is done, once after the Hub's start."""
        await asyncio.shield(self._find_sweep())

    def redeliver_tokens(self) -> None:
        """Say that the running server has lost its files."""
        self._tokens_delivery.forget()
        if self._tokens_renewal is not None:
            self._tokens_renewal.show_again(self.user, self._tokens_delivery)

    @classmethod
    def _delivers_files(cls) -> bool:
        return cls.deliver_files is not TokenSpawnerMixin.deliver_files

    # -- the life of a server --------------------------------------------------------------------

    async def start(self, *args: Any, **kwargs: Any) -> Any:
        # Only a real spawn passes here, after the group overrides and the pre_spawn_hook.
        self._tokens_hub_waits = self._start_pending
        try:
            if not self.prepares_in_start:
                await self.prepare_tokens()
            return await maybe_future(super().start(*args, **kwargs))
        finally:
            self._tokens_env, self._tokens_git, self._tokens_prepared = {}, (), ()
            self._tokens_hub_waits = False

    def get_env(self) -> dict[str, Any]:
        env: dict[str, Any] = super().get_env()
        for variable, text in self._tokens_env.items():
            if (
                variable in self.environment
            ):  # looked at here, since profiles may change it during the start
                self.log.warning(
                    "%s: Spawner.environment sets %s, which wins over the tokens",
                    self._log_name,
                    variable,
                )
            else:
                env[variable] = self.make_variable(variable, text)
        git = make_variables(self._tokens_git, env)
        return env | {
            variable: self.make_variable(variable, text) for variable, text in git.items()
        }

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._find_renewal()  # called for each new Spawner: from the first one on, the Hub's own refreshes are ours
        self._tokens_specs = state.get("tokens_specs")
        if self.hub is not None:
            self._find_sweep()

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self._tokens_specs is not None:
            state["tokens_specs"] = self._tokens_specs
        return state

    def clear_state(self) -> None:
        super().clear_state()
        self._tokens_specs = None

    def start_polling(self) -> None:
        # The server runs: it was spawned, or has been found by a Hub that starts.
        super().start_polling()
        self._stop_renewing()
        try:
            renewal, server = self._find_renewal(), self._tokens_delivery
            server.specs = self._parse_tokens(restore_tokens(self.tokens, self._tokens_specs))
            if (
                renewal is not None
                and self.delivery_delay < math.inf
                and any(spec.file for spec in server.specs)
            ):
                server.runs = True
                self._tokens_renewal = renewal
                renewal.watch(self.user, server)
        except Exception as error:
            self.log.error(
                "The tokens of %s will not be renewed: %s", self._log_name, describe_error(error)
            )

    def stop_polling(self) -> None:
        super().stop_polling()
        self._stop_renewing()

    async def run_post_stop_hook(self) -> Any:
        # Runs after a stop and after a failed spawn, where stop() is not always called.
        try:
            return await maybe_future(super().run_post_stop_hook())
        finally:
            await self._tokens_delivery.withdraw()

    async def prepare_tokens(self) -> None:
        """Renew and select the tokens, and deliver the files; :meth:`get_env` then has the variables.

        Raises what :func:`~spawner_tokens.refusal.make_refusal` makes if a token is not as asked and its policy is
        ``refuse``.
        """
        server = self._tokens_delivery
        await self.wait_for_sweep()
        if not self.delivers_in_start:
            await server.withdraw()
        try:
            server.specs = self._parse_tokens(
                self.tokens
            )  # overrides merge in place, past the validator
        except SpecError as error:
            self.log.error("Not starting %s: %s", self._log_name, error)
            raise make_refusal(self, [Problem(error.name, Reason.MISCONFIGURED)]) from None
        self._tokens_specs = {
            name: spec if _is_plain(spec) else None for name, spec in self.tokens.items()
        }
        if not server.specs:
            return
        if (renewal := self._find_renewal()) is not None:
            await renewal.ensure(self.user, server.find_short, self.tokens_renew_timeout)
        tokens = self._tokens_prepared = await server.select()
        if self.delivers_in_start:
            self._set_variables(True)
        else:
            await self.deliver_tokens()
        await self._check_that_hub_waits()
        names = ", ".join(token.spec.name for token in tokens if token.value is not None)
        self.log.info("Tokens for %s: %s", self._log_name, names or "none")

    # -- inside ----------------------------------------------------------------------------------

    async def _check_that_hub_waits(self) -> None:
        """JupyterHub 5 does not cancel a start that took too long."""
        if self._tokens_hub_waits and not self._start_pending:
            await self._tokens_delivery.withdraw()
            raise TimeoutError(f"the Hub does not wait for {self._log_name} any longer")

    def _set_variables(self, delivered: bool) -> None:
        tokens = self._tokens_prepared
        files = self._tokens_delivery.make_files(tokens) if delivered else {}
        shown = files and self.shows_files and any(token.spec.file for token in tokens)
        directory = self.tokens_directory if shown else None
        public = self.tokens_public_path if files.get(PUBLIC_FILE) is not None else None
        self._tokens_env, self._tokens_git = (
            make_env(tokens, directory, public),
            make_config(tokens, directory),
        )

    def _parse_tokens(self, tokens: Mapping[str, Any]) -> tuple[TokenSpec, ...]:
        return parse_tokens(tokens, files=self._delivers_files())

    def _find_sweep(self) -> asyncio.Task[None]:
        """The one that began with our first Spawner since the Hub's start."""
        sweeps = _sweeps.setdefault(self.hub, {})
        if type(self).sweep_files not in sweeps:
            sweeps[type(self).sweep_files] = asyncio.ensure_future(self._sweep())
        return sweeps[type(self).sweep_files]

    async def _sweep(self) -> None:
        try:
            await self.sweep_files()
        except Exception:
            self.log.exception("Could not remove the token files that servers left behind")
            del _sweeps[self.hub][type(self).sweep_files]  # the next spawn tries again

    @cached_property
    def _tokens_delivery(self) -> ServerDelivery:
        return ServerDelivery(self)

    def _find_renewal(self) -> Renewal | None:
        if not self.tokens_renew:
            return None
        return Renewal.of(
            self.authenticator,
            self.user.db,
            min_lifetime=self.tokens_min_lifetime,
            timeout=self.tokens_renew_timeout,
            log=self.log,
        )

    def _stop_renewing(self) -> None:
        self._tokens_delivery.runs = False
        renewal, self._tokens_renewal = self._tokens_renewal, None
        if renewal is not None:
            renewal.unwatch(self.user, self._tokens_delivery)


_sweeps: weakref.WeakKeyDictionary[Hub, dict[Any, asyncio.Task[None]]] = weakref.WeakKeyDictionary()


def restore_tokens(
    tokens: Mapping[str, Any], started_with: Mapping[str, Any] | None
) -> Mapping[str, Any]:
    """The ``tokens`` of a running server, from those of the config and those that its Spawner's state has."""
    if started_with is None:
        return tokens
    restored = {
        name: tokens.get(name) if spec is None else spec for name, spec in started_with.items()
    }
    return {name: spec for name, spec in restored.items() if spec is not None}


def _is_plain(spec: Any) -> bool:
    try:
        json.dumps(spec)
    except (TypeError, ValueError):
        return False
    return True
