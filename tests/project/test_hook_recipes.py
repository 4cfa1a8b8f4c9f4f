"""The recipes for ``tokens_hook``, with real servers: moto, and a stand-in for LiteLLM."""

import json
import os
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from spawner_tokens.tokens.lifetime import find_life_until

from ..support.pages import blocks, load
from ..tokens.test_selection import jwt

STS, LLM = (block.values[0] for block in blocks("python", "howto/hook-recipes"))
[PROFILE] = (block.values[0] for block in blocks("shell", "howto/hook-recipes"))
PROGRAM = """
import boto3
session = boto3.Session()
for _ in 1, 2:
    sts, key = session.client("sts"), session.get_credentials().get_frozen_credentials().access_key
    print(key, sts.get_caller_identity()["Arn"], flush=True)
    input()
"""


async def test_boto3_has_the_keys_that_the_hub_took_and_then_newer_ones(sts, tmp_path, monkeypatch):
    url = f"http://127.0.0.1:{sts}"
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", url)
    config = load(STS, tmp_path).TokenSpawnerMixin
    spawner, file, keys = SimpleNamespace(user=SimpleNamespace(name="alice b.")), tmp_path / "t", []

    async def deliver(**more):
        given = await config.tokens_hook(spawner, {}, {"sts": jwt(), "other": "the-other"})
        assert [*given] == [*config.tokens, "other"] and given["other"] == "the-other"
        value = given["sts"]
        ends = datetime.fromisoformat(value["expires_at"]).timestamp()
        assert 3500 < ends - time.time() <= 3600
        keys.append(json.loads(value["token"]))
        file.write_text(json.dumps(keys[-1] | more))

    subprocess.run(["bash", "-euc", PROFILE], cwd=tmp_path, check=True)
    env = {"PATH": os.environ["PATH"], "STS_TOKEN_FILE": str(file), "AWS_ENDPOINT_URL_STS": url}
    env |= {"HOME": "/nonexistent", "AWS_DEFAULT_REGION": "eu-central-1"}
    [path] = config.tokens["sts"]["settings"].values()
    env["AWS_CONFIG_FILE"] = f"{tmp_path}/{Path(path).name}"
    await deliver(Expiration=(datetime.now(timezone.utc) + timedelta(minutes=5)).isoformat())
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        found = [process.stdout.readline().strip()]
        await deliver()
        found += process.communicate("\n\n", timeout=60)[0].splitlines()
    arn = "arn:aws:sts::123456789012:assumed-role/notebooks/alice-b."
    assert found == [f"{each['AccessKeyId']} {arn}" for each in keys]
    assert keys[0]["AccessKeyId"] != keys[1]["AccessKeyId"]


class Gateway(RequestHandler):
    """Follows LiteLLM's documentation: it makes keys for who has the master key."""

    def post(self):
        assert self.request.headers["Authorization"] == "Bearer sk-master"
        assert self.request.headers["Content-Type"] == "application/json"
        wanted = json.loads(self.request.body)
        assert wanted == {"user_id": "alice", "models": ["small-model"], "duration": "1h"}
        ends = datetime.now(timezone.utc) + timedelta(hours=1)
        expires = ends.isoformat(timespec="milliseconds")
        self.finish({"key": "sk-of-alice", "key_name": "sk-...lice", "expires": expires, **wanted})


@pytest.fixture
async def gateway():
    socket, port = bind_unused_port()
    paths = [("/key/generate", Gateway), ("/token", Realm), ("/api/v1/auth/session", Nebi)]
    server = HTTPServer(Application(paths))
    server.add_socket(socket)
    yield f"http://127.0.0.1:{port}"
    server.stop()
    await server.close_all_connections()


async def test_the_gateway_makes_a_key_of_the_users_own(gateway, tmp_path, monkeypatch):
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-master")
    code = LLM.replace("https://llm.example.org", gateway)
    config = load(code, tmp_path).TokenSpawnerMixin
    assert config.tokens["llm"]["settings"] == {"OPENAI_BASE_URL": gateway}
    spawner = SimpleNamespace(user=SimpleNamespace(name="alice"))
    given = await config.tokens_hook(spawner, {}, {"llm": "the-token", "other": "the-other"})
    value = given.pop("llm")
    assert (given, value["token"]) == ({"other": "the-other"}, "sk-of-alice")
    left = find_life_until(value["expires_at"], time.time()).total
    assert 3500 < left <= 3600


class Realm(RequestHandler):
    """A token endpoint as in Keycloak's documentation of legacy token exchange."""

    def post(self):
        wanted = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
            "subject_token": "the-token",
            "requested_issuer": "google",
            "client_id": "id",
            "client_secret": "secret",
        }
        names = self.request.body_arguments
        assert {name: self.get_body_argument(name) for name in names} == wanted
        self.finish({"access_token": "googles", "expires_in": 900})


class Nebi(RequestHandler):
    """A session for who has a token of Nebi's."""

    def get(self):
        assert self.get_cookie("IdToken") == "the-token"
        self.finish({"token": SESSION})


SESSION = jwt(exp=2000000000)


@pytest.mark.parametrize(
    "name, got", [("google", "googles"), ("nebi", SESSION)], ids=["google", "nebi"]
)
async def test_what_replaces_a_snippet_asks_what_the_snippet_asked(gateway, tmp_path, name, got):
    [code] = (
        block.values[0]
        for block in blocks("python", "howto/snippet-exchange")
        if f'tokens["{name}"] = ' in block.values[0]
    )
    code = code.replace("http://nebi.example.org", gateway)
    config = load(code, tmp_path).TokenSpawnerMixin
    login = SimpleNamespace(token_url=f"{gateway}/token", client_id="id", client_secret="secret")
    spawner = SimpleNamespace(authenticator=login)
    given = await config.tokens_hook(spawner, {}, {name: "the-token", "other": "the-other"})
    value = given.pop(name)
    assert (given, [*config.tokens]) == ({"other": "the-other"}, [name])
    value = value if isinstance(value, dict) else {"token": value}
    assert value.pop("token") == got
    assert all(0 < end - time.time() <= 900 for end in value.values())
