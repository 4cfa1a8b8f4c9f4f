"""The libraries that presets are for: they find the token, and a newer one in the same process."""

import gzip
import json
import subprocess
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

import pytest
from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import load_kube_config

from spawner_tokens.tokens.files import make_env, make_files
from spawner_tokens.tokens.selection import Login, select
from spawner_tokens.tokens.spec import parse_tokens

TOKENS = ["first-token", "second-token"]


def deliver(directory, preset, token, **fields):
    """Write the files of a server, and return its variables."""
    (spec,) = parse_tokens({"t": {"preset": preset, **fields}}, files=True)
    tokens = [select(spec, Login({"access_token": token, "id_token": token}))]
    for name, contents in make_files(tokens, str(directory)).items():
        (directory / name).write_bytes(contents)
    return make_env(tokens, str(directory))


PROGRAM = """
from huggingface_hub.utils import build_hf_headers
for _ in 1, 2:
    print(build_hf_headers()["authorization"], flush=True)
    input()
"""


def test_huggingface_hub_sends_the_token_of_the_moment(tmp_path):
    pytest.importorskip("huggingface_hub")
    command, pipe = [sys.executable, "-c", PROGRAM], subprocess.PIPE
    env = deliver(tmp_path, "huggingface", TOKENS[0])
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) as process:
        found = [process.stdout.readline().strip()]
        deliver(tmp_path, "huggingface", TOKENS[1])
        found += process.communicate("\n\n", timeout=60)[0].splitlines()
    assert found == [f"Bearer {token}" for token in TOKENS]


class Service(BaseHTTPRequestHandler):
    """A server of HTTP that answers with JSON."""

    def read(self):
        return self.rfile.read(int(self.headers["Content-Length"]))

    def answer(self, document):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_):
        pass


@contextmanager
def serve(handler):
    """The port of a service."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Databricks(Service):
    """A workspace that says where its tokens are given, and gives one that has ended already."""

    def do_GET(self):
        address = f"http://{self.headers['Host']}"
        names = ("oidc_endpoint", "authorization_endpoint", "token_endpoint")
        self.answer(dict.fromkeys(names, address))

    def do_POST(self):
        subject = parse_qs(self.read().decode())["subject_token"][0]
        self.answer({"access_token": f"for-{subject}", "token_type": "Bearer", "expires_in": 1})


def test_databricks_sdk_exchanges_the_token_of_the_moment(tmp_path, monkeypatch):
    sdk = pytest.importorskip("databricks.sdk.core")
    config, found = None, []
    with serve(Databricks) as port:
        for token in TOKENS:
            url = f"http://127.0.0.1:{port}"
            for name, text in deliver(tmp_path, "databricks", token, url=url).items():
                monkeypatch.setenv(name, text)
            config = config or sdk.Config()
            found.append(config.authenticate()["Authorization"])
    assert found == [f"Bearer for-{token}" for token in TOKENS]


class Snowflake(Service):
    """An account that takes each login, and keeps its token."""

    tokens: list[str] = []

    def do_POST(self):
        body = self.read()
        if self.path.startswith("/session/v1/login-request"):
            if self.headers["Content-Encoding"] == "gzip":
                body = gzip.decompress(body)
            self.tokens.append(json.loads(body)["data"]["TOKEN"])
        valid = dict.fromkeys(["validityInSeconds", "masterValidityInSeconds"], 3600)
        session = {"sessionId": 1, "token": "t", "masterToken": "m", **valid, "parameters": []}
        self.answer({"success": True, "data": session})


CONNECT = """
import os, sys
from snowflake import connector
address = {"host": "127.0.0.1", "port": int(sys.argv[1]), "protocol": "http"}
for _ in 1, 2:
    connector.connect(
        account=os.environ["SNOWFLAKE_ACCOUNT"],
        authenticator=os.environ["SNOWFLAKE_AUTHENTICATOR"],
        token_file_path=os.environ["SNOWFLAKE_TOKEN_FILE_PATH"],
        **address,
    ).close()
    print(flush=True)
    input()
"""


def test_each_connection_to_snowflake_has_the_token_of_the_moment(tmp_path):
    pytest.importorskip("snowflake.connector")
    account = {"SNOWFLAKE_ACCOUNT": "org-account", "SNOWFLAKE_AUTHENTICATOR": "oauth"}
    env = deliver(tmp_path, "snowflake", TOKENS[0], settings=account)
    env["SNOWFLAKE_HOME"] = str(tmp_path)
    Snowflake.tokens, pipe = [], subprocess.PIPE
    with serve(Snowflake) as port:
        command = [sys.executable, "-c", CONNECT, str(port)]
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env) as process:
            process.stdout.readline()
            deliver(tmp_path, "snowflake", TOKENS[1], settings=account)
            process.communicate("\n\n", timeout=60)
    assert Snowflake.tokens == TOKENS


async def test_each_loading_of_the_kubeconfig_has_the_token_of_the_moment(tmp_path):
    settings, found = {"KUBE_API_SERVER": "https://kubernetes.example.org"}, []
    for token in TOKENS:
        configuration = Configuration()
        env = deliver(tmp_path, "kubernetes", token, settings=settings)
        await load_kube_config(env["KUBECONFIG"], client_configuration=configuration)
        found.append(configuration.api_key["BearerToken"])
        assert configuration.host == settings["KUBE_API_SERVER"]
    assert found == [f"Bearer {token}" for token in TOKENS]


def test_scitokens_discovers_the_token_of_the_moment(tmp_path, monkeypatch):
    discover = pytest.importorskip("scitokens").SciToken.discover
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
    from jwt import encode

    key, found = generate_private_key(SECP256R1()), []
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for name in TOKENS:
        token = encode({"sub": name}, key, algorithm="ES256")
        for variable, text in deliver(tmp_path, "wlcg", token).items():
            monkeypatch.setenv(variable, text)
        found.append(discover(public_key=public)["sub"])
    assert found == TOKENS
