"""What the tests of the doctor share: configurations, the command, a Kubernetes API."""

import functools
import json
import os
import secrets
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import entry_points
from pathlib import Path
from threading import Thread

import pytest
import yaml
from pytest import param

from spawner_tokens.__main__ import main
from spawner_tokens.doctor.finding import WHY

KEY = "JUPYTERHUB_CRYPT_KEY"

TOKENS = '{"gitlab": {"preset": "gitlab"}}'
SCOPES = '["read_user", "read_repository"]'
SOUND = f"""
c.JupyterHub.authenticator_class = "gitlab"
c.GitLabOAuthenticator.client_id = "id"
c.GitLabOAuthenticator.client_secret = "the-client-secret"
c.GitLabOAuthenticator.scope = {SCOPES}
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {TOKENS}
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

KUBERNETES = f"""{SOUND}
c.JupyterHub.spawner_class = "tokens-kubespawner"
c.KubeSpawner.namespace = "hubs"
c.KubeTokenMixin.tokens_sync_period = 90
"""

VERBS = ["get", "list", "create", "delete"]

CLASSES = {
    "github": "GitHubOAuthenticator",
    "google": "GoogleOAuthenticator",
    "azuread": "AzureAdOAuthenticator",
    "bitbucket": "BitbucketOAuthenticator",
    "globus": "GlobusOAuthenticator",
    "mediawiki": "MWOAuthenticator",
}


def login(provider, spec=None, more=""):
    """A sound config for this provider, unless ``spec`` or ``more`` break it."""
    cls = CLASSES[provider]
    return f"""
c.JupyterHub.authenticator_class = "{provider}"
c.{cls}.client_id = "Iv1.0123456789abcdef"
c.{cls}.client_secret = "the-client-secret"
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {{"t": {spec or {"preset": provider}!r}}}
{more}
"""


def spec(fields):
    """A sound config for GitLab, with more fields of its spec."""
    return SOUND.replace(TOKENS, f'{{"gitlab": {{"preset": "gitlab", {fields}}}}}')


read_once = functools.cache(entry_points)  # a Hub reads all of them some ten times


@pytest.fixture(autouse=True)
def hubs_environment(monkeypatch, tmp_path):
    """As the Hub's: with a crypt key, in a folder of its own."""
    own = ("OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OAUTH2_TOKEN_URL", "OAUTH2_USERDATA_URL")
    for name in (*own, "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(KEY, secrets.token_hex(32))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("jupyterhub.traitlets.entry_points", read_once)


@pytest.fixture
def examine(tmp_path, capsys):
    """Exit status and findings of ``spawner-tokens doctor`` for a config's text, or for values."""

    def examine(text, option="-f"):
        path = tmp_path / ("hub_config.py" if option == "-f" else "values.yaml")
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        status = main(["doctor", option, str(path), "--json"])
        out = capsys.readouterr().out
        assert "the-client-secret" not in out
        found = json.loads(out)
        assert status == (0 if found["ok"] else 1)
        assert found["ok"] == (of(found["findings"], "error") == [])
        return status, found["findings"]

    return examine


def of(findings, *levels):
    """The ids of these levels."""
    return [finding["id"] for finding in findings if finding["level"] in levels]


def find_one(findings, id):
    """The only finding of this id."""
    (found,) = (finding for finding in findings if finding["id"] == id)
    return found


_WARNINGS = {
    *("tokens-none", "section-unknown", "trait-unknown", "scopes-too-powerful"),
    *("refresh-token-not-asked", "refresh-token-never", "lifetime-too-short", "environment-wins"),
    *("null-ignored", "docker-variables-frozen", "hook-writes-tokens"),
    "exchange-without-secret",
}


def list_cases(table):
    """The parameters for a table: id of a finding → cases."""
    return [
        param(id, case, id=f"{id}-{number}")
        for id, cases in table.items()
        for number, case in enumerate(cases)
    ]


def check_case(examine, id, broken, mended, level=None):
    """The broken config has the finding, and neither the mended one nor one with the lines has."""
    level = level or ("warning" if id in _WARNINGS else "error")
    found = [each for each in examine(broken)[1] if each["id"] == id]
    assert found and {each["level"] for each in found} == {level}
    for each in found:
        assert each["what"] and each["why"] == WHY[id] and each["fix"]
    lines = [line for line in found[0]["fix"].splitlines() if line.startswith("c.")]
    for config in [mended, *(["\n".join([broken, *lines, ""])] if lines else [])]:
        left = of(examine(config)[1], "error", "warning")
        assert id not in left and "config-fails" not in left


def run_command(*arguments, **more):
    """The command in a process of its own. ``env`` adds to the environment."""
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **more.pop("env", {})}
    command = [sys.executable, "-m", "spawner_tokens", *map(str, arguments)]
    given = {"capture_output": True, "text": True, "timeout": 60, **more}
    return subprocess.run(command, env=env, **given)


class Reviewer(BaseHTTPRequestHandler):
    """Answers the access reviews of a Hub."""

    def do_POST(self):
        review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        attributes = review["spec"]["resourceAttributes"]
        asked = (self.path, *(attributes[name] for name in ("namespace", "resource", "verb")))
        self.server.asked.append(asked)
        allowed = attributes["verb"] in self.server.verbs
        text = json.dumps({**review, "status": {"allowed": allowed}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A Kubernetes API that allows ``cluster.verbs``: all that it has to. ``cluster.asked`` is what
    it was asked, and ``cluster.kubeconfig`` the file that leads to it."""
    from kubernetes_asyncio.client import Configuration
    from kubespawner.clients import load_config

    server = ThreadingHTTPServer(("127.0.0.1", 0), Reviewer)
    server.verbs, server.asked, server.kubeconfig = VERBS, [], tmp_path / "kubeconfig"
    Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    address = {"server": f"http://127.0.0.1:{server.server_port}"}
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": address}],
        "users": [{"name": "u", "user": {}}],
    }
    server.kubeconfig.write_text(yaml.safe_dump(config))
    place = "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION"
    monkeypatch.setattr(place, str(server.kubeconfig))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    before = Configuration.get_default_copy()
    load_config.cache_clear()
    yield server
    load_config.cache_clear()
    Configuration.set_default(before)
    server.shutdown()
    server.server_close()
