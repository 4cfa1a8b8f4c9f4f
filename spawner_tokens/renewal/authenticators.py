"""A Hub's authenticator, and those that it holds: MultiAuthenticator's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jupyterhub.auth import Authenticator

from ..tokens.exchange import Exchange
from .oauthenticator import AuthenticatorAdapter


class Authenticators:
    """The adapters of a Hub's authenticators."""

    def __init__(self, authenticator: Any) -> None:
        self.hubs = AuthenticatorAdapter(authenticator)
        logs_in = self.hubs.renews_itself or self.hubs.token_url is not None
        held = () if logs_in else _find_held(authenticator)
        self._held = [AuthenticatorAdapter(each) for each in held]

    def install(self, *arguments: Any) -> None:
        """From now on, see their logins and requests: see the adapter."""
        for each in (self.hubs, *self._held):
            each.install(*arguments)

    def can_exchange(self, exchange: Exchange) -> bool:
        """Whether any has a way to make it."""
        return any(each.can_exchange(exchange) for each in (self.hubs, *self._held))

    def find(self, name: str, auth_state: Mapping[str, Any] | None) -> AuthenticatorAdapter:
        """The one by which a user of this name logged in: the Hub's, where it is not known."""
        named = [each for each in self._held if name.startswith(each.username_prefix)]
        issuers = [each for each in named if each.is_issuer(auth_state)] or named
        return issuers[0] if len(issuers) == 1 else self.hubs


def _find_held(authenticator: Any) -> Iterable[Any]:
    for value in vars(authenticator).values():
        values = value if isinstance(value, (list, tuple)) else [value]
        for each in values:
            if isinstance(each, Authenticator) and each is not authenticator:
                yield each
