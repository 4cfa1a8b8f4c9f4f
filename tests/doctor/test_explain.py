"""``spawner-tokens explain``: what a user's server would get, without a value and without a write."""

import asyncio
import json
import re
import secrets
import subprocess
import sys
import time
from hashlib import sha256
from io import StringIO
from pathlib import Path
from textwrap import dedent

import psutil
import pytest
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from pytest import param
from sqlalchemy import create_engine
from sqlalchemy.orm import Session

from spawner_tokens.__main__ import main
from spawner_tokens.demo import CONFIG, run_demo
from spawner_tokens.demo.browser import Browser
from spawner_tokens.demo.check import show_tokens
from spawner_tokens.doctor.explanation import explain_user
from spawner_tokens.doctor.loading import load_file
from spawner_tokens.doctor.report import write_explanation
from spawner_tokens.tokens.selection import Reason

from ..support.reference import README

SPAWNER = "spawner_tokens.TokenSimpleLocalProcessSpawner"
TOKENS = {
    "login": {
        "env": "LOGIN_TOKEN",
        "variables": {"LOGIN_USER": "oauth_user.name"},
        "required_scopes": ["read"],
    },
    "identity": {"key": "id_token", "missing": "refuse"},
    "header": {"template": "Bearer {token}", "forbidden_scopes": ["sudo"], "file_env": None},
}
KEY = "JUPYTERHUB_CRYPT_KEY"


def make_auth_state(**more):
    """What a login left: each token is one of its own."""
    access, refresh = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    answer = {
        "access_token": access,
        "refresh_token": refresh,
        "scope": "read write",
        "expires_in": 7200,
    }
    answer["created_at"] = int(time.time()) - 600
    return {
        "access_token": access,
        "refresh_token": refresh,
        "scope": ["read", "write"],
        "token_response": answer,
        "oauth_user": {"name": "Alice"},
        **more,
    }


def tokens_of(auth_state):
    return {
        auth_state["access_token"],
        auth_state["refresh_token"],
        *filter(None, [auth_state.get("id_token")]),
    }


@pytest.fixture
def explain(tmp_path, memory, capsys, caplog):
    """Output of ``spawner-tokens explain``: for people, and as JSON. Nobody's database has changed."""

    async def explain(*arguments, more=""):
        database = tmp_path / "jupyterhub.sqlite"
        config = tmp_path / "explained_config.py"
        config.write_text(
            f"c.JupyterHub.db_url = 'sqlite:///{database}'\nc.JupyterHub.authenticator_class = 'dummy'\n"
            f"c.Authenticator.enable_auth_state = True\nc.JupyterHub.spawner_class = '{SPAWNER}'\n"
            f"c.LocalTokenMixin.tokens_mount_path = '{memory}'\nc.TokenSpawnerMixin.tokens = {TOKENS!r}\n{more}\n"
        )
        before = {path.name: path.read_bytes() for path in tmp_path.glob("jupyterhub.sqlite*")}
        status = await asyncio.to_thread(main, ["explain", "-f", str(config), *arguments])
        text, error = capsys.readouterr()
        await asyncio.to_thread(main, ["explain", "-f", str(config), *arguments, "--json"])
        as_json = capsys.readouterr().out
        assert {
            path.name: path.read_bytes() for path in tmp_path.glob("jupyterhub.sqlite*")
        } == before
        return status, text + error + caplog.text, json.loads(as_json or "null"), as_json

    return explain


@pytest.fixture
def hub(start_hub, monkeypatch):
    """A Hub whose crypt key is in the environment, too. It runs while we look."""

    async def start(settings={}):
        hub = await start_hub(
            SPAWNER, {"TokenSpawnerMixin.tokens": TOKENS, "Spawner.tokens_renew": False, **settings}
        )
        (key,) = CryptKeeper.instance().keys
        monkeypatch.setenv(KEY, key.hex())
        return hub

    return start


def holds(text, tokens):
    """Whether a text has a token in it, or most of one."""
    return any(
        token[start : start + 16] in text for token in tokens for start in range(len(token) - 15)
    )


