"""What the check runs in a server's kernel: it prints SHA-256 sums as JSON, no value."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def ask_provider(url: str, token: str) -> str:
    """The name of the token's user, or the status of the provider's answer."""
    try:
        headers = {"Authorization": f"Bearer {token}"}
        with urlopen(Request(f"{url}/userinfo/", headers=headers)) as answer:
            return str(json.load(answer)["username"])
    except HTTPError as error:
        return f"status {error.code}"


def ask_with_file(url: str, file: Path) -> str:
    """Ask with the file's token; again if it changes: a renewal ends the old one just before."""
    token = file.read_text()
    answer = ask_provider(url, token)
    deadline = time.monotonic() + 2
    while answer.startswith("status") and time.monotonic() < deadline:
        time.sleep(0.02)
        if file.read_text() != token:
            return ask_provider(url, file.read_text())
    return answer


def look() -> dict[str, object]:
    names = ("DEMO_TOKEN", "DEMO_TOKEN_FILE", "DEMO_URL", "SPAWNER_TOKENS_DIR")
    if missing := [name for name in names if name not in os.environ]:
        return {"missing": missing}
    directory = Path(os.environ["SPAWNER_TOKENS_DIR"])
    file = Path(os.environ["DEMO_TOKEN_FILE"])
    # null without renewal
    end = json.loads((directory / "demo.json").read_text())["expires_at"]
    return {
        "missing": [],
        "environment": {name: fingerprint(text) for name, text in os.environ.items()},
        "directory": str(directory),
        "file": str(file.relative_to(directory)),
        "files": {path.name: fingerprint(path.read_text()) for path in directory.glob("[!.]*")},
        "expired": end is not None and end <= time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "answer": ask_with_file(os.environ["DEMO_URL"], file),
    }


if __name__ == "__main__":
    print(json.dumps(look()))
