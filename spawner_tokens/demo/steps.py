"""The demo's steps: a line for each with its time, and all of them as data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from .processes import DemoError


class Steps:
    """``with steps("login"): …`` prints a line. A block that raises is a failed step.

    ``results``: name, ok, seconds and error of each.
    """

    def __init__(self, out: TextIO) -> None:
        self.results: list[dict[str, Any]] = []
        self._out = out

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._out.isatty():
            print(f"...          {name}", end="\r", file=self._out, flush=True)
        start = time.monotonic()
        try:
            yield
        except Exception as problem:
            # The text of another's may hold a secret.
            words = str(problem) if isinstance(problem, DemoError) else type(problem).__name__
            self._add(name, start, words)
            raise
        self._add(name, start)

    def _add(self, name: str, start: float, error: str | None = None) -> None:
        seconds = round(time.monotonic() - start, 3)
        self.results.append({"name": name, "ok": not error, "seconds": seconds, "error": error})
        line = f"{'FAIL' if error else 'ok':<4} {seconds:5.1f} s  {name}"
        print(f"{line}: {error}" if error else line, file=self._out, flush=True)