async def test_it_tells_what_the_server_got(hub, explain):
    running = await hub()
    auth_state = make_auth_state(id_token=secrets.token_urlsafe(24))
    server = await running.spawn(await running.user("alice", auth_state))
    env, files = await server.env(), await server.files()
    status, text, told, as_json = await explain("alice")
    assert status == 0 and told["user"] == "alice"
    login, identity, header = told["tokens"]
    for token, value in ((login, auth_state["access_token"]), (identity, auth_state["id_token"])):
        assert token["status"] == "ok" and token["why"] == ""
        assert (
            token["length"] == len(value)
            and token["fingerprint"] == sha256(value.encode()).hexdigest()[:12]
        )
        assert token["path"].encode() == env[f"{token['name'].upper()}_TOKEN_FILE"]
        assert files[Path(token["path"]).name] == value.encode()
    assert set(login["variables"]) == {"LOGIN_TOKEN", "LOGIN_USER", "LOGIN_TOKEN_FILE"} <= {*env}
    assert header["variables"] == [] and header["length"] == len("Bearer ") + login["length"]
    assert login["scopes"] == ["read", "write"]
    assert login["expires_at"] == auth_state["token_response"]["created_at"] + 7200
    assert "issued       " in text and "10 min ago" in text and "in 110 min" in text
    assert "The server runs" in text and "other specs" not in text
    # no token, and a look that would have seen one
    tokens = tokens_of(auth_state)
    assert not holds(text + as_json, tokens)
    assert all(holds(f"{text}{token[:-1]}", tokens) for token in tokens)


async def test_a_server_that_was_never_started_has_no_directory_yet(hub, explain):
    running = await hub()
    await running.user("alice", make_auth_state())
    _, text, told, _ = await explain("alice", "--server", "second")
    assert told["tokens"][0]["path"] == "…/login" and "was never started" in text


async def test_other_specs_than_the_running_servers_are_told(hub, explain):
    running = await hub()
    await running.spawn(await running.user("alice", make_auth_state(id_token="an-id-token")))
    _, text, _, _ = await explain(
        "alice", more="c.TokenSpawnerMixin.tokens['login']['env'] = 'OTHER'"
    )
    assert "It was started with other specs" in text


@pytest.mark.parametrize(
    "auth_state, more, name, reason, words",
    [
        param(None, "", "login", Reason.NEVER_STORED, "has not logged in", id="never-logged-in"),
        param(
            {},
            "c.Authenticator.enable_auth_state = False",
            "login",
            Reason.AUTH_STATE_OFF,
            "is off",
            id="off",
        ),
        param({}, "", "identity", Reason.ABSENT, "looked up 'id_token'", id="absent"),
        param(
            {"scope": ["write"], "token_response": {}},
            "",
            "login",
            Reason.SCOPE_MISSING,
            "required: read",
            id="scope",
        ),
        param(
            {"scope": ["read", "sudo"], "token_response": {}},
            "",
            "header",
            Reason.SCOPE_FORBIDDEN,
            "sudo",
            id="sudo",
        ),
    ],
)
async def test_each_token_that_is_missing_has_its_reason(
    hub, explain, auth_state, more, name, reason, words
):
    running = await hub()
    await running.user("alice", None if auth_state is None else make_auth_state(**auth_state))
    _, text, told, _ = await explain("alice", more=more)
    (token,) = (token for token in told["tokens"] if token["name"] == name)
    assert token["status"] == reason.value and words in " ".join(text.split())
    if token["length"] is None:
        assert (token["fingerprint"], token["path"], token["variables"]) == (None, None, [])


async def test_a_token_that_has_ended_is_told(hub, explain):
    running = await hub()
    auth_state = make_auth_state()
    auth_state["token_response"]["created_at"] -= 86400
    await running.user("alice", auth_state)
    _, text, told, _ = await explain("alice")
    assert told["tokens"][0]["status"] == "expired" and told["tokens"][0]["length"]
    assert "22 h ago" in text


async def test_several_keys_work_and_nothing_is_encrypted_anew(hub, explain, monkeypatch):
    running = await hub()
    user = await running.user("alice", make_auth_state())
    monkeypatch.setenv(KEY, f"{secrets.token_hex(32)};{CryptKeeper.instance().keys[0].hex()}")
    assert (await explain("alice"))[2]["tokens"][0]["status"] == "ok"
    monkeypatch.setenv(KEY, secrets.token_hex(32))
    assert (await explain("alice"))[2]["tokens"][0]["status"] == "undecryptable"
    monkeypatch.delenv(KEY)
    assert (await explain("alice"))[2]["tokens"][0]["status"] == "no_crypt_key"
    assert user.encrypted_auth_state


async def test_the_hook_is_not_run(hub, explain, tmp_path):
    running = await hub()
    await running.user("alice", make_auth_state())
    hook = f"c.TokenSpawnerMixin.tokens_hook = lambda *arguments: open({str(tmp_path / 'ran')!r}, 'w').close()"
    _, text, _, _ = await explain("alice", more=hook)
    assert "tokens_hook is not run here" in text and not (tmp_path / "ran").exists()


