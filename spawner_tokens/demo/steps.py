"""The demo's steps: a line for each with its time, and all of them as data."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from .processes import DemoError


@dataclass(frozen=True)
class Result:
    name: str
    ok: bool
    seconds: float
    error: str | None = None


class Steps:
    """``with steps("login"): …`` prints a line. A block that raises is a failed step."""

    def __init__(self, out: TextIO) -> None:
        self.results: list[Result] = []
        self._out = out

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        if self._out.isatty():
            print(f"...          {name}", end="\r", file=self._out, flush=True)
        start = time.monotonic()
        try:
            yield
        except DemoError as problem:
            self._add(name, start, str(problem))
            raise
        except Exception as problem:
            self._add(name, start, type(problem).__name__)  # its text may hold a secret
            raise
        self._add(name, start)

    def _add(self, name: str, start: float, error: str | None = None) -> None:
        result = Result(name, error is None, round(time.monotonic() - start, 3), error)
        self.results.append(result)
        line = f"{'ok' if result.ok else 'FAIL':<4} {result.seconds:5.1f} s  {result.name}"
        print(f"{line}: {result.error}" if result.error else line, file=self._out, flush=True)

    def as_dicts(self) -> list[dict[str, Any]]:
        return [asdict(result) for result in self.results]
