"""The demo, as its user starts it, with a real provider, proxy, Hub and servers."""

import base64
import hashlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.parse import parse_qs, urlencode, urlsplit

import psutil
import pytest
import requests

from spawner_tokens.__main__ import main
from spawner_tokens.demo import run_provider
from spawner_tokens.demo.browser import Browser, Fields
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


CALLBACK = "http://127.0.0.1:1/callback"


class Client:
    """An OAuth client of the provider, as the Hub is one."""

    def __init__(self, provider):
        self.provider = provider

    def log_in(self, username, *, pkce=True):
        """The answer to this user's authorization code; without PKCE, the provider's error."""
        verifier = secrets.token_urlsafe(32)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
            .rstrip(b"=")
            .decode()
        )
        query = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": CALLBACK,
            "scope": "profile read",
            **({"code_challenge": challenge, "code_challenge_method": "S256"} if pkce else {}),
        }
        browser = Browser(self.provider.url, username)
        form = browser.get(f"/o/authorize/?{urlencode(query)}")
        values = Fields(form.text).values | {
            "username": username,
            "password": self.provider.passwords[username],
        }
        answer = browser.session.post(form.url, values, allow_redirects=False)
        answer = browser.session.get(
            self.provider.url + answer.headers["Location"], allow_redirects=False
        )
        if answer.ok and "Location" not in answer.headers:
            answer = browser.session.post(
                answer.url, Fields(answer.text).values, allow_redirects=False
            )
        answered = {
            name: value
            for name, [value] in parse_qs(urlsplit(answer.headers["Location"]).query).items()
        }
        if "error" in answered:
            return answered
        return self.post(
            "/o/token/",
            grant_type="authorization_code",
            code=answered["code"],
            redirect_uri=CALLBACK,
            code_verifier=verifier,
        ).json()

    def post(self, path, **fields):
        client = (self.provider.client_id, self.provider.client_secret)
        return requests.post(self.provider.url + path, fields, auth=client)

    def refresh(self, tokens):
        return self.post(
            "/o/token/", grant_type="refresh_token", refresh_token=tokens["refresh_token"]
        )

    def is_live(self, tokens):
        return self.post("/o/introspect/", token=tokens["access_token"]).json()["active"]

    def userinfo(self, tokens):
        return requests.get(
            f"{self.provider.url}/userinfo/",
            headers={"Authorization": f"Bearer {tokens['access_token']}"},
        )


@pytest.fixture
def start_provider(tmp_path):
    return lambda *options: run_provider(tmp_path, CALLBACK, *options)


def test_the_provider_keeps_bobs_address_private(start_provider):
    with start_provider() as provider:
        client = Client(provider)
        assert client.userinfo(client.log_in("alice")).json()["email"] == "alice@example.org"
        assert client.userinfo(client.log_in("bob")).json() == {
            "username": "bob",
            "name": "Bob Roberts",
            "email": None,
        }


def test_the_provider_demands_pkce(start_provider):
    with start_provider() as provider:
        assert Client(provider).log_in("alice", pkce=False)["error"] == "invalid_request"


def test_the_providers_tokens_die_when_they_say(start_provider):
    with start_provider("--token-lifetime", "2") as provider:
        client = Client(provider)
        tokens = client.log_in("alice")
        assert tokens["expires_in"] == 2
        assert client.is_live(tokens)
        wait_until(lambda: not client.is_live(tokens), "the token is dead", 10)
        assert client.userinfo(tokens).status_code == 403
        assert client.userinfo(client.refresh(tokens).json()).status_code == 200


@pytest.mark.parametrize(
    ("options", "family_lives"),
    [
        pytest.param([], True, id="plain rotation"),
        pytest.param(["--reuse-protection"], False, id="reuse protection"),
    ],
)
def test_a_spent_refresh_token_is_refused(start_provider, options, family_lives):
    with start_provider(*options) as provider:
        client = Client(provider)
        first = client.log_in("alice")
        second = client.refresh(first).json()
        assert client.refresh(first).json()["error"] == "invalid_grant"
        assert client.refresh(second).ok is family_lives


@pytest.mark.parametrize(
    "options", [[], ["--single-threaded"]], ids=["threaded", "single-threaded"]
)
def test_concurrent_refreshes_make_one_pair_of_tokens_and_no_error(start_provider, options):
    with start_provider(*options) as provider, ThreadPoolExecutor(20) as pool:
        client = Client(provider)
        tokens = client.log_in("alice")
        answers = list(pool.map(client.refresh, [tokens] * 20))
        assert {answer.status_code for answer in answers} <= {200, 400}
        [pair] = {
            (answer.json()["access_token"], answer.json()["refresh_token"])
            for answer in answers
            if answer.ok
        }
        assert pair[1] != tokens["refresh_token"]


def test_a_provider_started_again_is_the_same_provider(start_provider):
    with start_provider() as before:
        tokens = Client(before).log_in("alice")
    with start_provider() as after:
        assert after.url == before.url
        assert Client(after).is_live(tokens)
        assert Client(after).refresh(tokens).ok


def test_the_provider_shows_its_secrets_to_nobody(start_provider, tmp_path):
    with start_provider() as provider:
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("provider.[js]*")} == {0o600}
        arguments = " ".join(provider.child.process.args)
        for secret in (provider.client_secret, *provider.passwords.values()):
            assert secret not in repr(provider)
            assert secret not in arguments
