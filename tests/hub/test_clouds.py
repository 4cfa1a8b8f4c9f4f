"""The clouds' own SDKs in a server: they find the token, and a newer one after a renewal."""

import json
import ssl
import sys
from pathlib import Path

import pytest
from certipy import Certipy
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from spawner_tokens.tokens.presets import CONSUMERS

from ..support.hub import Server
from ..support.ports import random_port
from ..support.waiting import until
from ..tokens.test_selection import jwt

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
KERNEL = str(Path(__file__).parents[1] / "support" / "kernel.py")


def login(number, **more):
    """The auth_state after a login, or after its renewals."""
    user_info = {"sub": "0", "preferred_username": "alice b."}
    return {
        "access_token": f"a{number}",
        "id_token": jwt(number=number, **more),
        "oauth_user": user_info,
    }


class Endpoint(RequestHandler):
    """A cloud's token endpoint: keeps what was posted to it."""

    def initialize(self, posted, answer):
        self.posted = posted
        self.answer = answer

    async def post(self, path):
        fields = {name: self.get_body_argument(name) for name in self.request.body_arguments}
        self.posted.append((self.request.path, fields, self.request.headers.get("Authorization")))
        self.finish(await self.answer(self.request))


@pytest.fixture
async def listen():
    """Start an endpoint: ``listen(answer)`` → its port, and the list of what is posted to it."""
    servers = []

    async def start(answer, ssl_options=None):
        posted = []
        application = Application([("(.*)", Endpoint, {"posted": posted, "answer": answer})])
        servers.append(HTTPServer(application, ssl_options=ssl_options))
        port = random_port()
        servers[-1].listen(port, "127.0.0.1")
        return port, posted

    yield start
    for server in servers:
        server.stop()
        await server.close_all_connections()


@pytest.fixture
def start_kernel(start_hub):
    """Start alice's server with a preset → alice, and a function that runs a program there."""

    async def start(preset, **fields):
        tokens = {preset: {"preset": preset, **fields}}
        settings = {"TokenSpawnerMixin.tokens": tokens, "Spawner.cmd": [sys.executable, KERNEL]}
        hub = await start_hub(SIMPLE, settings)
        alice = await hub.user("alice", login(1))
        server = await hub.spawn(alice)

        async def run(program):
            url = f"{server.url}/"
            answer = await AsyncHTTPClient().fetch(
                url, method="POST", body=program, request_timeout=90
            )
            code, out, err = json.loads(answer.body)
            assert code == 0, err
            return out.strip()

        return alice, run

    return start


async def renew(alice):
    """Store a newer auth_state, as a renewal does, and wait for the server's file."""
    before = set((await Server(alice.spawners[""]).files()).items())
    await alice.save_auth_state(login(2))

    async def arrives():
        return dict(set((await Server(alice.spawners[""]).files()).items()) - before)

    changed = await until(arrives)
    assert list(changed.values()) == [login(2)["id_token"].encode()]


async def test_boto3_assumes_the_role_with_the_token_of_the_moment(start_kernel, listen, sts):
    async def forward(request):
        url = f"http://127.0.0.1:{sts}/"
        answer = await AsyncHTTPClient().fetch(
            url, method="POST", headers=request.headers, body=request.body
        )
        return answer.body

    port, posted = await listen(forward)
    role = {
        "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/notebooks",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }
    settings = {**role, "AWS_ENDPOINT_URL_STS": f"http://127.0.0.1:{port}"}
    alice, run = await start_kernel("aws", settings=settings)
    program = "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])"
    for number in (1, 2):
        assert await run(program) == "arn:aws:sts::123456789012:assumed-role/notebooks/alice-b."
        (_, assumed, _), (_, asked, _) = posted
        assert (assumed["Action"], asked["Action"]) == (
            "AssumeRoleWithWebIdentity",
            "GetCallerIdentity",
        )
        assert assumed["WebIdentityToken"] == login(number)["id_token"]
        posted.clear()
        if number == 1:
            await renew(alice)


async def test_google_auth_exchanges_the_token_of_the_moment(start_kernel, listen):
    async def answer(request):
        if request.path == "/v1/token":
            return {
                "access_token": "federated",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": 3600,
            }
        return {"accessToken": "impersonated", "expireTime": "2099-01-01T00:00:00Z"}

    port, posted = await listen(answer)
    config = json.dumps(CONSUMERS["gcp"]["config"])
    for host in ("sts.googleapis.com", "iamcredentials.googleapis.com"):
        config = config.replace(f"https://{host}", f"http://127.0.0.1:{port}")
    settings = {
        "GOOGLE_EXTERNAL_ACCOUNT_AUDIENCE": "//iam.googleapis.com/pool",
        "GOOGLE_EXTERNAL_ACCOUNT_IMPERSONATED_EMAIL": "notebooks@project.example.org",
        "GOOGLE_CLOUD_PROJECT": "project",
    }
    alice, run = await start_kernel("gcp", settings=settings, config=json.loads(config))
    program = """
import google.auth, google.auth.transport.requests
credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
credentials.refresh(google.auth.transport.requests.Request())
print(type(credentials).__module__, project, credentials.token)
"""
    for number in (1, 2):
        assert await run(program) == "google.auth.identity_pool project impersonated"
        (_, exchanged, _), (path, _, authorization) = posted
        assert exchanged["subject_token"] == login(number)["id_token"]
        assert exchanged["subject_token_type"] == "urn:ietf:params:oauth:token-type:jwt"
        assert exchanged["audience"] == "//iam.googleapis.com/pool"
        assert (
            path
            == "/v1/projects/-/serviceAccounts/notebooks@project.example.org:generateAccessToken"
        )
        assert authorization == "Bearer federated"
        posted.clear()
        if number == 1:
            await renew(alice)


async def test_azure_identity_presents_the_token_of_the_moment(start_kernel, listen, tmp_path):
    async def answer(request):
        return {"access_token": "azures-own", "token_type": "Bearer", "expires_in": 3600}

    store = Certipy(store_dir=str(tmp_path / "certificates"))
    store.create_ca("ca")
    files = store.create_signed_pair("endpoint", "ca", alt_names=["DNS:localhost"])["files"]
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(files["cert"], files["key"])
    port, posted = await listen(answer, tls)
    settings = {
        "AZURE_CLIENT_ID": "client",
        "AZURE_TENANT_ID": "tenant",
        "AZURE_AUTHORITY_HOST": f"https://localhost:{port}",
        "REQUESTS_CA_BUNDLE": files["ca"],
    }
    alice, run = await start_kernel("azure", settings=settings)
    program = """
from azure.identity import DefaultAzureCredential
print(DefaultAzureCredential().get_token("https://management.azure.com/.default").token)
"""
    for number in (1, 2):
        assert await run(program) == "azures-own"
        [(path, presented, _)] = posted
        assert path == "/tenant/oauth2/v2.0/token"
        assert presented["client_assertion"] == login(number)["id_token"]
        assert (
            presented["client_assertion_type"]
            == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        )
        assert (presented["client_id"], presented["grant_type"]) == ("client", "client_credentials")
        posted.clear()
        if number == 1:
            await renew(alice)
