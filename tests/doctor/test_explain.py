"""``spawner-tokens explain``: what a user's server would get, with no value and no write."""

import asyncio
import json
import os
import re
import secrets
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper
from pytest import param

from spawner_tokens.__main__ import main
from spawner_tokens.tokens.selection import Reason

from ..support.examining import KEY
from ..support.pages import ROOT

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


def make_auth_state(lifetime=7200, **more):
    """What a login left 600 seconds ago: each token is one of its own."""
    tokens = {name: secrets.token_urlsafe(24) for name in ("access_token", "refresh_token")}
    issued = {"created_at": int(time.time()) - 600, "expires_in": lifetime, "scope": "read write"}
    state = {"scope": ["read", "write"], "token_response": {**tokens, **issued}}
    return {**tokens, **state, "oauth_user": {"name": "Alice"}, **more}


def tokens_of(auth_state):
    return {
        auth_state["access_token"],
        auth_state["refresh_token"],
        *filter(None, [auth_state.get("id_token")]),
    }


@pytest.fixture
def explain(tmp_path, memory, capsys, caplog):
    """Output of the command: for people with all that was logged, and as JSON, read and as text."""

    async def explain(*arguments, more=""):
        database, config = tmp_path / "jupyterhub.sqlite", tmp_path / "explained_config.py"
        config.write_text(
            f"c.JupyterHub.db_url = 'sqlite:///{database}'\n"
            "c.JupyterHub.authenticator_class = 'dummy'\n"
            "c.Authenticator.enable_auth_state = True\n"
            f"c.JupyterHub.spawner_class = '{SPAWNER}'\n"
            f"c.LocalTokenMixin.tokens_mount_path = '{memory}'\n"
            f"c.TokenSpawnerMixin.tokens = {TOKENS!r}\n{more}\n"
        )
        before = read_files(tmp_path)
        command = ["explain", "-f", str(config), *arguments]
        status = await asyncio.to_thread(main, command)
        text, error = capsys.readouterr()
        await asyncio.to_thread(main, [*command, "--json"])
        as_json = capsys.readouterr().out
        assert read_files(tmp_path) == before
        return status, text + error + caplog.text, json.loads(as_json or "null"), as_json

    return explain


def read_files(folder):
    return {path.name: path.read_bytes() for path in folder.glob("jupyterhub.sqlite*")}


@pytest.fixture
def hub(start_hub, monkeypatch):
    """A Hub whose crypt key is in the environment, too. It runs while we look."""

    async def start():
        settings = {"TokenSpawnerMixin.tokens": TOKENS, "Spawner.tokens_renew": False}
        hub = await start_hub(SPAWNER, settings)
        (key,) = CryptKeeper.instance().keys
        monkeypatch.setenv(KEY, key.hex())
        return hub

    return start


def holds(text, tokens):
    """Whether a text has a token in it, or most of one."""
    return any(
        token[start : start + 16] in text for token in tokens for start in range(len(token) - 15)
    )


def cut(row):
    """The cells of a row that time does not change."""
    name, _, _, status, where = re.split("  +", row)
    return name, status, where


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
    head, *rows = text.split("\n\n")[1].splitlines()
    status = f"PYTHONPATH={ROOT} {sys.executable} -m spawner_tokens status"
    own = (await server.run("sh", "-c", status)).out.splitlines()
    assert head == own[0] and [cut(row) for row in rows] == [cut(row) for row in own[1:]]
    assert "110 min" in rows[0] and "10 min ago" in rows[0]
    assert "issued       " in text and "10 min ago" in text and "in 110 min" in text
    assert "The server runs" in text
    # no token, and a look that would have seen one
    tokens = tokens_of(auth_state)
    assert not holds(text + as_json, tokens)
    assert all(holds(f"{text}{token[:-1]}", tokens) for token in tokens)
    shared = running.app.users["alice"].spawners[""].orm_spawner
    orm.ShareCode.new(running.app.db, shared, scopes=["access:servers"])
    told = (await explain("alice"))[2]["tokens"]
    assert {(token["status"], token["policy"], token["length"]) for token in told} == {
        ("shared", "warn", None)
    }


OFF = "c.Authenticator.enable_auth_state = False"
READ, SUDO = {"scope": ["write"], "token_response": {}}, {"scope": ["sudo"], "token_response": {}}


