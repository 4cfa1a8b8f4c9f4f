"""The adapter: all that is done to a Hub's authenticator, and all that is known of OAuthenticator.

Its methods that are used here: ``refresh_user``, ``build_refresh_token_request_params``,
``get_token_info``, ``httpfetch``, ``fetch``, ``build_auth_state_dict``; the traits ``token_url``,
``token_params``, ``scope``, ``http_request_kwargs``, ``user_auth_state_key``,
``userdata_from_id_token``; the hooks ``refresh_user_hook``, ``modify_auth_state_hook`` and
JupyterHub's ``reconcile_auth_state_hook``. Of MultiAuthenticator: ``username_prefix``. What
requests of our own need is in :mod:`.request`.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from jupyterhub.auth import Authenticator
from jupyterhub.utils import maybe_future

from ..foreign import run_foreign
from ..tokens.exchange import Exchange
from ..tokens.lifetime import find_lifetime
from ..tokens.lookup import ASKED_SCOPE, copy_auth_state
from ..tokens.scopes import find_requested_scopes
from .auth_state import AuthState, is_replaced, take_tokens
from .grant import (
    NO_TOKEN,
    Failure,
    FailureKind,
    GrantFailed,
    explain_answer,
    explain_error,
    explain_failure,
    get_recorder,
    read_answer,
    record_responses,
)
from .issuer import ISSUER, are_same, find_issuer
from .places import Places
from .request import EXCHANGE_TIMEOUT, request_exchange, use_own_client

# Seconds for a request of a grant: an answer that comes too late is a lost refresh token.
_REQUEST_TIMEOUT = 60.0
# Grants at a time: each has a socket, and a provider that hangs must not have all of the Hub's.
_GRANTS_AT_ONCE = 300
# Scheduled renewals at a time, and of these those after a failure.
_RENEWALS_AT_ONCE, _RETRIES_AT_ONCE = 20, 3
# Seconds for the authenticator's and the admin's own code.
_CODE_TIMEOUT = 30.0


class AuthenticatorAdapter:
    """An authenticator, which is as it was until :meth:`install`.

    ``renewals`` bounds the scheduled renewals of its users at a time. Each authenticator has its
    own bound, so a provider that does not answer does not delay the users of another provider.
    """

    def __init__(self, authenticator: Any) -> None:
        self._authenticator = authenticator
        self._refresh_user = authenticator.refresh_user
        self._get_authenticated_user = authenticator.get_authenticated_user
        self._grants = asyncio.Semaphore(_GRANTS_AT_ONCE)
        self.renewals = Places(_RENEWALS_AT_ONCE, _RETRIES_AT_ONCE)
        names = ("build_refresh_token_request_params", "get_token_info", "httpfetch", "fetch")
        self._is_oauth = all(callable(getattr(authenticator, name, None)) for name in names)
        if self._is_oauth:
            self._get_token_info = authenticator.get_token_info
            self._httpfetch = authenticator.httpfetch

    def install(
        self,
        find_grant: Callable[[Any], Callable[[], Awaitable[dict[str, Any]]] | None],
        on_login: Callable[[AuthState], None],
        clock: Callable[[], float],
    ) -> None:
        """From now on, see its logins and requests.

        ``find_grant(refresh_token)`` returns what makes the grant in place of the authenticator, if
        the calling code runs in a refresh that owns this refresh token, else ``None``. ``on_login``
        is called with the auth_state of each login.
        """
        self._find_grant, self._on_login, self._clock = find_grant, on_login, clock
        authenticator = self._authenticator
        authenticator.get_authenticated_user = self._log_in
        if self._is_oauth:
            authenticator.get_token_info = self._get_or_grant
            authenticator.httpfetch = self._fetch
            authenticator.fetch = partial(_watch, authenticator.fetch)

    @property
    def keeps_auth_state(self) -> bool:
        return bool(self._authenticator.enable_auth_state)

    @property
    def renews_itself(self) -> bool:
        """Whether the authenticator, or an admin's hook, renews tokens in its own way."""
        own = type(self._authenticator).refresh_user
        is_stock = own is Authenticator.refresh_user or own.__module__ == "oauthenticator.oauth2"
        return not is_stock or getattr(self._authenticator, "refresh_user_hook", None) is not None

    def can_grant(self, auth_state: Mapping[str, Any]) -> bool:
        """Whether there is a refresh token, and a way to use it."""
        return self._is_oauth and bool(auth_state.get("refresh_token"))

    @property
    def token_url(self) -> str | None:
        """Where its tokens are from."""
        return getattr(self._authenticator, "token_url", None)

    def is_issuer(self, auth_state: Mapping[str, Any] | None) -> bool:
        """Whether a stored refresh token is from there, as far as is recorded."""
        issuer = find_issuer(auth_state)
        return issuer is None or are_same(issuer, self.token_url)

    @property
    def username_prefix(self) -> str:
        """What the names of its users begin with, if it is one of several authenticators."""
        return str(getattr(self._authenticator, "username_prefix", None) or "")

    async def refresh_user(self, user: Any, handler: Any, arguments: Mapping[str, Any]) -> Any:
        """The result of the authenticator's own method. Raises what it raises."""
        found = await maybe_future(self._refresh_user(user, handler, **arguments))
        if isinstance(found, dict) and f"{self.username_prefix}{found.get('name')}" == user.name:
            found = found | {"name": user.name}
        return found

    async def refresh_user_in_time(
        self, user: Any, handler: Any, arguments: Mapping[str, Any]
    ) -> Any:
        """The same. Also raises :exc:`TimeoutError`, and :exc:`ForeignCancelled`."""
        return await run_foreign(self.refresh_user(user, handler, arguments), _CODE_TIMEOUT)

    async def grant(self, refresh_token: str) -> dict[str, Any]:
        """The provider's answer (RFC 6749, section 6), which has an ``access_token``.

        Raises :exc:`GrantFailed`.
        """
        use_own_client(self._authenticator)
        async with self._grants:
            with record_responses(_REQUEST_TIMEOUT) as recorder:
                try:
                    request = self._get_token_info(None, self._make_params(refresh_token))
                    answer = read_answer(await run_foreign(request, 2 * _REQUEST_TIMEOUT))
                    failure = NO_TOKEN
                except Exception as error:
                    answer, failure = None, explain_failure(error, recorder)
        if answer is None:
            raise GrantFailed(failure)
        return answer | {ISSUER: self.token_url}

    def _make_params(self, refresh_token: str) -> dict[str, Any]:
        """Those of OAuthenticator, which leaves out what the admin adds to a login's request."""
        params = self._authenticator.build_refresh_token_request_params(refresh_token)
        added = getattr(self._authenticator, "token_params", {}).items()
        own = ("grant_type", "refresh_token")
        return {**params, **{name: value for name, value in added if name not in own}}

    def can_exchange(self, exchange: Exchange) -> bool:
        """Whether there is somebody to ask for it, and a way to do so."""
        return self._is_oauth and bool(exchange.token_url or self.token_url)

    async def exchange(self, exchange: Exchange, subject_token: str) -> dict[str, Any]:
        """The provider's answer for a subject token, which has an ``access_token``.

        By the authenticator's own HTTP client. Raises :exc:`GrantFailed`.
        """
        url = exchange.token_url or self.token_url
        if not url or not self.can_exchange(exchange):
            words = "the authenticator is not an OAuthenticator with a token_url"
            raise GrantFailed(Failure(FailureKind.MISCONFIGURED, words))
        failure, answer = None, None
        try:
            request = request_exchange(self._authenticator, url, exchange, subject_token)
            answer = await run_foreign(request, 2 * EXCHANGE_TIMEOUT)
        except Exception as error:
            failure = explain_error(error)
        if (found := read_answer(answer)) is None:
            raise GrantFailed(failure or explain_answer(answer))
        return found

    def predict_answer(
        self, auth_state: AuthState | None, is_rejected: bool, now: float
    ) -> bool | None:
        """What ``refresh_user`` should return where OAuthenticator's would fail, or would not look.

        ``is_rejected``: whether the provider has rejected the refresh token. ``None``: ask it.
        """
        if not self._is_oauth or self.renews_itself or auth_state is None:
            return None
        response = auth_state.get("token_response")
        if not isinstance(response, dict):
            return "access_token" not in auth_state  # MediaWiki's OAuth 1 has nothing to ask with
        access_token = str(auth_state.get("access_token"))
        if is_rejected and find_lifetime(access_token, response).left(now) <= 0:
            return False  # Azure AD's would return what it returned at the login
        if getattr(self._authenticator, "userdata_from_id_token", False):
            if find_lifetime(str(response.get("id_token")), {}).left(now) <= 0:
                return bool(auth_state.get("refresh_token")) and not is_rejected
        return None

    async def derive(self, name: str, stored: AuthState) -> AuthState:
        """What the authenticator and its hooks make of renewed tokens, for the user of this name.

        They may change ``stored``. Raises what they raise, :exc:`TimeoutError` and
        :exc:`ForeignCancelled`.
        """
        derived: AuthState = await run_foreign(self._derive(name, stored), _CODE_TIMEOUT)
        return derived

    async def _derive(self, name: str, stored: AuthState) -> AuthState:
        authenticator = self._authenticator
        user_info = stored.get(authenticator.user_auth_state_key)
        response = copy.deepcopy(stored["token_response"])
        derived = await maybe_future(authenticator.build_auth_state_dict(response, user_info))
        if (hook := getattr(authenticator, "modify_auth_state_hook", None)) is not None:
            derived = await maybe_future(hook(authenticator, derived))
        derived = {key: value for key, value in derived.items() if value is not None}
        tokens = take_tokens(stored)
        if is_replaced(stored):
            tokens.pop("access_token", None)
        auth_state = stored | derived | tokens
        return await self._reconcile({"name": name, "auth_state": auth_state}, stored)

    @property
    def reconciles(self) -> bool:
        """Whether there is a ``reconcile_auth_state_hook`` (JupyterHub 6.1)."""
        return getattr(self._authenticator, "reconcile_auth_state_hook", None) is not None

    async def reconcile(self, model: Mapping[str, Any], stored: AuthState | None) -> AuthState:
        """The auth_state of a model, as the admin's hook wants it stored.

        Raises what the hook raises, :exc:`TimeoutError` and :exc:`ForeignCancelled`.
        """
        found: AuthState = await run_foreign(self._reconcile(model, stored), _CODE_TIMEOUT)
        return found

    async def _reconcile(self, model: Mapping[str, Any], stored: AuthState | None) -> AuthState:
        auth_state: AuthState = model["auth_state"]
        if not self.reconciles:
            return auth_state
        hook = self._authenticator.reconcile_auth_state_hook
        found = await maybe_future(
            hook(self._authenticator, dict(model), stored and copy_auth_state(stored))
        )
        return (found if isinstance(found, dict) else {}) | take_tokens(auth_state)

    # -- in place of the authenticator's own methods ---------------------------------------------

    async def _get_or_grant(self, handler: Any, params: Any) -> Any:
        if isinstance(params, Mapping) and params.get("grant_type") == "refresh_token":
            if (grant := self._find_grant(params.get("refresh_token"))) is not None:
                return await grant()
        asked_at = self._clock()
        answer = await self._get_token_info(handler, params)
        if isinstance(answer, dict) and "access_token" in answer:
            times = {"created_at": asked_at, "id_token_created_at": asked_at}  # the Hub's clock's
            return {**answer, **times, ISSUER: self.token_url, **self._find_asked(params)}
        return answer

    def _find_asked(self, params: Any) -> dict[str, str]:
        """The scopes that a login with these parameters asks for. Later ones may differ."""
        scopes = find_requested_scopes(self._authenticator)
        is_refresh = isinstance(params, Mapping) and params.get("grant_type") == "refresh_token"
        return {} if is_refresh or scopes is None else {ASKED_SCOPE: " ".join(map(str, scopes))}

    async def _log_in(self, *args: Any, **kwargs: Any) -> Any:
        model = await maybe_future(self._get_authenticated_user(*args, **kwargs))
        if isinstance(model, dict) and isinstance(model.get("auth_state"), dict):
            self._on_login(model["auth_state"])
        return model

    async def _fetch(self, url: Any, *args: Any, **kwargs: Any) -> Any:
        timeout = recorder.timeout if (recorder := get_recorder()) else None
        if timeout and "request_timeout" not in self._authenticator.http_request_kwargs:
            kwargs.setdefault("request_timeout", timeout)
        return await _watch(self._httpfetch, url, *args, **kwargs)


async def _watch(fetch: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> Any:
    recorder, request = get_recorder(), fetch(*args, **kwargs)
    return await (request if recorder is None else recorder.record(request))
