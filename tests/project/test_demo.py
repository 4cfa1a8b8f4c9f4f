"""The demo, as its user starts it, with a real provider, proxy, Hub and servers."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from hashlib import sha256
from types import SimpleNamespace

import psutil
import pytest

from spawner_tokens.__main__ import main
from spawner_tokens.demo.browser import Browser
from spawner_tokens.demo.check import expect_live_file, expect_no_leak
from spawner_tokens.demo.processes import DemoError, find_processes, is_listening, wait_until
from spawner_tokens.demo.provider import DATABASE

from ..support.hub import SERVER

TOKEN = "issued0by0the0demos0provider"
COMMAND = [sys.executable, "-m", "spawner_tokens", "demo"]


@contextmanager
def run_command(folder, *arguments):
    """The demo, with all temporary folders in ``folder``."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        env=os.environ | {"TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=60)


@contextmanager
def run_until_welcome(folder, *arguments):
    """The running demo, the address it names, and a password for alice."""
    with run_command(folder, *arguments) as process:
        welcome = ""
        while "Ctrl-C" not in welcome:
            line = process.stdout.readline()
            assert line, welcome
            welcome += line
        url = re.search(r"http://\S+", welcome)[0].rstrip("/")
        yield process, url, re.search(r"user alice +password (\S+)", welcome)[1]


def write_config(folder, lines):
    """The demo's configuration with more lines: the option for it."""
    path = folder / "config.py"
    path.write_text(
        f"from spawner_tokens.demo import CONFIG\nload_subconfig(str(CONFIG))\n{lines}\n"
    )
    return "--config", str(path)


def listening_ports(folder):
    """The ports on which the demo's processes listen."""
    connections = [
        each for process in find_processes(folder) for each in process.net_connections("tcp")
    ]
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def assert_nothing_left(folder):
    assert list(folder.iterdir()) == []
    assert find_processes(folder) == []


def test_the_check_fails_at_the_step_that_is_not_true_and_reports_it(tmp_path):
    folder, report = tmp_path / "temporary", tmp_path / "report.json"
    folder.mkdir()
    config = write_config(
        tmp_path,
        "hook = lambda spawner, auth_state, tokens: {'demo': tokens['demo'][::-1]}\n"
        "c.TokenSpawnerMixin.tokens_hook = hook",
    )
    with run_command(folder, "--check", "--json", str(report), *config) as process:
        output, _ = process.communicate(timeout=300)
    assert_nothing_left(folder)
    assert process.returncode == 1, output
    found = json.loads(report.read_text())
    assert not found["ok"]
    failed = [(each["name"], each["error"]) for each in found["steps"] if not each["ok"]]
    step = "alice: variable and file hold tokens that the provider issued"
    assert failed == [(step, "DEMO_TOKEN is not an issued token")]
    names = [step["name"] for step in found["steps"]]
    assert [name for name in names if f" s  {name}" in output] == names
    assert names[0] == "the OAuth provider is up"
    assert names[-1] == "no process, no port and no folder is left"


@pytest.fixture
def folder(tmp_path):
    """As the demo's: its provider has issued one token."""
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        database.execute("CREATE TABLE oauth2_provider_refreshtoken (token_checksum text)")
        database.execute("CREATE TABLE issued (token_checksum text)")
        database.execute("INSERT INTO issued VALUES (?)", [sha256(TOKEN.encode()).hexdigest()])
        database.commit()
    return tmp_path


def test_a_token_in_a_log_fails_the_check(folder):
    demo = SimpleNamespace(folder=folder)
    (folder / "hub.log").write_text(f"GET /?code={TOKEN[1:]}\n")
    expect_no_leak(demo)
    (folder / "provider.log").write_text(f"GET /?token={TOKEN}&x=\n")
    with pytest.raises(DemoError, match="^a log shows one$"):
        expect_no_leak(demo)


def test_a_token_that_was_not_renewed_fails_the_check():
    expect_live_file("alice", {"answer": "alice"})
    with pytest.raises(DemoError, match="'status 403' to the file of bob"):
        expect_live_file("bob", {"answer": "status 403"})


def test_a_signal_ends_all_of_it_with_a_server_running(tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    config = write_config(
        tmp_path, f"c.Spawner.cmd, c.Spawner.args = {[sys.executable, SERVER]}, []"
    )
    with run_until_welcome(folder, *config) as (process, url, password):
        browser = Browser(url, "alice")
        browser.log_in(password)
        browser.start_server()
        browser.enter_server()
        ports = listening_ports(folder)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert_nothing_left(folder)
    assert len(ports) >= 5
    assert not [port for port in ports if is_listening(port)]


def test_a_signal_ends_what_has_begun_to_start(tmp_path):
    with run_command(tmp_path) as process:
        wait_until(lambda: find_processes(tmp_path), "a first process has started")
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 0
    assert_nothing_left(tmp_path)


def test_when_the_hub_dies_the_demo_ends_and_takes_its_orphans_along(tmp_path):
    with run_until_welcome(tmp_path) as (process, *_):
        hub = next(
            each
            for each in psutil.Process(process.pid).children()
            if "jupyterhub" in each.cmdline()
        )
        hub.kill()
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "the hub has ended" in output
    assert_nothing_left(tmp_path)


def test_without_its_packages_the_demo_says_which_extra_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "oauth2_provider", None)
    assert main(["demo"]) == 1
    assert "pip install 'spawner_tokens[demo]'" in capsys.readouterr().err
