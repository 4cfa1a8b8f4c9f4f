"""Checks of versions: what is installed beside us, and is too old."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version

from .finding import Finding, Shell, Words, error
from .setup import Setup

# Package → the oldest version that is supported, beside JupyterHub's. What is not installed is not too old.
OLDEST = {"oauthenticator": (17, 3), "jupyterhub-kubespawner": (7, 0), "dockerspawner": (14, 0)}
OLDEST_PYTHON = (3, 10)


def check_versions(setup: Setup) -> Iterator[Finding]:
    """Nothing is too old."""
    why = "It is not tested with this package, and lacks what it builds on."
    if sys.version_info < OLDEST_PYTHON:
        words = Words("install Python 3.10 or later for the Hub")
        yield error("version-too-old", f"Python {sys.version.split()[0]} is too old.", why, words)
    for package, oldest in OLDEST.items():
        try:
            installed = version(package)
        except PackageNotFoundError:
            continue
        if _numbers(installed) < oldest:
            least = ".".join(map(str, oldest))
            what = f"{package} {installed} is too old: {least} is the oldest that works."
            yield error("version-too-old", what, why, Shell(f"pip install '{package}>={least}'"))


def _numbers(text: str) -> tuple[int, ...]:
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(map(int, match[0].split("."))) if match else ()
