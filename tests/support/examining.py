"""What the tests of the doctor share: configurations, the command, and its fixes applied."""

import json
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from textwrap import dedent
from threading import Thread

import pytest
import yaml

from spawner_tokens.__main__ import main

KEY = "JUPYTERHUB_CRYPT_KEY"

SOUND = """
c.JupyterHub.authenticator_class = "gitlab"
c.GitLabOAuthenticator.client_id = "id"
c.GitLabOAuthenticator.client_secret = "the-client-secret"
c.GitLabOAuthenticator.scope = ["read_user", "read_repository"]
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {"gitlab": {"preset": "gitlab"}}
"""

GENERIC = """
c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.authorize_url = "https://sso.example.org/authorize"
c.GenericOAuthenticator.token_url = "https://sso.example.org/token"
c.GenericOAuthenticator.userdata_url = "https://sso.example.org/userinfo"
c.GenericOAuthenticator.scope = ["openid", "email", "offline_access"]
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {"oidc": {"preset": "oidc"}}
"""


def login(entry_point, preset, scope=None, more=""):
    cls = {
        "github": "GitHubOAuthenticator",
        "google": "GoogleOAuthenticator",
        "azuread": "AzureAdOAuthenticator",
        "bitbucket": "BitbucketOAuthenticator",
        "globus": "GlobusOAuthenticator",
        "mediawiki": "MWOAuthenticator",
        "cilogon": "CILogonOAuthenticator",
    }[entry_point]
    asked = f"c.{cls}.scope = {scope!r}" if scope is not None else ""
    return f"""
c.JupyterHub.authenticator_class = "{entry_point}"
c.{cls}.client_id = "Iv1.0123456789abcdef"
c.{cls}.client_secret = "the-client-secret"
{asked}
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {{"t": {{"preset": "{preset}"}}}}
{more}
"""


@pytest.fixture(autouse=True)
def hubs_environment(monkeypatch, tmp_path):
    """As the Hub's: with a crypt key, without an engine, in a folder of its own."""
    for name in (
        *(
            "DOCKER_HOST",
            "KUBECONFIG",
            "OAUTH_CLIENT_ID",
            "OAUTH2_TOKEN_URL",
            "OAUTH2_USERDATA_URL",
        ),
        *("COLUMNS", "NO_COLOR"),
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY, secrets.token_hex(32))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def examine(tmp_path, capsys):
    """Exit status and findings of ``spawner-tokens doctor`` for a config's text."""

    def examine(text, name="hub_config.py", option="-f"):
        path = tmp_path / name
        path.write_text(text)
        status = main(["doctor", option, str(path), "--json"])
        out = capsys.readouterr().out
        assert "the-client-secret" not in out
        return status, json.loads(out)["findings"]

    return examine


def of(findings, level):
    return [finding["id"] for finding in findings if finding["level"] == level]


def append(config, fix):
    """The config with the printed lines at its end."""
    assert [part["kind"] for part in fix if part["kind"] == "config"], fix
    return config + "\n".join(part["text"] for part in fix if part["kind"] == "config") + "\n"


def apply_all(config, findings):
    """The config with all lines at its end that are printed, the errors' first, as for people."""
    worst_first = sorted(
        findings, key=lambda finding: ["error", "warning", "ok"].index(finding["level"])
    )
    lines = [
        part["text"]
        for finding in worst_first
        for part in finding["fix"]
        if part["kind"] == "config"
    ]
    return "\n".join([config, *lines, ""])


def by_hand(old, new):
    """What the printed words say, done."""

    def mend(config, fix):
        assert old in config and [part["kind"] for part in fix] == ["words"], fix
        return config.replace(old, new)

    return mend


def find_one(findings, id):
    """The only finding of this id."""
    (found,) = (finding for finding in findings if finding["id"] == id)
    return found


def find_and_mend(examine, config, id, mend):
    """A finding of this id is made of the config, and what is printed for it makes it go away."""
    status, findings = examine(config)
    found = [finding for finding in findings if finding["id"] == id]
    assert found, findings
    assert status == (1 if "error" in [finding["level"] for finding in findings] else 0)
    for finding in found:
        assert finding["what"] and finding["why"] and finding["fix"], finding
        config = mend(config, finding["fix"])
    _, findings = examine(config)
    assert id not in [finding["id"] for finding in findings], findings
    assert not {"config-fails", "hub-fails", "spawner-fails"} & set(of(findings, "error")), findings


@pytest.fixture
def serve():
    """A server on loopback: ``serve(answer)``, with ``answer(path, body)`` → JSON. Returns its URL."""
    servers = []

    def serve(answer):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                text = json.dumps(answer(self.path, json.loads(body or "null"))).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_POST = do_GET

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


DOCKER = SOUND.replace("tokens-simple", "tokens-docker") + "c.DockerSpawner.remove = True\n"

KUBERNETES = SOUND + dedent(
    """
    c.JupyterHub.spawner_class = "tokens-kubespawner"
    c.KubeSpawner.namespace = "hubs"
    c.KubeTokenMixin.tokens_sync_period = 90
    """
)


VERBS = ["get", "list", "create", "delete"]


@pytest.fixture
def cluster(monkeypatch, tmp_path, serve):
    """A Kubernetes API that allows what ``cluster(verbs)`` names. Returns what it was asked."""
    from kubernetes_asyncio.client import Configuration
    from kubespawner.clients import load_config

    kubeconfig = tmp_path / "kubeconfig"
    place = "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(place, str(kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    before = Configuration.get_default_copy()
    asked = []

    def cluster(verbs):
        def answer(path, review):
            attributes = review["spec"]["resourceAttributes"]
            asked.append(
                (path, attributes["namespace"], attributes["resource"], attributes["verb"])
            )
            return {**review, "status": {"allowed": attributes["verb"] in verbs}}

        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        config |= {
            "clusters": [{"name": "c", "cluster": {"server": serve(answer)}}],
            "users": [{"name": "u", "user": {}}],
        }
        kubeconfig.write_text(yaml.safe_dump(config))
        load_config.cache_clear()
        return asked

    load_config.cache_clear()
    yield cluster
    load_config.cache_clear()
    Configuration.set_default(before)