async def test_that_profiles_are_not_looked_at_is_said(hub, explain):
    running = await hub()
    await running.user("alice", make_auth_state())
    own = """
from spawner_tokens import TokenSimpleLocalProcessSpawner
class Mine(TokenSimpleLocalProcessSpawner):
    profile_list = [{"display_name": "GPU"}]
c.JupyterHub.spawner_class = Mine
"""
    assert "profile_list is not looked at" in (await explain("alice", more=own))[1]


TALKS = """
import logging, sys, warnings
def tell(state):
    print(state["access_token"])
    print(state["access_token"], file=sys.stderr)
    logging.getLogger().critical(state["access_token"])
    warnings.warn(state["access_token"])
    {end}
c.TokenSpawnerMixin.tokens = {{"x": {{"key": {key}, "variables": {{"X": tell}}}}}}
"""


@pytest.mark.parametrize("key", ["tell", '"access_token"'], ids=["key", "variable"])
@pytest.mark.parametrize(
    "end",
    [
        param('return state["access_token"][:5]', id="value"),
        param('sys.exit(state["access_token"])', id="exit"),
    ],
)
async def test_what_a_function_tells_is_not_heard(hub, explain, end, key):
    running = await hub()
    auth_state = make_auth_state()
    await running.user("alice", auth_state)
    status, text, told, as_json = await explain("alice", more=TALKS.format(end=end, key=key))
    assert status == 0 and not holds(text + as_json, tokens_of(auth_state))
    assert told["tokens"][0]["status"] == ("key_failed" if "exit" in end else "ok")


async def test_a_directory_that_cannot_be_told_is_a_note(hub, explain):
    running = await hub()
    await running.spawn(await running.user("alice", make_auth_state(id_token="an-id-token")))
    own = """
from spawner_tokens import TokenSimpleLocalProcessSpawner
class Mine(TokenSimpleLocalProcessSpawner):
    tokens_directory = property(lambda self: {}["the place"])
c.JupyterHub.spawner_class = Mine
"""
    status, text, told, _ = await explain("alice", more=own)
    assert status == 0 and told["tokens"][0]["path"] == "…/login"
    assert "cannot be told: KeyError, line" in " ".join(text.split())


ASKING = """
from jupyterhub import orm
from jupyterhub.auth import DummyAuthenticator
from spawner_tokens import TokenSimpleLocalProcessSpawner

class MyAuthenticator(DummyAuthenticator):
    def __init__(self, **given):
        super().__init__(**given)
        assert self.db is self.parent.db and self.db.query(orm.User).count()

class MySpawner(TokenSimpleLocalProcessSpawner):
    def __init__(self, **given):
        super().__init__(**given)
        groups = [group.name for group in self.user.orm_user.groups]
        self.tokens_min_lifetime = {("team", True, "/user/alice/"): 1000}.get((*groups, self.user.admin, self.user.url), 0)
        assert self.hub.api_url.endswith(f":{self.hub.port}/hub/api")
        self.user.db.commit()

c.JupyterHub.authenticator_class = MyAuthenticator
c.JupyterHub.spawner_class = MySpawner
"""


@pytest.mark.parametrize("name", ["", "second"], ids=["default-server", "named-server"])
@pytest.mark.parametrize("is_known", [True, False], ids=["known", "never-started"])
async def test_classes_that_ask_are_given_the_user_of_the_database(hub, explain, is_known, name):
    running = await hub()
    auth_state = make_auth_state(id_token="an-id-token")
    auth_state["token_response"]["expires_in"] = 1100  # of which 500 are left
    user = await running.user("alice", auth_state)
    user.orm_user.admin, user.orm_user.groups = True, [orm.Group(name="team")]
    if is_known:
        running.spawner(user, name)
    else:
        for row in user.orm_spawners.values():
            running.app.db.delete(row)
    running.app.db.commit()
    status, text, told, _ = await explain("alice", "--server", name, more=ASKING)
    assert status == 0 and told["tokens"][0]["status"] == "short_lived", text
    assert ("was never started" in text) != is_known


