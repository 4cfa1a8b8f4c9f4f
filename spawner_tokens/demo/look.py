"""What the check runs in a server's kernel: it prints fingerprints, modes and names as JSON, and never a value."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o7777:04o}"


def ask_provider(url: str, token: str) -> str:
    """The user that the token belongs to, or what is wrong."""
    try:
        with urlopen(Request(f"{url}/userinfo/", headers={"Authorization": f"Bearer {token}"})) as answer:
            return str(json.load(answer)["username"])
    except HTTPError as error:
        return f"status {error.code}"


def look() -> dict[str, object]:
    names = ("DEMO_TOKEN", "DEMO_TOKEN_FILE", "DEMO_URL", "SPAWNER_TOKENS_DIR")
    if missing := [name for name in names if name not in os.environ]:
        return {"missing": missing}
    directory = Path(os.environ["SPAWNER_TOKENS_DIR"])
    file = Path(os.environ["DEMO_TOKEN_FILE"])
    return {
        "missing": [],
        "environment": {name: fingerprint(text) for name, text in os.environ.items()},
        "directory": str(directory),
        "file": str(file.relative_to(directory)),
        "files": {path.name: fingerprint(path.read_text()) for path in directory.iterdir()},
        "modes": [mode(directory), mode(file)],
        "description": json.loads((directory / "demo.json").read_text()),
        "provider": ask_provider(os.environ["DEMO_URL"], file.read_text()),
    }


if __name__ == "__main__":
    print(json.dumps(look()))
