"""The demo's walk without a person: two users log in, and their servers' tokens are compared with
those that the provider issued, at first and while tokens expire."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from hashlib import sha256
from pathlib import Path
from typing import Any

from . import HERE, NOTEBOOK, Demo, run_demo
from .browser import Browser, Kernel
from .processes import DemoError, find_processes, is_listening
from .provider import DATABASE, USERS
from .steps import Steps


def check(steps: Steps, *, token_lifetime: int, config: Path) -> None:
    """Run the demo and walk through it. The first failed step raises ``DemoError``."""
    demo: Demo | None = None
    try:
        with run_demo(token_lifetime=token_lifetime, config=config, step=steps) as demo:
            try:
                walk(demo, steps, token_lifetime)
            except DemoError:
                log = demo.hub.child.log_tail()
                print(f"The last lines of the Hub's log:\n{log}", file=sys.stderr)
                raise
    finally:
        if demo is not None:
            with steps("no process, no port and no folder is left"):
                expect_nothing_left(demo)


def walk(demo: Demo, steps: Steps, token_lifetime: int) -> None:
    browsers, has_git = log_in(demo, steps), shutil.which("git") is not None
    seen = {browser.username: compare(demo, steps, browser, has_git) for browser in browsers}
    with steps("each has a token of their own, and DEMO_EMAIL only who has an address"):
        alice, bob = seen["alice"], seen["bob"]
        expect(alice["files"]["demo"] != bob["files"]["demo"], "alice and bob have the same token")
        expect("DEMO_EMAIL" in alice["environment"], "alice has an address but no DEMO_EMAIL")
        expect("DEMO_EMAIL" not in bob["environment"], "bob has no address but a DEMO_EMAIL")
    with steps("both files change as their tokens expire, twice, and are live at every look"):
        watch(browsers, token_lifetime)
    if has_git:
        with steps("git pushes again, from the same servers"):
            for browser in browsers:
                expect_push(demo, browser)
    with steps("no token in a log or a process argument"):
        expect_no_leak(demo)
    with steps("servers stopped, and their token files are gone"):
        for browser in browsers:
            browser.stop_server()
            directory = Path(seen[browser.username]["directory"])
            expect(not directory.exists(), f"{directory} is still there")


def log_in(demo: Demo, steps: Steps) -> list[Browser]:
    """Log all users in, and start their servers."""
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
    return browsers


def compare(demo: Demo, steps: Steps, browser: Browser, has_git: bool) -> dict[str, Any]:
    """Compare what a user's server has with what the provider issued. Returns what it has."""
    username = browser.username
    with steps(f"{username}: variable and file hold tokens that the provider issued"):
        with browser.kernel() as kernel:
            seen = look(kernel)
        expect_issued_token(demo, username, seen)
    with steps(f"{username}: the provider takes the token, from inside the server"):
        expect_live_file(username, seen)
    with steps(f"{username}: the notebook runs and shows no token"), browser.kernel() as kernel:
        expect_discreet_notebook(demo, kernel)
    if has_git:
        with steps(f"{username}: git clones a private repository and pushes"):
            expect_push(demo, browser)
    return seen


def look(kernel: Kernel) -> dict[str, Any]:
    seen: dict[str, Any] = json.loads(kernel.run((HERE / "look.py").read_text()))
    return seen


def watch(browsers: Sequence[Browser], token_lifetime: int) -> None:
    """Look at each user's file while its token expires, twice. No request goes to the Hub."""
    with ExitStack() as stack:
        kernels = [(each.username, stack.enter_context(each.kernel())) for each in browsers]

        def look_once() -> dict[str, str]:
            held = {}
            for username, kernel in kernels:
                seen = look(kernel)
                expect_live_file(username, seen)
                expect(not seen["expired"], f"the token of {username} had expired")
                held[username] = seen["files"]["demo"]
            return held

        held = look_once()
        for _ in range(2):
            end = time.monotonic() + token_lifetime
            while time.monotonic() < end:
                time.sleep(0.5)
                holds = look_once()
            for username, old in held.items():
                expect(old != holds[username], f"the file of {username} has not changed")
            held = holds


