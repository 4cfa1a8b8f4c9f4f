"""The demo, as its user starts it, with a real provider, proxy, Hub and servers."""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import psutil
import pytest

from spawner_tokens.__main__ import main
from spawner_tokens.demo.browser import Browser
from spawner_tokens.demo.processes import find_processes, is_listening, wait_until

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
def run_until_welcome(folder):
    """The running demo, the address it names, and a password for alice."""
    with run_command(folder) as process:
        welcome = ""
        while "Ctrl-C" not in welcome:
            line = process.stdout.readline()
            assert line, welcome
            welcome += line
        url = re.search(r"http://\S+", welcome)[0].rstrip("/")
        yield process, url, re.search(r"user alice +password (\S+)", welcome)[1]


def check(tmp_path, *arguments):
    """Exit status, output, and the steps of ``demo --check`` by name."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    report = tmp_path / "report.json"
    with run_command(folder, "--check", "--json", str(report), *arguments) as process:
        output, _ = process.communicate(timeout=300)
    assert_nothing_left(folder)
    return process.returncode, output, json.loads(report.read_text())


def listening_ports(folder):
    """The ports on which the demo's processes listen."""
    connections = [
        each for process in find_processes(folder) for each in process.net_connections("tcp")
    ]
    return {each.laddr.port for each in connections if each.status == psutil.CONN_LISTEN}


def assert_nothing_left(folder):
    assert list(folder.iterdir()) == []
    assert find_processes(folder) == []


def test_the_check_is_true_from_login_to_nothing_left(tmp_path):
    status, output, report = check(tmp_path)
    assert status == 0, output
    assert report["ok"]
    assert {step["error"] for step in report["steps"]} == {None}
    assert [step["name"] for step in report["steps"]] == re.findall(
        r"^ok +[\d.]+ s  (.*)$", output, re.MULTILINE
    )
    assert report["steps"][0]["name"] == "the OAuth provider is up"
    assert report["steps"][-1]["name"] == "no process, no port and no folder is left"


@pytest.mark.parametrize(
    ("override", "step", "error"),
    [
        pytest.param(
            "hook = lambda spawner, auth_state, tokens: {'demo': tokens['demo'][::-1]}\n"
            "c.TokenSpawnerMixin.tokens_hook = hook",
            "alice: variable and file hold tokens that the provider issued",
            "DEMO_TOKEN is not an issued token",
            id="another token delivered",
        ),
        pytest.param(
            "c.TokenSpawnerMixin.tokens_renew = False",
            "both files change as their tokens expire, twice, and are live at every look",
            "the provider answered 'status 403' to the file of alice",
            id="no renewal",
        ),
        pytest.param(
            "hook = lambda spawner, auth_state, tokens: print(tokens, flush=True) or tokens\n"
            "c.TokenSpawnerMixin.tokens_hook = hook",
            "no token in a log or a process argument",
            "a log shows one",
            id="a token in the log",
        ),
    ],
)
def test_the_check_fails_at_the_step_that_is_not_true(tmp_path, override, step, error):
    config = tmp_path / "config.py"
    config.write_text(
        f"from spawner_tokens.demo import CONFIG\nload_subconfig(str(CONFIG))\n{override}\n"
    )
    # Without renewal, the token has to live until the first steps are done.
    lifetime = "30" if "tokens_renew" in override else "10"
    status, output, report = check(tmp_path, "--config", str(config), "--token-lifetime", lifetime)
    assert status == 1, output
    assert not report["ok"]
    failed = [(each["name"], each["error"]) for each in report["steps"] if not each["ok"]]
    assert failed == [(step, error)]
    assert report["steps"][-1]["name"] == "no process, no port and no folder is left"


def test_a_signal_ends_all_of_it_with_a_server_running(tmp_path):
    with run_until_welcome(tmp_path) as (process, url, password):
        browser = Browser(url, "alice")
        browser.log_in(password)
        browser.start_server()
        browser.enter_server()
        ports = listening_ports(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    assert_nothing_left(tmp_path)
    assert len(ports) >= 5
    assert not [port for port in ports if is_listening(port)]


def test_a_signal_ends_what_has_begun_to_start(tmp_path):
    with run_command(tmp_path) as process:
        wait_until(lambda: find_processes(tmp_path), "a first process has started")
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 0
    assert_nothing_left(tmp_path)


def test_when_the_hub_dies_the_demo_ends_and_takes_its_orphans_along(tmp_path):
    with run_until_welcome(tmp_path) as (process, url, password):
        browser = Browser(url, "alice")
        browser.log_in(password)
        browser.start_server()
        browser.enter_server()
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
