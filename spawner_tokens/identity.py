"""The Hub's identity: a name for it among those that share a host, an engine or a cluster."""

from __future__ import annotations

import hashlib
import os
from typing import Any


def find_hub_name(session: Any) -> str:
    """Twelve hexadecimal digits. What makes a Hub is its database, by the URL of SQLAlchemy's ``session``."""
    url = session.get_bind().url
    identity = url.render_as_string()  # without its password
    if url.get_backend_name() == "sqlite":
        in_memory = url.database in (None, "", ":memory:")
        identity = f"in memory of {os.getpid()}" if in_memory else os.path.abspath(url.database)
    return hashlib.sha256(identity.encode()).hexdigest()[:12]
