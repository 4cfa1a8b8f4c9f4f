"""The demo's walk without a person: two users log in, and what their servers hold is compared with what was issued."""

from __future__ import annotations

import json
import re
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import HERE, NOTEBOOK, Demo, run_demo
from .browser import Browser, Kernel
from .processes import DemoError, find_processes, is_listening
from .provider import DATABASE
from .steps import Steps


def check(steps: Steps, *, token_lifetime: int, config: Path) -> None:
    """Walk. The first step that is not as it should be ends the walk and raises :exc:`~.processes.DemoError`."""
    demo: Demo | None = None
    try:
        with run_demo(token_lifetime=token_lifetime, config=config, step=steps) as demo:
            try:
                walk(demo, steps)
            except DemoError:
                print(f"The last lines of the Hub's log:\n{demo.hub.child.log_tail()}", file=sys.stderr)
                raise
    finally:
        if demo is not None:
            with steps("no process, no port and no folder is left"):
                expect_nothing_left(demo)


def walk(demo: Demo, steps: Steps) -> None:
    browsers = []
    for username, password in demo.provider.passwords.items():
        browser = Browser(demo.hub.url, username)
        with steps(f"{username}: login through the provider's forms"):
            browser.log_in(password)
        browsers.append(browser)
    with steps("both servers are up"):
        for browser in browsers:
            browser.start_server()
        for browser in browsers:
            browser.enter_server()

    seen: dict[str, dict[str, Any]] = {}
    for browser in browsers:
        username = browser.username
        with steps(f"{username}: variable and file hold the token that the provider issued"):
            with browser.kernel() as kernel:
                seen[username] = json.loads(kernel.run((HERE / "look.py").read_text()))
            expect_issued_token(demo, username, seen[username])
        with steps(f"{username}: the file is private, and demo.json says what it is"):
            expect_private_file(seen[username])
        with steps(f"{username}: the provider takes the token, from inside the server"):
            answer = seen[username]["provider"]
            expect(answer == username, f"the provider answered {answer!r}")
        with steps(f"{username}: the notebook runs and shows no token"), browser.kernel() as kernel:
            expect_discreet_notebook(demo, kernel)

    with steps("each has a token of their own, and DEMO_EMAIL only who has an address"):
        alice, bob = seen["alice"], seen["bob"]
        expect(alice["files"]["demo"] != bob["files"]["demo"], "alice and bob have the same token")
        expect("DEMO_EMAIL" in alice["environment"], "alice has an address but no DEMO_EMAIL")
        expect("DEMO_EMAIL" not in bob["environment"], "bob has no address but a DEMO_EMAIL")
    with steps("no token in a log or a process argument"):
        logs = [log.read_text(errors="replace") for log in demo.folder.glob("*.log")]
        expect(not show_tokens(demo, logs), "a log shows one")
        arguments = [argument for process in find_processes(demo.folder) for argument in process.cmdline()]
        expect(not show_tokens(demo, arguments), "a process argument shows one")
    with steps("servers stopped, and their token files are gone"):
        for browser in browsers:
            browser.stop_server()
            directory = Path(seen[browser.username]["directory"])
            expect(not directory.exists(), f"{directory} is still there")


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DemoError(otherwise)


def expect_issued_token(demo: Demo, username: str, seen: dict[str, Any]) -> None:
    expect(not seen["missing"], f"the server has no {', '.join(seen['missing'])}")
    issued = query(
        demo,
        "SELECT token_checksum FROM oauth2_provider_accesstoken WHERE expires > datetime('now')"
        " AND user_id = (SELECT id FROM auth_user WHERE username = ?) ORDER BY created DESC LIMIT 1",
        username,
    )
    expect(len(issued) == 1, f"the provider has no live token for {username}")
    expect(seen["environment"]["DEMO_TOKEN"] == issued[0], "DEMO_TOKEN is not the issued token")
    expect(seen["file"] == "demo", "DEMO_TOKEN_FILE is not the file demo in SPAWNER_TOKENS_DIR")
    expect(seen["files"]["demo"] == issued[0], "the file does not hold the issued token alone")
    refresh_tokens = query(demo, "SELECT token_checksum FROM oauth2_provider_refreshtoken")
    held = {*seen["environment"].values(), *seen["files"].values()}
    expect(len(refresh_tokens) > 0 and held.isdisjoint(refresh_tokens), "the server holds a refresh token")


def expect_private_file(seen: dict[str, Any]) -> None:
    expect(seen["modes"] == ["0700", "0600"], f"directory and file have the modes {', '.join(seen['modes'])}")
    description = seen["description"]
    expect(description["status"] == "ok", f"demo.json has the status {description['status']!r}")
    expect(description["scopes"] == ["profile", "read"], f"demo.json has the scopes {description['scopes']}")
    expect({"expires_at", "renewed_at"} < description.keys(), f"demo.json has only {', '.join(description)}")


def expect_discreet_notebook(demo: Demo, kernel: Kernel) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    output = [kernel.run("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    expect(all(output), "a cell printed nothing")
    expect(not show_tokens(demo, output), "it showed a token")


def expect_nothing_left(demo: Demo) -> None:
    expect(not find_processes(demo.folder), "processes still run")
    expect(not demo.folder.exists(), f"{demo.folder} is still there")
    for port in (*demo.hub.ports, demo.provider.port):
        expect(not is_listening(port), f"something still listens on port {port}")


def show_tokens(demo: Demo, texts: Iterable[str]) -> bool:
    """Whether an access or refresh token of this provider is somewhere in the texts: known by its SHA-256 alone."""
    tables = ("oauth2_provider_accesstoken", "oauth2_provider_refreshtoken")
    issued = {checksum for table in tables for checksum in query(demo, f"SELECT token_checksum FROM {table}")}
    words = {word for text in texts for word in re.findall(r"[A-Za-z0-9]{20,}", text)}
    return not issued.isdisjoint(sha256(word.encode()).hexdigest() for word in words)


def query(demo: Demo, statement: str, *values: str) -> list[str]:
    """One column of the provider's database; its tokens are known here by their SHA-256 checksums alone."""
    with closing(sqlite3.connect(f"file:{demo.folder / DATABASE}?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute(statement, values)]
