"""What there is once for a Hub, and its name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from jupyterhub import orm
from sqlalchemy import Text, column, select

from .sweep import Sweeps

_HUB = "spawner_tokens.hub"


@dataclass(eq=False)
class TokenHub:
    """What there is once for a Hub.

    ``renewal`` keeps its users' tokens fresh. ``sweeps`` remove what servers left behind. ``known``
    has what a backend has found out about its platform, by a key of its own.
    """

    renewal: Any = None
    sweeps: Sweeps = field(default_factory=Sweeps)
    known: dict[Any, Any] = field(default_factory=dict)

    @classmethod
    def from_session(cls, session: Any) -> TokenHub:
        """The one of the Hub with this SQLAlchemy session."""
        hub: TokenHub = session.info.setdefault(_HUB, cls())
        return hub


def find_hub_name(session: Any) -> str:
    """Twelve hexadecimal digits, from the URL of the Hub's database: SQLAlchemy's ``session``."""
    url = session.get_bind().url
    identity = url.render_as_string()  # without its password
    if url.get_backend_name() == "sqlite":
        in_memory = url.database in (None, "", ":memory:")
        identity = f"in memory of {os.getpid()}" if in_memory else os.path.abspath(url.database)
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def find_states(session: Any, key: str) -> Iterator[dict[str, Any]]:
    """The states of Spawners that have this key. 10,000 of the ORM's objects take half a second."""
    state = column("state", Text)
    found = select(state).select_from(orm.Spawner).where(state.contains(key))
    return map(json.loads, session.scalars(found))
