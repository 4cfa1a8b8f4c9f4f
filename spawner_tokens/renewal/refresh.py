"""A refresh: all that is asked of the provider for one user, once for all callers at that time."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Callable, Mapping, Set
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

from ..redaction import describe_error
from ..tokens.lifetime import TokenId
from .auth_state import AuthState
from .authenticators import Authenticators
from .grant import Failure, FailureKind, GrantFailed, record_responses
from .oauthenticator import AuthenticatorAdapter
from .outcome import Outcome, Step, find_doubt, make_outcome
from .store import AuthStateStore
from .writer import Writer

# Seconds to the next grant after one whose answer could not be stored.
_LOST = 600.0


@dataclass(frozen=True)
class Tools:
    """What every refresh of a Hub needs. ``clock`` gives seconds since the epoch."""

    authenticators: Authenticators
    store: AuthStateStore
    clock: Callable[[], float]
    log: logging.Logger


class Refresh:
    """Renews a user's tokens if any are ``due``, and asks the authenticator when a caller wants it.

    ``adapter`` is of the authenticator by which the user logged in.

    Its ``task`` returns an :class:`Outcome`. It never raises, and no caller's cancellation ends it.
    ``standing_failure``: the provider has just failed, or has ended the login; make no grant.
    If the authenticator says that the user has to log in again, a grant is made to ask the provider
    too, unless not ``may_confirm``, or ``is_denied``: both were asked already.
    """

    def __init__(
        self,
        tools: Tools,
        adapter: AuthenticatorAdapter,
        user: Any,
        *,
        due: Set[TokenId],
        standing_failure: Failure | None = None,
        may_confirm: bool = True,
        is_denied: bool = False,
    ) -> None:
        self._adapter, self._store = adapter, tools.store
        self._clock, self._log = tools.clock, tools.log
        self._user = user
        self._name = user.name  # a database that is down cannot be asked for it
        self.due, self._renew = due, bool(due)
        self._standing_failure = standing_failure
        self._may_confirm, self._is_denied = may_confirm, is_denied
        self._writer = Writer(tools.store, adapter, user, tools.log)
        self._request: tuple[Any, Mapping[str, Any]] | None = None
        self._granting: asyncio.Task[Step] | None = None
        self._refresh_tokens: tuple[str, ...] = ()
        self._is_stored = False  # whether there is an auth_state
        self._checked: Step | None = None
        self._derived: AuthState = {}
        self._has_asked = asyncio.Event()
        self.started_at = asyncio.get_running_loop().time()
        self.task = asyncio.create_task(self._run())

    def __repr__(self) -> str:
        return f"<Refresh of {self._name}>"

    @staticmethod
    def current() -> Refresh | None:
        """The refresh in which the calling code runs."""
        refresh = None if (reference := _current.get()) is None else reference()
        return refresh if refresh is not None and not refresh.task.done() else None

    def request_check(self, handler: Any, arguments: Mapping[str, Any]) -> None:
        """Have the authenticator's ``refresh_user`` called, with the first caller's arguments."""
        self._request = self._request or (handler, arguments)

    async def wait(self, deadline: float) -> Outcome | None:
        """The outcome; ``None`` if there is none by a time of the event loop's clock."""
        seconds = deadline - asyncio.get_running_loop().time()
        await asyncio.wait({self.task}, timeout=max(0.0, seconds))
        return self.task.result() if self.task.done() and not self.task.cancelled() else None

    async def wait_for_answer(self) -> None:
        """Wait while a renewal asks the provider; not while hooks or the database do their part."""
        asked = asyncio.ensure_future(self._has_asked.wait())
        await asyncio.wait({self.task, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()

    def owns(self, refresh_token: Any) -> bool:
        """Whether a grant with this refresh token is this refresh's."""
        return refresh_token in self._refresh_tokens

    async def grant(self) -> dict[str, Any]:
        """Renew by the refresh token: one request per refresh. Returns a copy of the stored answer.

        Raises :exc:`GrantFailed`.
        """
        step = await self._grant()
        if step.failure is not None:
            raise GrantFailed(step.failure)
        return copy.deepcopy((await self._read())["token_response"])

    # -- inside ----------------------------------------------------------------------------------

    async def _run(self) -> Outcome:
        _current.set(ref(self))
        before: AuthState = {}
        try:
            before = await self._read()
            await self._renew_and_check(before)
        except Exception as error:
            failure = Failure(FailureKind.MISCONFIGURED, describe_error(error))
            self._checked = replace(self._checked or Step(before, before), failure=failure)
        granted = await self._grant() if self._granting is not None else None
        if granted is not None and self._derived:
            granted = replace(granted, stored=self._derived)
        outcome = make_outcome(
            before,
            granted,
            self._checked,
            renew=self._renew,
            renews_itself=self._adapter.renews_itself,
            requested=self._request is not None,
        )
        # This object is kept until the user's next refresh, without the tokens.
        self._request = self._granting = self._checked = None
        self._refresh_tokens, self._derived = (), {}
        return outcome

    async def _renew_and_check(self, before: AuthState) -> None:
        failure = None
        if self._renew and self._adapter.renews_itself:
            self._checked = await self._check(before)
            if self._checked.failure is not None:
                return
            self._checked = replace(self._checked, stored=await self._read())
            if self._checked.changed:
                return
        if self._renew and self._granting is None and self._adapter.can_grant(before):
            granted = await self._grant()
            failure = granted.failure
            if failure is None:
                self._derived = await self._writer.derive(granted.stored)
        if self._request and self._checked is None and (failure is None or failure.is_final):
            self._checked = await self._check(await self._read())

    async def _read(self) -> AuthState:
        auth_state = await self._store.read(self._user.orm_user)
        self._is_stored = auth_state is not None
        return self._note_refresh_token(auth_state or {})

    def _note_refresh_token(self, auth_state: AuthState) -> AuthState:
        if refresh_token := auth_state.get("refresh_token"):
            self._refresh_tokens = (*self._refresh_tokens, refresh_token)
        return auth_state

    # -- the grant -------------------------------------------------------------------------------

    async def _grant(self) -> Step:
        if self._granting is None:
            self._granting = asyncio.create_task(self._request_grant())
        task = self._granting
        await asyncio.wait({task})  # it goes on if this caller is cancelled
        return task.result()

    async def _request_grant(self) -> Step:
        asked: AuthState = {}
        try:
            asked = await self._read()
            return Step(asked, await self._grant_once(asked))
        except GrantFailed as failed:
            failure = failed.failure
        except Exception as error:  # the database's: each grant would be lost like this one
            pause = _LOST if self._has_asked.is_set() else 0.0
            failure = Failure(FailureKind.MISCONFIGURED, describe_error(error), pause)
        return Step(asked, asked, failure)

    async def _grant_once(self, asked: AuthState) -> AuthState:
        refresh_token = asked.get("refresh_token")
        if self._standing_failure is not None:
            raise GrantFailed(self._standing_failure)
        if not refresh_token or not self._adapter.can_grant(asked):
            raise GrantFailed(Failure(FailureKind.REJECTED, "there is no refresh token"))
        if not self._adapter.is_issuer(asked):
            raise GrantFailed(Failure(FailureKind.REJECTED, "another token_url issued the login"))
        asked_at = self._clock()
        try:
            answer = await self._adapter.grant(refresh_token)
        finally:
            self._has_asked.set()
        stored = await self._writer.record(refresh_token, answer, asked_at)
        if stored is None or not stored.get("token_response"):
            failure = Failure(FailureKind.TRANSIENT, "the auth_state has gone meanwhile")
            raise GrantFailed(failure)
        return self._note_refresh_token(stored)

    # -- the authenticator's word ----------------------------------------------------------------

    async def _check(self, asked: AuthState) -> Step:
        """Ask the authenticator. If it says no, a grant says whether the provider does, too."""
        step = await self._ask_and_store(asked)
        if step.auth_model or self._granting is not None or not self._adapter.can_grant(asked):
            return step
        if self._is_denied:
            return step
        if not self._may_confirm:
            return self._keep(asked, "the provider was asked just now")
        granted = await self._grant()
        if granted.failure is None:
            self._derived = await self._writer.derive(granted.stored)
            return await self._ask_and_store(await self._read())
        return step if granted.failure.is_final else self._keep(asked, granted.failure.words)

    async def _ask_and_store(self, asked: AuthState) -> Step:
        """Ask the authenticator, as the Hub would, and store what it found out."""
        earlier, found, raised = self._granting, None, None
        with record_responses() as recorder:
            try:
                found = await self._ask(asked)
            except Exception as error:
                raised = error
            doubt = "" if found else find_doubt(raised, recorder, self._find_grant_failure())
        if doubt:
            return self._keep(asked, doubt)
        if raised is not None:
            failure = self._fail(FailureKind.MISCONFIGURED, describe_error(raised))
            return Step(asked, asked, failure, error=raised)
        if isinstance(found, dict) and found:
            step = self._find_step() if self._granting is not earlier else None
            return await self._adopt(asked, step.stored if step else asked, found)
        failure = None
        if not found and not self._adapter.can_grant(asked):
            words = "the authenticator says so"
            failure = Failure(FailureKind.REJECTED, words, by_provider=False)
        return Step(asked, asked, failure, auth_model=found)

    async def _ask(self, asked: AuthState) -> Any:
        failure = self._find_grant_failure() or self._standing_failure
        is_rejected = failure is not None and failure.kind is FailureKind.REJECTED
        auth_state = asked if self._is_stored else None
        predicted = self._adapter.predict_answer(auth_state, is_rejected, self._clock())
        if predicted is not None:
            return predicted
        handler, arguments = self._request or (None, {})
        return await self._adapter.refresh_user_in_time(self._user, handler, arguments)

    def _find_step(self) -> Step | None:
        """The grant of this refresh, if it is done."""
        return self._granting.result() if self._granting and self._granting.done() else None

    def _find_grant_failure(self) -> Failure | None:
        return step.failure if (step := self._find_step()) else None

    def _keep(self, asked: AuthState, words: str) -> Step:
        """The user stays logged in: there was no answer about that."""
        self._log.warning("Could not check the login of %s, which stays: %s", self._name, words)
        return Step(asked, asked, self._fail(FailureKind.TRANSIENT, words))

    def _fail(self, kind: FailureKind, words: str) -> Failure | None:
        """A failed check is a failed renewal only where a renewal was wanted."""
        return Failure(kind, words) if self._renew else None

    async def _adopt(self, asked: AuthState, seen: AuthState, model: dict[str, Any]) -> Step:
        """Store the auth_state that the authenticator made from ``seen``.

        The rest is the Hub's, which must not save the auth_state later: there may be a newer one.
        """
        if not isinstance(model.get("auth_state"), dict):
            return Step(asked, asked, auth_model=model)
        stored = await self._writer.adopt(seen, model)
        rest = {name: value for name, value in model.items() if name != "auth_state"}
        is_more = any(value is not None for name, value in rest.items() if name != "name")
        return Step(asked, stored, auth_model=rest if is_more else True)


# Weak: a timer that was cancelled keeps its context for a while, and would keep the user.
_current: ContextVar[ref[Refresh] | None] = ContextVar("refresh", default=None)
