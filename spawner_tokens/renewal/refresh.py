"""A flight: all that happens for one user at the provider, once for everybody who waits for it."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from jupyterhub.auth import Authenticator
from jupyterhub.utils import maybe_future
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError

from ..redaction import describe_error
from ..tokens.lifetime import find_lifetime
from .grant import Failure, GrantFailed, Kind, Notes, Provider, is_transient, note
from .store import TOKEN_FIELDS, AuthState, AuthStateStore, mark

_flight: ContextVar[Flight | None] = ContextVar("flight", default=None)

T = TypeVar("T")

# Seconds to the next try when the Hub's database cannot store an answer: doubled each time.
_FIRST_RETRY, _LAST_RETRY = 0.1, 30.0
# Seconds that the authenticator and the admin's hooks may take for their part.
_LONGEST = 30.0


@dataclass(frozen=True)
class Crew:
    """What every flight needs. ``refresh_user`` is the authenticator's own."""

    authenticator: Any
    refresh_user: Callable[..., Any]
    provider: Provider | None
    journal: AuthStateStore
    clock: Callable[[], float]
    log: logging.Logger

    @classmethod
    def of(
        cls,
        authenticator: Any,
        journal: AuthStateStore,
        clock: Callable[[], float],
        log: logging.Logger,
    ) -> Crew:
        """The crew for an authenticator, whose own grants are made by the flight from now on, if they are in one."""
        refresh_user = authenticator.refresh_user
        if not Provider.serves(authenticator):
            return cls(authenticator, refresh_user, None, journal, clock, log)
        provider, get_token_info = Provider(authenticator), authenticator.get_token_info

        async def grant_or_get(handler: Any, params: Any) -> Any:
            flight = Flight.aboard()
            is_refresh = isinstance(params, Mapping) and params.get("grant_type") == "refresh_token"
            if flight is None or not is_refresh or not flight.covers(params.get("refresh_token")):
                return await get_token_info(handler, params)
            return await flight.grant()

        authenticator.get_token_info = grant_or_get
        return cls(authenticator, refresh_user, provider, journal, clock, log)

    @property
    def asks_authenticator(self) -> bool:
        """Whether it is first of all the authenticator that renews: it, or an admin's hook, has a way of its own."""
        own = type(self.authenticator).refresh_user
        stock = own is Authenticator.refresh_user or own.__module__ == "oauthenticator.oauth2"
        return not stock or getattr(self.authenticator, "refresh_user_hook", None) is not None