@pytest.mark.parametrize(
    "auth_state, more, name, reason, words",
    [
        param(None, "", "login", Reason.NEVER_STORED, "has not logged in", id="never-logged-in"),
        param({}, OFF, "login", Reason.AUTH_STATE_OFF, "is off", id="off"),
        param({}, "", "identity", Reason.ABSENT, "looked up 'id_token'", id="absent"),
        param(READ, "", "login", Reason.SCOPE_MISSING, "required: read", id="scope-missing"),
        param(SUDO, "", "header", Reason.SCOPE_FORBIDDEN, "sudo", id="scope-forbidden"),
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


async def test_of_an_exchange_it_tells_the_subject_token_and_no_secret(hub, explain):
    running = await hub()
    await running.user("alice", auth_state := make_auth_state())
    exchange = {"audience": "eos", "client_id": "mine", "client_secret": "s3cret"}
    tokens = {"eos": {"exchange": exchange, "required_scopes": ["eos.read"]}}
    more = f"c.TokenSpawnerMixin.tokens = {tokens!r}"
    _, text, told, as_json = await explain("alice", more=more)
    (eos,) = told["tokens"]
    digest = sha256(auth_state["access_token"].encode()).hexdigest()[:12]
    assert (eos["status"], eos["fingerprint"]) == ("ok", digest)
    assert "eos is exchanged when a server needs it" in " ".join(text.split())
    assert "s3cret" not in text + as_json


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


OWN = """
from spawner_tokens import TokenSimpleLocalProcessSpawner
class Mine(TokenSimpleLocalProcessSpawner):
    profile_list = [{"display_name": "GPU"}]
c.JupyterHub.spawner_class = Mine
c.TokenSpawnerMixin.tokens_hook = lambda *arguments: open("ran", "w").close()
c.TokenSpawnerMixin.tokens_pull = True
c.Spawner.environment = {"LOGIN_USER": "somebody"}
"""


async def test_what_is_not_looked_at_is_noted(hub, explain, tmp_path):
    running = await hub()
    await running.spawn(await running.user("alice", make_auth_state(id_token="an-id-token")))
    status, text, told, _ = await explain("alice", more=OWN)
    assert status == 0
    assert "LOGIN_USER" not in told["tokens"][0]["variables"]
    notes = " ".join(told["notes"])
    for words in (
        "Spawner.environment wins over the tokens with: LOGIN_USER.",
        "profile_list is not looked at",
        "tokens_hook is not run here",
        "may ask the Hub for these tokens",
    ):
        assert words in notes
    assert not (tmp_path / "ran").exists()


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
    assert not holds(text + as_json, tokens_of(auth_state))
    assert status == 0 if "return" in end else "a function of tokens['x'] exits" in text


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
        self.tokens_min_lifetime = 1000 if groups == ["team"] and self.user.admin else 0
        self.user.db.commit()
c.JupyterHub.authenticator_class = MyAuthenticator
c.JupyterHub.spawner_class = MySpawner
"""


@pytest.mark.parametrize("name", ["", "second"], ids=["default-server", "never-started"])
async def test_classes_that_ask_are_given_the_user_of_the_database(hub, explain, name):
    running = await hub()
    user = await running.user("alice", make_auth_state(lifetime=1100))  # of which 500 are left
    user.orm_user.admin, user.orm_user.groups = True, [orm.Group(name="team")]
    running.app.db.commit()
    status, text, told, _ = await explain("alice", "--server", name, more=ASKING)
    assert status == 0 and told["tokens"][0]["status"] == "short_lived", text


async def test_it_makes_no_directory(hub, explain, monkeypatch, tmp_path):
    """By default the Hub makes one for all servers, in memory or in this one."""
    running = await hub()
    await running.user("alice", make_auth_state())
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    monkeypatch.setattr("spawner_tokens.backends.local.is_in_memory", lambda path: False)
    more = "del c.LocalTokenMixin.tokens_mount_path"
    status, text, told, _ = await explain("alice", more=more)
    assert status == 0 and told["tokens"][0]["path"] == "…/login"
    assert "is made when it starts" in text and list(place.iterdir()) == []
    (place / f"spawner-tokens-{os.geteuid()}").mkdir(mode=0o711)
    _, _, told, _ = await explain("alice", more=more)
    assert told["tokens"][0]["path"].startswith(f"{place}/spawner-tokens-{os.geteuid()}/")


async def test_what_cannot_be_explained_is_said(hub, explain):
    await hub()
    for more, words in [
        ("", "no user 'bob'"),
        ("c.JupyterHub.spawner_class = 'simple'", "SimpleLocalProcessSpawner hands over no tokens"),
        ("c.TokenSpawnerMixin.tokens = {'x': {'prest': 'y'}}", "unknown field"),
        ("c.JupyterHub.db_url = 'sqlite:///nowhere.sqlite'", "No such file"),
        ("c.JupyterHub.db_url = 'sqlite://'", "in the memory of the Hub"),
        ("c.CryptKeeper.keys = ['short-crypt-key']", "no user 'bob'"),
        ("1 / 0", "ZeroDivisionError"),
    ]:
        status, text, told, _ = await explain("bob", more=more)
        assert status == 1 and told is None and words in text, (more, text)
        assert "short-crypt-key" not in text
