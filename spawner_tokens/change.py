"""What a server is to have now, and what that is from: by it one knows whether anything changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .tokens.kind import Kind
from .tokens.selection import Login, Token


@dataclass(frozen=True)
class Source:
    """What tokens are from. ``stored`` and ``exchanged`` are digests of the login's."""

    stored: bytes
    exchanged: bytes
    login_ended: bool
    is_shared: bool

    @classmethod
    def from_login(cls, login: Login, login_ended: bool, is_shared: bool) -> Source:
        return cls(login.digest, login.exchanged_digest, login_ended, is_shared)

    def is_from(self, login: Login, is_shared: bool) -> bool:
        """Whether it is from this login, whether or not that has ended."""
        return self == self.from_login(login, self.login_ended, is_shared)


@dataclass(frozen=True)
class Change:
    """Tokens for a server.

    ``source`` is ``None`` if they are not complete. ``kinds`` are the tokens' by name.
    """

    source: Source | None
    tokens: Sequence[Token]
    kinds: Mapping[str, Kind]
