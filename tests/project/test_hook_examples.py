"""The documentation's example of ``tokens_hook``: what it asks a vault for."""

import json
import time

import pytest
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from ..support.pages import blocks, load

[VAULT] = (block.values[0] for block in blocks("python", "howto/hook"))


class Service(RequestHandler):
    """A vault, which wants what it documents."""

    def post(self):
        assert json.loads(self.request.body) == {"role": "notebooks", "jwt": "the-token"}
        self.finish({"auth": {"client_token": "of-the-vault", "lease_duration": 900}})


@pytest.fixture
async def url():
    socket, port = bind_unused_port()
    server = HTTPServer(Application([("/v1/auth/jwt/login", Service)]))
    server.add_socket(socket)
    yield f"http://127.0.0.1:{port}"
    server.stop()
    await server.close_all_connections()


async def test_a_hook_gets_a_vaults_token_for_the_logins(url, tmp_path):
    config = load(VAULT.replace("https://vault.example.org", url), tmp_path).TokenSpawnerMixin
    assert [*config.tokens] == ["vault"]
    tokens = {"vault": "the-token", "other": "the-other"}
    given = await config.tokens_hook(None, {}, tokens)
    value = given.pop("vault")
    assert (given, value["token"]) == ({"other": "the-other"}, "of-the-vault")
    assert 0 < value["expires_at"] - time.time() <= 900
    assert await config.tokens_hook(None, {}, {"other": "the-other"}) == {"other": "the-other"}
