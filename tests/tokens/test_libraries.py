"""The libraries that presets are for: they find the token, and a newer one in the same process."""

import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs

import pytest

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


class Databricks(BaseHTTPRequestHandler):
    """A workspace that says where its tokens are given, and gives one that has ended already."""

    def do_GET(self):
        address = f"http://{self.headers['Host']}"
        names = ("oidc_endpoint", "authorization_endpoint", "token_endpoint")
        self.answer(dict.fromkeys(names, address))

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        subject = parse_qs(text)["subject_token"][0]
        self.answer({"access_token": f"for-{subject}", "token_type": "Bearer", "expires_in": 1})

    def answer(self, document):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_):
        pass


def test_databricks_sdk_exchanges_the_token_of_the_moment(tmp_path, monkeypatch):
    sdk = pytest.importorskip("databricks.sdk.core")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Databricks)
    Thread(target=server.serve_forever, daemon=True).start()
    config, found = None, []
    try:
        for token in TOKENS:
            url = f"http://127.0.0.1:{server.server_port}"
            for name, text in deliver(tmp_path, "databricks", token, url=url).items():
                monkeypatch.setenv(name, text)
            config = config or sdk.Config()
            found.append(config.authenticate()["Authorization"])
    finally:
        server.shutdown()
        server.server_close()
    assert found == [f"Bearer for-{token}" for token in TOKENS]
