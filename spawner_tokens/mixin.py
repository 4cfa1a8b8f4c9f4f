"""TokenSpawnerMixin: where the tokens meet the life of a JupyterHub Spawner."""

from __future__ import annotations

import copy
import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jupyterhub.crypto import CryptKeeper, EncryptionUnavailable
from jupyterhub.spawner import Spawner
from jupyterhub.utils import maybe_future
from traitlets import Callable, Dict, Enum, Float, TraitError, Unicode, validate
from traitlets.config import LoggingConfigurable

from .delivery import make_env, make_files
from .fields import POLICIES, SpecError
from .refusal import Problem, explain, make_refusal
from .selection import Reason, Token, judge, pick, put
from .spec import TokenSpec, parse_tokens

if TYPE_CHECKING:
    from jupyterhub.spawner import Spawner as _Base
else:  # a mixin with traits; deriving from Spawner would demand start, stop and poll
    _Base = LoggingConfigurable


class TokenSpawnerMixin(_Base):
    """Hands the tokens of a user's login to their server. Mix it into any Spawner, mixin first::

        class MySpawner(TokenSpawnerMixin, SomeSpawner):
            pass

    As it is, it delivers environment variables. A backend that can also deliver files implements

    - :meth:`deliver_files` and :meth:`withdraw_files`, and
    - :attr:`token_directory` if the files are not at ``token_mount_path``.
    """

    tokens = Dict(
        help="""
        The tokens to hand to each server: token name → spec.

        Example::

            c.TokenSpawnerMixin.tokens = {
                "gitlab": {"preset": "gitlab", "url": "https://gitlab.example.org"},
            }

        A name is a file name and a Secret key: lower-case letters, digits, ``-``, ``_`` and ``.``.
        The fields of a spec are listed in the README, under "A token's spec".

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    token_mount_path = Unicode(
        "/var/run/secrets/spawner-tokens",
        help="""
        The directory where a server finds its token files.

        Example::

            c.TokenSpawnerMixin.token_mount_path = "/run/jupyterhub-tokens"

        Local processes share one file system, so each server gets a private directory inside of this one, which
        is made if only its parent exists. Their default is a directory in memory: in ``/run``, ``/dev/shm`` or
        ``$XDG_RUNTIME_DIR``.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    token_missing = Enum(
        POLICIES,
        default_value="warn",
        help="""
        What to do when a token is not as its spec asks: ``refuse``, ``warn`` or ``skip``.

        Example::

            c.TokenSpawnerMixin.token_missing = "refuse"

        ``refuse``
            The server does not start; the user is told why, and how to log in again.
        ``warn``
            The server starts, and the log says what is wrong.
        ``skip``
            The server starts, silently.

        Under ``warn`` and ``skip`` an absent token, or one with a forbidden scope, is withheld; one that is
        too short-lived or lacks a required scope is delivered. A spec's field ``missing`` overrides this.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    token_min_lifetime = Float(
        300,
        min=0,
        help="""
        Seconds that a token must still live when it is handed over.

        Example::

            c.TokenSpawnerMixin.token_min_lifetime = 600

        Never more is asked than half of the life that the provider gives. A token whose end is not
        known passes. A spec's field ``min_lifetime`` overrides this.

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    token_hook = Callable(
        None,
        allow_none=True,
        help="""
        A function with the last word on the tokens' values, which may be async.

        Called as ``tokens = [await] token_hook(spawner, auth_state, tokens)`` with a dict of token name →
        value, it returns such a dict: changed values are delivered, names left out are withheld. It
        may give values for declared tokens that auth_state does not have. It is not called when there is
        no auth_state; if it raises, all tokens are withheld.

        Example::

            async def exchange(spawner, auth_state, tokens):
                tokens["storage"] = await storage_token_for(tokens["login"])
                return tokens

            c.TokenSpawnerMixin.token_hook = exchange

        .. versionadded:: 0.1
        """,
    ).tag(config=True)

    # What get_env adds, from the start of a spawn to its end.
    _token_env: Mapping[str, str] = {}

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

    async def deliver_files(self, files: Mapping[str, bytes]) -> None:
        """Show these files (name → contents) to the server, each of them whole at any time.

        Raises :exc:`OSError` if it cannot.
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

    async def run_post_stop_hook(self) -> Any:
        # Runs after a stop and after a failed spawn, where stop() is not always called.
        try:
            return await maybe_future(super().run_post_stop_hook())
        finally:
            await self._withdraw()

    async def prepare_tokens(self) -> None:
        """Select the tokens and deliver the files; :meth:`get_env` then has the variables.

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
        tokens = await self._select(specs)
        self._hold_to_policy(tokens)
        delivered = await self._deliver(tokens)
        self._token_env = make_env(tokens, self.token_directory if delivered else None)
        names = ", ".join(token.spec.name for token in tokens if token.value is not None)
        self.log.info("Tokens for %s: %s", self._log_name, names or "none")

    # -- inside ----------------------------------------------------------------------------------

    def _parse_tokens(self, tokens: Mapping[str, Any]) -> tuple[TokenSpec, ...]:
        return parse_tokens(tokens, files=self._delivers_files())

    async def _select(self, specs: Sequence[TokenSpec]) -> list[Token]:
        auth_state, problem = await self._read_auth_state()
        if auth_state is None:
            return [Token(spec, reason=problem) for spec in specs]
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
        except Exception as error:  # its text may hold a value
            place = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"{type(error).__name__} in {place.name}, line {place.lineno} of {place.filename}"
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
        refused = []
        for token in tokens:
            policy = self._policy(token)
            if token.reason is None or policy == "skip":
                continue
            level = logging.ERROR if policy == "refuse" else logging.WARNING
            words = explain(token.reason, token.detail)
            self.log.log(level, "%s: token %s: %s", self._log_name, token.spec.name, words)
            if policy == "refuse":
                refused.append(Problem(token.spec.name, token.reason, token.detail))
        if refused:
            raise make_refusal(self, refused)

    async def _deliver(self, tokens: Sequence[Token]) -> bool:
        files = make_files(tokens)
        if not files:
            return False
        try:
            await self.deliver_files(files)
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

    async def _withdraw(self) -> None:
        try:
            await self.withdraw_files()
        except Exception:
            self.log.exception("Could not remove the token files of %s", self._log_name)