async def test_what_cannot_be_explained_is_said(hub, explain):
    await hub()
    for more, words in [
        ("", "no user 'bob'"),
        ("c.JupyterHub.spawner_class = 'simple'", "SimpleLocalProcessSpawner hands over no tokens"),
        ("c.TokenSpawnerMixin.tokens = {'x': {'prest': 'y'}}", "unknown field"),
        ("c.JupyterHub.db_url = 'sqlite:///nowhere.sqlite'", "there is no database"),
        ("c.JupyterHub.db_url = 'sqlite://'", "in the memory of the Hub"),
        ("c.CryptKeeper.keys = ['short-crypt-key']\n", "no user 'bob'"),
        ("1 / 0", "ZeroDivisionError"),
    ]:
        status, text, told, _ = await explain("bob", more=more)
        assert status == 1 and told is None and words in text, (more, text)
        assert "short-crypt-key" not in text


def test_the_demos_users_are_explained(tmp_path):
    with run_demo(token_lifetime=3600) as demo:
        browser = Browser(demo.hub.url, "alice")
        browser.log_in(demo.provider.passwords["alice"])
        browser.start_server()
        browser.enter_server()
        (file,) = demo.folder.glob("tokens/*/*/demo")
        token = file.read_text()

        def explain(*arguments):
            command = [sys.executable, "-m", "spawner_tokens", *arguments]
            env = psutil.Process(demo.hub.child.process.pid).environ()
            return subprocess.run(command, cwd=demo.folder, env=env, capture_output=True, text=True)

        for_people = explain("explain", "-f", str(CONFIG), "alice")
        options = f"--TokenSpawnerMixin.tokens_mount_path={demo.folder}/tokens"
        for_machines = explain("explain", "-f", str(CONFIG), "alice", "--json", "--", options)
        never = explain("explain", "-f", str(CONFIG), "bob")
        examined = explain("doctor", "-f", str(CONFIG))
        assert for_people.returncode == for_machines.returncode == 0, for_people.stderr
        (told,) = json.loads(for_machines.stdout)["tokens"]
        assert told["path"] == str(file)
        assert (
            told["status"] == "ok"
            and told["fingerprint"] == sha256(token.encode()).hexdigest()[:12]
        )
        assert told["variables"] == [
            "DEMO_USER",
            "DEMO_EMAIL",
            "DEMO_URL",
            "DEMO_TOKEN",
            "DEMO_TOKEN_FILE",
        ]
        assert "no user 'bob'" in never.stderr and never.returncode == 1
        assert examined.returncode == 0, examined.stdout
        texts = [each.stdout + each.stderr for each in (for_people, for_machines, never, examined)]
        assert not show_tokens(demo, texts)
        assert show_tokens(demo, [*texts, token])


SAMPLE = """
c.JupyterHub.db_url = "sqlite:///{database}"
c.JupyterHub.authenticator_class = "gitlab"
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-localprocess"
c.LocalTokenMixin.tokens_mount_path = "/run/spawner-tokens-0"
c.TokenSpawnerMixin.tokens = {{
    "gitlab": {{"preset": "gitlab", "env": "GITLAB_TOKEN"}},
    "aws": {{"preset": "aws", "settings": {{"AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/notebooks"}}}},
}}
"""


async def test_the_readmes_sample_is_what_is_printed(tmp_path, monkeypatch):
    noon = 1893499200  # 2030-01-01T12:00:00Z
    answer = {
        "access_token": "0" * 64,
        "created_at": noon - 7200,
        "expires_in": 7200,
        "scope": "read_user",
    }
    answer["scope"] += " read_repository"
    user_info = {"username": "alice", "name": "Alice", "email": "alice@example.org"}
    auth_state = {**answer, "token_response": answer, "gitlab_user": user_info, "id_token": None}
    key = secrets.token_bytes(32)
    monkeypatch.setenv(KEY, key.hex())
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    database = tmp_path / "hub.sqlite"
    engine = create_engine(f"sqlite:///{database}")
    orm.Base.metadata.create_all(engine)
    with Session(engine) as session:
        user = orm.User(
            name="alice", encrypted_auth_state=CryptKeeper(keys=[key])._encrypt(auth_state)
        )
        session.add(orm.Spawner(id=17, name="", user=user))
        session.commit()
    engine.dispose()
    config = tmp_path / "hub_config.py"
    config.write_text(SAMPLE.format(database=database))
    explanation = await explain_user(load_file(str(config)), "alice", now=noon - 6600)
    out = StringIO()
    write_explanation(explanation, out)
    section = README.read_text().split("$ spawner-tokens explain -f jupyterhub_config.py alice\n")[
        1
    ]
    printed = dedent(section.split("\nA name is found")[0]).strip() + "\n"
    assert re.sub(r"/[0-9a-f]{12}/17/", "/6b1e…/17/", out.getvalue()) == printed
