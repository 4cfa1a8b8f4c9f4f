"""What a server's own programs use: its tokens, live, with nothing but the standard library."""

from __future__ import annotations

from typing import Any

from .auth import TokenAuth
from .hub import HubError
from .sources import NoToken, get_status, get_token

__all__ = ["HubError", "NoToken", "TokenAuth", "get_status", "get_token"]


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "spawner_tokens.singleuser"}]


def _load_jupyter_server_extension(serverapp: Any) -> None:
    from .keeper import keep

    keep(serverapp.log)
