"""Azure's on-behalf-of, against the form that Microsoft documents, and against msal.

The form is from "Microsoft identity platform and OAuth 2.0 On-Behalf-Of flow" (10 January 2024), at
https://learn.microsoft.com/entra/identity-platform/v2-oauth2-on-behalf-of-flow, as recorded here.
"""

import asyncio
import json
import logging
import math
import time
from types import SimpleNamespace
from urllib.parse import parse_qsl

import msal
import pytest
import requests
from jupyterhub import orm
from oauthenticator.azuread import AzureAdOAuthenticator
from tornado.httpserver import HTTPServer
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from spawner_tokens.renewal.authenticators import Authenticators
from spawner_tokens.renewal.exchange import Exchanges
from spawner_tokens.tokens.selection import Login, Reason
from spawner_tokens.tokens.spec import parse_tokens

MICROSOFT = "https://login.microsoftonline.com"
CLIENT = "535fb089-9ff3-47b6-9bfb-4f1264799865"
SCOPE = "https://graph.microsoft.com/user.read"

# "First case: Access token request with a shared secret", encoded as a form is, and without
# offline_access: see below.
REQUEST = (
    "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer"
    f"&client_id={CLIENT}"
    "&client_secret=sampleCredentia1s"
    "&assertion=eyJ0eXAiOiJKV1QiLCJhbGciOiJSUzI1NiJ9.eyJhdWQiOiIyO"
    "&scope=https%3A%2F%2Fgraph.microsoft.com%2Fuser.read"
    "&requested_token_use=on_behalf_of"
)
# "Success response example", and "Error response example"; their long texts are shorter here.
SUCCESS = {
    "token_type": "Bearer",
    "scope": SCOPE,
    "expires_in": 3269,
    "ext_expires_in": 0,
    "access_token": "eyJ0eXAiOiJKV1QiLCJub25jZSI6IkFRQUJBQUFBQUFCbmZ",
    "refresh_token": "OAQABAAAAAABnfiG-mA6NTae7CdWW7QfdAALzDWjw6qSn4GUDfxWzJDZ6lk9qRw4An",
}
ERROR = {
    "error": "interaction_required",
    "error_description": "AADSTS50079: Due to a configuration change made by your administrator, …",
    "error_codes": [50079],
    "timestamp": "2017-05-01 22:43:20Z",
    "trace_id": "b72a68c3-0926-4b8e-bc35-3150069c2800",
    "correlation_id": "73d656cf-54b1-4eb2-b429-26d8165a52d7",
    "claims": '{"access_token":{"polids":{"essential":true,"values":["9ab03e19-ed42"]}}}',
}


class Handler(RequestHandler):
    """Answers for a tenant, and records the requests for tokens."""

    def initialize(self, azure):
        self.azure = azure

    def get(self):  # msal asks for this before
        urls = ("issuer", "authorization_endpoint", "token_endpoint")
        self.finish(dict.fromkeys(urls, f"{MICROSOFT}/tenant/oauth2/v2.0/token"))

    def post(self):
        self.azure.requests.append(self.request)
        self.set_status(200 if "access_token" in self.azure.answer else 400)
        self.finish(self.azure.answer)


@pytest.fixture
async def azure():
    azure = SimpleNamespace(requests=[], answer=SUCCESS)
    server = HTTPServer(Application([(r".*", Handler, {"azure": azure})]))
    socket, port = bind_unused_port(address="127.0.0.1")
    server.add_socket(socket)
    azure.url = f"http://127.0.0.1:{port}"
    yield azure
    server.stop()
    await server.close_all_connections()


async def exchange(azure):
    """What we find for the documented assertion."""
    fields = dict(parse_qsl(REQUEST))
    authenticator = AzureAdOAuthenticator(
        client_id=CLIENT,
        client_secret=fields["client_secret"],
        token_url=f"{azure.url}/tenant/oauth2/v2.0/token",
    )
    [spec] = parse_tokens(
        {"graph": {"exchange": {"type": "azure-obo", "scope": SCOPE}}}, files=True
    )
    exchanges = Exchanges(Authenticators(authenticator), time.time, logging.getLogger("test"))
    user = SimpleNamespace(orm_user=orm.User(name="alice"), name="alice")
    login = Login({"access_token": fields["assertion"]})
    arguments = (user, login, [spec], lambda *due: math.inf, 10)
    return (await exchanges.exchange(*arguments)).exchanged["graph"]


async def exchange_by_msal(azure):
    class Session(requests.Session):
        def request(self, method, url, **options):
            return super().request(method, url.replace(MICROSOFT, azure.url), **options)

    def run():
        fields = dict(parse_qsl(REQUEST))
        with Session() as session:
            client = msal.ConfidentialClientApplication(
                CLIENT,
                client_credential=fields["client_secret"],
                authority=f"{MICROSOFT}/tenant",
                instance_discovery=False,
                http_client=session,
            )
            return client.acquire_token_on_behalf_of(fields["assertion"], [SCOPE])

    return await asyncio.to_thread(run)


async def test_the_request_is_the_documented_one(azure):
    await exchange(azure)
    [request] = azure.requests
    assert (request.method, request.uri) == ("POST", "/tenant/oauth2/v2.0/token")
    media_type = request.headers["Content-Type"].split(";")[0]
    assert media_type == "application/x-www-form-urlencoded"
    assert "Authorization" not in request.headers
    assert sorted(request.body.decode().split("&")) == sorted(REQUEST.split("&"))


async def test_msal_sends_the_same_and_asks_for_what_we_do_not_want(azure):
    await exchange(azure)
    await exchange_by_msal(azure)
    ours, msals = (dict(parse_qsl(each.body.decode())) for each in azure.requests)
    # A refresh token of its own for the exchanged token, and an ID token: nobody would use them.
    assert msals.pop("client_info") == "1"
    assert {*msals.pop("scope").split()} == {SCOPE, "openid", "profile", "offline_access"}
    assert ours.pop("scope") == SCOPE
    assert ours == msals


async def test_we_find_what_msal_finds_in_the_documented_answer_and_keep_no_refresh_token(azure):
    found, msals = await exchange(azure), await exchange_by_msal(azure)
    assert found.value == msals["access_token"] == SUCCESS["access_token"]
    assert found.lifetime.total == msals["expires_in"] == 3269
    assert found.scopes == (msals["scope"],) == (SCOPE,)
    assert found.reason is None
    assert SUCCESS["refresh_token"] not in repr(vars(found))


async def test_the_documented_error_is_a_denial_of_which_only_the_code_is_said(azure):
    azure.answer = ERROR
    found, msals = await exchange(azure), await exchange_by_msal(azure)
    assert found.reason is Reason.EXCHANGE_DENIED
    assert found.value is None and found.detail == msals["error"] == "interaction_required"
    assert json.dumps(ERROR["error_description"]) not in repr(found)
