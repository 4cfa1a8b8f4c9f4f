"""The issuer: the ``token_url`` that a stored login is from. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

# The field of ``token_response`` with the token_url that its tokens are from.
ISSUER = "issued_by"


def are_same(url: Any, other: Any) -> bool:
    """Whether two URLs lead to the same place, however they are spelled."""
    return bool(_normalise(url) == _normalise(other))


def _normalise(url: Any) -> Any:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        return parts.scheme, parts.hostname, port, parts.path.rstrip("/"), parts.query
    except (AttributeError, TypeError, ValueError):
        return url


def find_issuer(auth_state: Mapping[str, Any] | None) -> str | None:
    """The ``token_url`` that a stored login is from; ``None`` if that is not recorded."""
    response = (auth_state or {}).get("token_response")
    return response.get(ISSUER) if isinstance(response, dict) else None
