"""The writer: what one refresh stores of a user, as soon as the database can."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..redaction import describe_error
from ..tokens.lookup import copy_auth_state
from .auth_state import AuthState, carry_over
from .oauthenticator import AuthenticatorAdapter
from .store import AuthStateStore


class Writer:
    """Stores a user's tokens, and what the authenticator and its hooks make of them."""

    def __init__(
        self,
        store: AuthStateStore,
        adapter: AuthenticatorAdapter,
        user: Any,
        log: logging.Logger,
    ) -> None:
        self._store, self._adapter, self._log = store, adapter, log
        self._user = user
        self._name = user.name  # a database that is down cannot be asked for it

    async def record(
        self, refresh_token: str, answer: Mapping[str, Any], asked_at: float
    ) -> AuthState | None:
        """See :meth:`.AuthStateStore.record`."""
        user = self._user.orm_user
        return await self._store.record(user, refresh_token, answer, asked_at, self._log_unsaved)

    async def derive(self, stored: AuthState) -> AuthState:
        """Store what the authenticator and its hooks make of the new tokens.

        Returns what is stored then.
        """
        encrypted = self._user.orm_user.encrypted_auth_state
        try:
            copied = await self._store.run(encrypted, copy_auth_state, stored)
            derived = await self._adapter.derive(self._name, copied)
        except Exception as error:
            words = "Could not derive all of the auth_state of %s: %s"
            self._log.error(words, self._name, describe_error(error))
            return stored
        return await self._replace(stored, derived)

    async def adopt(self, seen: AuthState, model: Mapping[str, Any]) -> AuthState:
        """Store the auth_state of a model that the authenticator made from ``seen``."""
        auth_state = model["auth_state"]
        if not self._adapter.reconciles:
            stored = await self._store.read(self._user.orm_user)
            return await self._replace(seen, carry_over(stored, auth_state))
        # The hook may fail or be slow: first what could be lost.
        stored = await self._replace(seen, seen | auth_state)
        try:
            reconciled = await self._adapter.reconcile(model, stored)
        except Exception as error:
            words = "Could not reconcile the auth_state of %s: %s"
            self._log.error(words, self._name, describe_error(error))
        else:
            await self._replace(stored, reconciled)
        return stored

    async def _replace(self, seen: AuthState, auth_state: AuthState) -> AuthState:
        user = self._user.orm_user
        return await self._store.replace(user, seen, auth_state, self._log_unsaved) or {}

    def _log_unsaved(self, error: Exception) -> None:
        words = "Could not store the new tokens of %s: %s"
        self._log.error(words, self._name, describe_error(error))
