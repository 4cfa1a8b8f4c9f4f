"""Requests with a live token, by ``requests`` or by ``httpx``."""

from __future__ import annotations

from typing import TypeVar

from .sources import get_token

_Request = TypeVar("_Request")


class TokenAuth:
    """``requests.get(url, auth=TokenAuth("gitlab"))``, and the same with ``httpx``.

    Each request has the token of its moment, in ``header``, after the word ``scheme``. Neither
    library has to be installed for this. Raises :exc:`~.sources.NoToken` at the request.
    """

    def __init__(self, name: str, *, header: str = "Authorization", scheme: str = "Bearer") -> None:
        self.name, self.header, self.scheme = name, header, scheme

    def __call__(self, request: _Request) -> _Request:
        text = f"{self.scheme} {get_token(self.name)}".strip()
        request.headers[self.header] = text  # type: ignore[attr-defined]
        return request
