"""The subcommands ``get`` and ``status``, for people and tools in a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from .sources import NoToken, get_status, get_token


def run_get(name: str) -> int:
    """Print the live token of this name. Returns the exit status: 1 if there is none."""
    try:
        print(get_token(name))
    except NoToken as error:
        print(f"spawner-tokens get: {error}", file=sys.stderr)
        return 1
    return 0


def run_status(*, as_json: bool) -> int:
    """Print what is known of each token of this server, without its value."""
    found = get_status()
    if as_json:
        print(json.dumps(found, indent=2))
    elif found:
        print_table(found, datetime.now(timezone.utc))
    else:
        print("This server has no tokens.")
    return 0


def print_table(found: list[dict[str, Any]], now: datetime) -> None:
    rows: list[tuple[str, ...]] = [("TOKEN", "ENDS IN", "RENEWED", "STATUS", "WHERE")]
    rows += [tuple(_list_cells(token, now)) for token in found]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print(
            "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).strip()
        )


def _list_cells(token: Mapping[str, Any], now: datetime) -> Iterator[str]:
    yield token["name"]
    left = _span(token["expires_at"], now)
    yield "–" if left is None else _words(left) if left > 0 else "has ended"
    age = _span(token["renewed_at"], now)
    yield "–" if age is None else f"{_words(-age)} ago"
    yield token["status"] or "not known"
    yield token["where"] or "–"


def _span(iso: str | None, now: datetime) -> float | None:
    """Seconds from now to this time, in ISO 8601."""
    try:
        at = datetime.strptime(iso or "", "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    return (at - now).total_seconds()


def _words(seconds: float) -> str:
    sizes = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))
    size, unit = next((each for each in sizes if seconds >= 2 * each[0]), sizes[-1])
    return f"{seconds / size:.0f} {unit}"