def expect(condition: bool, otherwise: str) -> None:
    if not condition:
        raise DemoError(otherwise)


def expect_issued_token(demo: Demo, username: str, seen: dict[str, Any]) -> None:
    expect(not seen["missing"], f"the server has no {', '.join(seen['missing'])}")
    issued = find_issued(demo, username)
    expect(seen["environment"]["DEMO_TOKEN"] in issued, "DEMO_TOKEN is not an issued token")
    expect(seen["file"] == "demo", "DEMO_TOKEN_FILE is not the file demo in SPAWNER_TOKENS_DIR")
    expect(seen["files"]["demo"] in issued, "the file does not hold an issued token alone")
    refresh_tokens = query(demo, "SELECT token_checksum FROM oauth2_provider_refreshtoken")
    held = {*seen["environment"].values(), *seen["files"].values()}
    expect(
        len(refresh_tokens) > 0 and held.isdisjoint(refresh_tokens),
        "the server holds a refresh token",
    )


def expect_live_file(username: str, seen: dict[str, Any]) -> None:
    answer = seen["answer"]
    expect(answer == username, f"the provider answered {answer!r} to the file of {username}")


def expect_no_leak(demo: Demo) -> None:
    logs = [log.read_text(errors="replace") for log in demo.folder.glob("*.log")]
    expect(not show_tokens(demo, logs), "a log shows one")
    processes = find_processes(demo.folder)
    arguments = [argument for process in processes for argument in process.cmdline()]
    expect(not show_tokens(demo, arguments), "a process argument shows one")


def expect_discreet_notebook(demo: Demo, kernel: Kernel) -> None:
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    output = [
        run_cell(kernel, "".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"
    ]
    expect(all(output), "a cell printed nothing")
    expect(not show_tokens(demo, output), "it showed a token")


def run_cell(kernel: Kernel, source: str) -> str:
    """What a cell prints. It may fail for a moment: a renewal ends the token that it has read."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return kernel.run(source)
        except DemoError:
            if time.monotonic() > deadline:
                raise


def expect_push(demo: Demo, browser: Browser) -> None:
    repository = demo.folder / "repositories" / browser.username / "work.git"

    def count() -> int:
        command = ["git", "-C", str(repository), "rev-list", "--all", "--count"]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    before = count()
    with browser.kernel() as kernel:
        author = kernel.run((HERE / "push.py").read_text()).strip()
    expect(count() == before + 1, "no commit has come to the repository")
    expect(
        author.split() == [USERS[browser.username][name] for name in ("first_name", "last_name")],
        f"the commit's author is {author!r}",
    )


def expect_nothing_left(demo: Demo) -> None:
    expect(not find_processes(demo.folder), "processes still run")
    expect(not demo.folder.exists(), f"{demo.folder} is still there")
    for port in (*demo.hub.ports, demo.provider.port):
        expect(not is_listening(port), f"something still listens on port {port}")


def show_tokens(demo: Demo, texts: Iterable[str]) -> bool:
    """Whether one of the provider's tokens is in the texts, by their SHA-256 sums."""
    tables = ("issued", "oauth2_provider_refreshtoken")
    issued = {
        checksum
        for table in tables
        for checksum in query(demo, f"SELECT token_checksum FROM {table}")
    }
    words = {word for text in texts for word in re.findall(r"[A-Za-z0-9]{20,}", text)}
    return not issued.isdisjoint(sha256(word.encode()).hexdigest() for word in words)


def find_issued(demo: Demo, username: str) -> list[str]:
    """The SHA-256 sums of all access tokens that were issued to a user, in order."""
    user = "(SELECT id FROM auth_user WHERE username = ?)"
    statement = f"SELECT token_checksum FROM issued WHERE user_id = {user} ORDER BY rowid"
    return query(demo, statement, username)


def query(demo: Demo, statement: str, *values: str) -> list[str]:
    """One column of the provider's database."""
    with closing(sqlite3.connect(f"file:{demo.folder / DATABASE}?mode=ro", uri=True)) as database:
        return [row[0] for row in database.execute(statement, values)]
