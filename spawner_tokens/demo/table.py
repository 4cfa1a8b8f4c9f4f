"""The notebook's table: where the server has its token, whether it is live, and for how long."""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from stat import filemode

from .look import ask_provider, ask_with_file, fingerprint

HEAD = ("", "in your server", "SHA-256", "the provider", "lives for")
DOT = '<span style="color: {}">⬤</span>'
BAR = (
    '<div style="background: #8884; width: 7em">'
    '<div style="background: #2da44e; width: {:.0f}%">&nbsp;{:.0f}&nbsp;s</div></div>'
)


class Tokens:
    """What a server of the demo has now. Jupyter shows it as a table, without a token."""

    def _repr_html_(self) -> str:
        url, file = os.environ["DEMO_URL"], Path(os.environ["DEMO_TOKEN_FILE"])
        old, of_file = os.environ["DEMO_TOKEN"], ask_with_file(url, file)
        new = file.read_text()
        mode, bar = filemode(file.stat().st_mode), make_bar(file)
        rows = [
            make_row(HEAD, "th"),
            make_token("variable DEMO_TOKEN", old, ask_provider(url, old), bar * (old == new)),
            make_token(f"file DEMO_TOKEN_FILE, {mode}", new, of_file, bar),
        ]
        for name in ("DEMO_USER", "DEMO_EMAIL"):
            if name in os.environ:
                text = escape(f"variable {name}: {os.environ[name]}")
                rows.append(make_row(("", text, "", "", "")))
        return f"<table>{''.join(rows)}</table>"


def make_token(place: str, token: str, answer: str, bar: str) -> str:
    is_live = not answer.startswith("status")
    dot = DOT.format("#2da44e" if is_live else "#cf222e")
    words = escape(f"knows {answer}" if is_live else "refuses it")
    return make_row((dot, place, f"{fingerprint(token)[:8]}…", words, bar))


def make_row(cells: tuple[str, ...], tag: str = "td") -> str:
    style = "text-align: left; white-space: nowrap"
    return f"<tr>{''.join(f'<{tag} style={style!r}>{cell}</{tag}>' for cell in cells)}</tr>"


def make_bar(file: Path) -> str:
    """What is left of a token's life, by the JSON file beside it; empty if that is not known."""
    status = json.loads(file.with_name(f"{file.name}.json").read_text())
    times = status["renewed_at"], status["expires_at"]
    if None in times:
        return ""
    start, end = (datetime.strptime(each, "%Y-%m-%dT%H:%M:%S%z") for each in times)
    left = max(0, (end - datetime.now(timezone.utc)).total_seconds())
    return BAR.format(min(100, 100 * left / max(1, (end - start).total_seconds())), left)