class Flight:
    """Renews the user's tokens if it was made to, and asks the authenticator about the user if somebody wants to know.

    It lands by itself, whoever stops waiting, and never raises; then there is

    - ``renewed``: whether a renewal went well, even if it changed nothing, and ``changed``: whether it did,
    - ``failure``: why it did not; ``tried``: whether there was one at all,
    - ``verdict`` or ``error``: what the authenticator's ``refresh_user`` returned or raised,
    - ``mark``: of which auth_state (:func:`.journal.mark`).

    ``held`` is a failure that stands: there is no use in asking again now.
    """

    def __init__(self, crew: Crew, user: Any, *, renews: bool, held: Failure | None = None) -> None:
        self._crew = crew
        self._user = user
        self._name = user.name  # a database that is down cannot be asked for it
        self._renews = renews
        self.held = held
        self._spent: str | None = None
        self._grant: asyncio.Task[None] | None = None
        self._wanted: tuple[Any, Mapping[str, Any]] | None = None
        self._checked = False
        self._seen: AuthState | None = None
        self._found: int | None = None  # the first one seen, as a hash
        self.mark = 0
        self.wants_check = False
        self.renewed = self.changed = False
        self.failure: Failure | None = None
        self.verdict: Any = True
        self.error: Exception | None = None
        self.departed_at = asyncio.get_running_loop().time()
        self.task = asyncio.create_task(self._fly())

    def __repr__(self) -> str:
        return f"<Flight of {self._name}>"

    @property
    def tried(self) -> bool:
        return self._renews or self._grant is not None

    @staticmethod
    def aboard() -> Flight | None:
        """The flight in which the calling code runs."""
        flight = _flight.get()
        return None if flight is None or flight.task.done() else flight

    def want_check(self, handler: Any, arguments: Mapping[str, Any]) -> None:
        """Have the authenticator asked about the user, too. Possible until the flight has landed."""
        self.wants_check = True
        self._wanted = self._wanted or (handler, arguments)

    async def wait(self, deadline: float) -> bool:
        """Whether it has landed by a time of the event loop's clock."""
        seconds = deadline - asyncio.get_running_loop().time()
        await asyncio.wait({self.task}, timeout=max(0.0, seconds))
        return self.task.done()

    def covers(self, refresh_token: Any) -> bool:
        """Whether a grant with this refresh token is this flight's."""
        return refresh_token is not None and refresh_token in (
            self._spent,
            (self._seen or {}).get("refresh_token"),
        )

    async def grant(self) -> dict[str, Any]:
        """Renew by the refresh token: one request per flight. Returns the stored answer, raises :exc:`GrantFailed`."""
        if self._grant is None:
            self._grant = asyncio.create_task(self._request_grant())
        await asyncio.wait({self._grant})  # it goes on, whoever is cancelled meanwhile
        if self.failure is not None:
            raise GrantFailed(self.failure)
        return copy.deepcopy((self._seen or {})["token_response"])

    # -- inside ----------------------------------------------------------------------------------

    async def _fly(self) -> None:
        _flight.set(self)
        try:
            if self._renews:
                await self._renew()
            if self.wants_check and not self._checked:
                await self._check()
        except Exception as error:
            self.failure = self.failure or Failure(Kind.MISCONFIGURED, describe_error(error))
        if self._grant is not None:
            await asyncio.wait({self._grant})
        self.changed = self.renewed and _hash_tokens(self._seen) != self._found
        self._seen = self._spent = self._wanted = (
            None  # a timer that was cancelled keeps its context for a while
        )

    def _read(self) -> AuthState:
        self._seen = self._crew.journal.read(self._user.orm_user)
        self._found = _hash_tokens(self._seen) if self._found is None else self._found
        if self.failure is None:
            self.mark = mark(self._seen)
        return self._seen or {}

    async def _renew(self) -> None:
        before = self._read()
        if self._crew.asks_authenticator:
            await self._check()
            self.renewed = self.failure is None
            if not self.renewed or _tokens(self._read()) != _tokens(before):
                return
        if self._crew.provider is not None and before.get("refresh_token"):
            try:
                await self.grant()
            except GrantFailed:
                return
            await self._derive()

    async def _request_grant(self) -> None:
        self.renewed = False
        try:
            await self._grant_once()
        except GrantFailed as failed:
            self.failure = failed.failure
        except Exception as error:
            self.failure = Failure(Kind.MISCONFIGURED, describe_error(error))
        else:
            self.renewed = True

    async def _grant_once(self) -> None:
        crew, user = self._crew, self._user.orm_user
        refresh_token = self._read().get("refresh_token")
        if self.held is not None:
            raise GrantFailed(self.held)
        if crew.provider is None or not refresh_token:
            raise GrantFailed(Failure(Kind.REJECTED, "there is no refresh token"))
        self._spent = refresh_token
        asked_at = crew.clock()
        answer = await crew.provider.grant(refresh_token)
        self._seen = await self._store(
            lambda: crew.journal.record(user, refresh_token, answer, asked_at)
        )
        if not (self._seen or {}).get("token_response"):
            raise GrantFailed(Failure(Kind.TRANSIENT, "the auth_state has gone meanwhile"))

    async def _store(self, write: Callable[[], T]) -> T | None:
        """Write, at once; if the database cannot, until it can. ``None`` if the user has gone."""
        seconds = _FIRST_RETRY
        while True:
            try:
                return write()
            except SQLAlchemyError as error:
                if inspect(self._user.orm_user).session is None:
                    return None
                self._crew.log.error(
                    "Could not store the new tokens of %s: %s", self._name, describe_error(error)
                )
                await asyncio.sleep(seconds)
                seconds = min(2 * seconds, _LAST_RETRY)

    async def _derive(self) -> None:
        """Let the authenticator and its hooks make of the new tokens what they store beside them."""
        crew, stored = self._crew, self._seen or {}
        try:
            derived = await asyncio.wait_for(self._build(stored), _LONGEST)
        except Exception as error:
            crew.log.error(
                "Could not derive all of the auth_state of %s: %s",
                self._name,
                describe_error(error),
            )
        else:
            await self._store(lambda: crew.journal.replace(self._user.orm_user, stored, derived))

    async def _build(self, stored: AuthState) -> AuthState:
        authenticator = self._crew.authenticator
        user_info = stored.get(authenticator.user_auth_state_key)
        response = copy.deepcopy(stored["token_response"])
        derived = await maybe_future(authenticator.build_auth_state_dict(response, user_info))
        if (hook := getattr(authenticator, "modify_auth_state_hook", None)) is not None:
            derived = await maybe_future(hook(authenticator, derived))
        derived = stored | {name: value for name, value in derived.items() if value is not None}
        return await self._reconcile({"name": self._name, "auth_state": derived | _tokens(stored)})

    async def _reconcile(self, model: Mapping[str, Any]) -> AuthState:
        """The auth_state of a model, as the admin's ``reconcile_auth_state_hook`` wants it stored (JupyterHub 6.1)."""
        auth_state: AuthState = model["auth_state"]
        hook = getattr(self._crew.authenticator, "reconcile_auth_state_hook", None)
        if hook is None:
            return auth_state
        reconciled = await maybe_future(
            hook(self._crew.authenticator, dict(model), copy.deepcopy(self._seen))
        )
        return (reconciled if isinstance(reconciled, dict) else {}) | _tokens(auth_state)

    async def _check(self) -> None:
        """Ask the authenticator, as the Hub would, and store what it found out."""
        self._checked = True
        if self._is_left_open:
            return  # the provider is in no state to be asked
        self._read()
        with note() as notes:
            try:
                found = self._foresee()
                if found is None:
                    handler, arguments = self._wanted or (None, {})
                    asked = self._crew.refresh_user(self._user, handler, **arguments)
                    found = await asyncio.wait_for(maybe_future(asked), _LONGEST)
            except Exception as error:
                if is_transient(error) or notes.is_garbage:
                    self._keep(error, notes)
                else:
                    self.error = error
                    self._fail(Kind.MISCONFIGURED, describe_error(error))
                return
            if not found and (is_transient(notes.error) or notes.is_garbage or self._is_left_open):
                self._keep(notes.error, notes)
                return
        if isinstance(found, dict):
            self.verdict = await self._adopt(found)
            return
        self.verdict = found
        if not found and not self.renewed:
            self.failure = self.failure or Failure(Kind.REJECTED, "the authenticator says so")

    @property
    def _is_left_open(self) -> bool:
        """Whether a renewal has failed for a reason that says nothing of the user."""
        return self.failure is not None and self.failure.kind is not Kind.REJECTED

    def _foresee(self) -> bool | None:
        """What can be said without asking, where OAuthenticator's ``refresh_user`` would fail, or not look."""
        seen, authenticator, now = self._seen, self._crew.authenticator, self._crew.clock()
        if self._crew.provider is None or self._crew.asks_authenticator or seen is None:
            return None
        response = seen.get("token_response")
        if not isinstance(response, dict):
            return "access_token" not in seen  # MediaWiki's OAuth 1: nothing to ask with
        failure = self.failure or self.held
        is_over = failure is not None and failure.kind is Kind.REJECTED
        if is_over and find_lifetime(str(seen.get("access_token")), response).left(now) <= 0:
            return False  # Azure AD's would say what it said at the login
        if getattr(authenticator, "userdata_from_id_token", False):
            if find_lifetime(str(response.get("id_token")), {}).left(now) <= 0:
                return bool(seen.get("refresh_token")) and not is_over
        return None

    def _keep(self, error: Exception | None, notes: Notes) -> None:
        """The user stays logged in: nobody could say anything else."""
        words = (
            "an answer without a meaning"
            if error is None or notes.is_garbage
            else type(error).__name__
        )
        self._crew.log.warning(
            "Could not check the login of %s, which stays: %s", self._name, words
        )
        self._fail(Kind.TRANSIENT, words)

    def _fail(self, kind: Kind, words: str) -> None:
        if self._renews and not self.renewed:
            self.failure = self.failure or Failure(kind, words)

    async def _adopt(self, model: dict[str, Any]) -> Any:
        """Store the auth_state that the authenticator returned. What is left is for the Hub, which must not save it
        later, when there may be a newer one."""
        auth_state = model.get("auth_state")
        if not isinstance(auth_state, dict):
            return model
        journal, user, seen = self._crew.journal, self._user.orm_user, self._seen
        if getattr(self._crew.authenticator, "reconcile_auth_state_hook", None) is None:
            self._seen = await self._store(lambda: journal.replace(user, seen, auth_state))
        else:  # it may fail or take its time: first what could be lost
            stored = self._seen = await self._store(
                lambda: journal.replace(user, seen, (seen or {}) | auth_state)
            )
            try:
                reconciled = await asyncio.wait_for(self._reconcile(model), _LONGEST)
            except Exception as error:
                self._crew.log.error(
                    "Could not reconcile the auth_state of %s: %s",
                    self._name,
                    describe_error(error),
                )
            else:
                await self._store(lambda: journal.replace(user, stored, reconciled))
        self.renewed |= _hash_tokens(self._seen) != self._found  # by the authenticator itself
        rest = {name: value for name, value in model.items() if name != "auth_state"}
        return (
            rest
            if any(value is not None for name, value in rest.items() if name != "name")
            else True
        )


def _hash_tokens(auth_state: AuthState | None) -> int:
    return hash(
        tuple(
            str((auth_state or {}).get(name))
            for name in ("access_token", "refresh_token", "id_token")
        )
    )


def _tokens(auth_state: AuthState) -> AuthState:
    return {name: auth_state[name] for name in TOKEN_FIELDS if name in auth_state}
