"""The documentation's examples of ``tokens_hook``: what they ask a vault or a provider for."""

import json
import time
from types import SimpleNamespace

import pytest
from pytest import param
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from ..support.pages import blocks, load

VAULT, EXCHANGE = (block.values[0] for block in blocks("python", "howto/hook"))
EXCHANGED = {
    "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
    "subject_token_type": "urn:ietf:params:oauth:token-type:access_token",
    "subject_token": "the-token",
    "audience": "storage",
    "client_id": "id",
    "client_secret": "secret",
}


class Service(RequestHandler):
    """A vault at one path, a token endpoint at another: each wants what it documents."""

    def post(self, path):
        if path == "/v1/auth/jwt/login":
            assert json.loads(self.request.body) == {"role": "notebooks", "jwt": "the-token"}
            self.finish({"auth": {"client_token": "of-the-vault", "lease_duration": 900}})
        else:
            assert path == "/token"
            names = self.request.body_arguments
            assert {name: self.get_body_argument(name) for name in names} == EXCHANGED
            self.finish({"access_token": "exchanged", "expires_in": 900})


@pytest.fixture
async def url():
    socket, port = bind_unused_port()
    server = HTTPServer(Application([("(.*)", Service)]))
    server.add_socket(socket)
    yield f"http://127.0.0.1:{port}"
    server.stop()
    await server.close_all_connections()


@pytest.mark.parametrize(
    "code, name, got",
    [
        param(VAULT, "vault", "of-the-vault", id="vault"),
        param(EXCHANGE, "storage", "exchanged", id="exchange"),
    ],
)
async def test_a_hook_gets_another_token_for_the_logins(url, tmp_path, code, name, got):
    config = load(code.replace("https://vault.example.org", url), tmp_path).TokenSpawnerMixin
    assert [*config.tokens] == [name]
    login = SimpleNamespace(token_url=f"{url}/token", client_id="id", client_secret="secret")
    spawner = SimpleNamespace(authenticator=login)
    tokens = {name: "the-token", "other": "the-other"}
    given = await config.tokens_hook(spawner, {}, tokens)
    value = given.pop(name)
    assert (given, value["token"]) == ({"other": "the-other"}, got)
    assert 0 < value["expires_at"] - time.time() <= 900
    assert await config.tokens_hook(spawner, {}, {"other": "the-other"}) == {"other": "the-other"}
