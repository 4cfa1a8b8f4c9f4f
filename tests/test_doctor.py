"""The doctor: each finding by a broken configuration, and its printed fix makes it go away."""

import json
import math
import os
import re
import secrets
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import distribution
from pathlib import Path
from textwrap import dedent
from threading import Thread

import pytest
import yaml
from pytest import param

import spawner_tokens.doctor
from spawner_tokens.__main__ import main
from spawner_tokens.doctor.finding import literal
from spawner_tokens.doctor.loading import load_file

from .reference import README
from .test_readme import blocks, tljh, values_files  # noqa: F401

PACKAGE = Path(spawner_tokens.doctor.__file__).parent

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
    for name in ("DOCKER_HOST", "KUBECONFIG", "OAUTH_CLIENT_ID", "OAUTH2_TOKEN_URL", "OAUTH2_USERDATA_URL", "NO_COLOR"):
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
    worst_first = sorted(findings, key=lambda finding: ["error", "warning", "ok"].index(finding["level"]))
    lines = [part["text"] for finding in worst_first for part in finding["fix"] if part["kind"] == "config"]
    return "\n".join([config, *lines, ""])


def by_hand(old, new):
    """What the printed words say, done."""

    def mend(config, fix):
        assert old in config and [part["kind"] for part in fix] == ["words"], fix
        return config.replace(old, new)

    return mend


CASES = [
    param(SOUND.replace("enable_auth_state = True", "enable_auth_state = False"), "auth-state-off", append, id="off"),
    param(
        SOUND + "c.GitLabOAuthenticator.enable_auth_state = False",
        "auth-state-off",
        lambda config, fix: append(config + "\n", fix),
        id="off-at-the-class",
    ),
    param(
        SOUND + 'c.CryptKeeper.keys = ["not-a-key-at-all"]\n',
        "crypt-key-bad",
        append,
        id="a-bad-crypt-key-in-the-config",
    ),
    param(SOUND.replace('"gitlab"\n', '"dummy"\n', 1), "login-without-tokens", append, id="no-oauth"),
    param(SOUND.replace("tokens-simple", "simple"), "mixin-missing", append, id="no-mixin"),
    param(SOUND.replace("tokens-simple", "docker"), "mixin-missing", append, id="no-mixin-docker"),
    param(SOUND.replace("tokens-simple", "systemd"), "mixin-missing", append, id="no-mixin-systemd"),
    param(
        SOUND
        + dedent(
            """
            from jupyterhub.spawner import LocalProcessSpawner
            class Mine(LocalProcessSpawner): pass
            c.JupyterHub.spawner_class = Mine
            """
        ),
        "mixin-missing",
        append,
        id="no-mixin-own-class",
    ),
    param(
        SOUND
        + dedent(
            """
            from spawner_tokens import LocalTokenMixin
            from jupyterhub.spawner import SimpleLocalProcessSpawner
            class Mine(SimpleLocalProcessSpawner, LocalTokenMixin): pass
            c.JupyterHub.spawner_class = Mine
            """
        ),
        "mixin-order",
        by_hand("Mine(SimpleLocalProcessSpawner, LocalTokenMixin)", "Mine(LocalTokenMixin, SimpleLocalProcessSpawner)"),
        id="mixin-last",
    ),
    param(SOUND.replace('"preset":', '"prest":'), "spec-wrong", by_hand('"prest"', '"preset"'), id="spec-field"),
    param(
        SOUND.replace('"preset": "gitlab"', '"preset": "gitlab", "url": "gitlab.example.org"'),
        "spec-wrong",
        by_hand("gitlab.example.org", "https://gitlab.example.org"),
        id="spec-url",
    ),
    param(
        SOUND.replace('{"gitlab": {', '{"other": {"env": "GITLAB_TOKEN"}, "gitlab": {'),
        "spec-wrong",
        by_hand('"env": "GITLAB_TOKEN"', '"env": "OTHER_TOKEN"'),
        id="specs-clash",
    ),
    param(SOUND.replace('{"gitlab": {"preset": "gitlab"}}', "{}"), "tokens-none", append, id="no-tokens"),
    param(
        SOUND.replace('"preset": "gitlab"', '"key": "acess_token"'), "key-never-stored", append, id="key-never-stored"
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"key": "token_info.access_token"'),
        "key-never-stored",
        append,
        id="key-elsewhere",
    ),
    param(
        login("globus", "globus", more='c.TokenSpawnerMixin.tokens["t"]["key"] = "access_token"'),
        "key-never-stored",
        append,
        id="key-globus",
    ),
    param(
        login("github", "github", more='c.TokenSpawnerMixin.tokens["t"] = {"key": "id_token"}'),
        "key-never-stored",
        by_hand('{"key": "id_token"}', '{"preset": "github"}'),
        id="no-id-token",
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"key": "id_token"'), "id-token-not-asked", append, id="id-token-not-asked"
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"variables": {"ME": "oauth_user.username"}'),
        "variable-never-stored",
        append,
        id="variable-never-stored",
    ),
    param(SOUND.replace('"preset": "gitlab"', '"preset": "github"'), "variable-never-stored", append, id="other-preset"),
    param(
        SOUND + 'c.Spawner.environment = {"GITLAB_TOKEN": "x", "A": "b"}\n', "environment-wins", append, id="environment"
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"preset": "gitlab", "required_scopes": ["write_repository"]'),
        "scopes-not-asked",
        append,
        id="scopes-not-asked",
    ),
    param(
        SOUND.replace('"read_repository"]', '"api"]').replace(
            '"preset": "gitlab"', '"preset": "gitlab", "forbidden_scopes": ["api"]'
        ),
        "scopes-forbidden-asked",
        append,
        id="scopes-forbidden",
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"required_scopes": ["read_user", "api"], "forbidden_scopes": "api"'),
        "scopes-contradictory",
        append,
        id="scopes-contradictory",
    ),
    param(SOUND.replace('"read_repository"]', '"api", "sudo"]'), "scopes-too-powerful", append, id="gitlab-api"),
    param(SOUND.replace('["read_user", "read_repository"]', "[]"), "scopes-too-powerful", append, id="gitlab-no-scope"),
    param(
        login("github", "github", ["repo", "admin:org", "user:email"]), "scopes-too-powerful", append, id="github-repo"
    ),
    param(
        login("bitbucket", "bitbucket", ["account", "repository:admin"]), "scopes-too-powerful", append, id="bitbucket"
    ),
    param(GENERIC.replace('"email"', '"admin:everything"'), "scopes-too-powerful", append, id="generic-admin"),
    param(login("google", "google"), "refresh-token-not-asked", append, id="google-offline"),
    param(login("azuread", "azuread"), "refresh-token-not-asked", append, id="azure-offline"),
    param(GENERIC.replace(', "offline_access"', ""), "refresh-token-not-asked", append, id="oidc-offline"),
    param(
        login("github", "github").replace("Iv1.0123456789abcdef", "0123456789abcdef0123"),
        "refresh-token-never",
        by_hand("0123456789abcdef0123", "Iv23liABCDEFGHIJKLMN"),
        id="github-oauth-app",
    ),
    param(
        GENERIC.replace('"preset": "oidc"', '"preset": "nbgallery", "url": "https://nb.example.org"'),
        "refresh-token-never",
        append,
        id="nbgallery",
    ),
    param(login("mediawiki", "mediawiki"), "refresh-fails", append, id="mediawiki"),
    param(
        SOUND + "c.TokenSpawnerMixin.token_renew = False\nc.Authenticator.auth_refresh_age = 0\n",
        "never-refreshed",
        append,
        id="never-refreshed",
    ),
    param(SOUND + "c.Spawner.token_renew = False\n", "refresh-pre-spawn-alone", append, id="refresh-pre-spawn-alone"),
    param(
        SOUND + "c.Authenticator.auth_refresh_age = 0\nc.Authenticator.refresh_pre_spawn = True\n",
        "refresh-pre-spawn-ignored",
        append,
        id="refresh-pre-spawn-ignored",
    ),
    param(
        GENERIC.replace("c.GenericOAuthenticator.userdata_url", "# ") + "c.OAuthenticator.userdata_from_id_token = True\n",
        "userdata-from-id-token",
        append,
        id="userdata-from-id-token",
    ),
    param(
        SOUND + 'c.Spawner.server_token_scopes = ["access:servers!server", "admin:auth_state!user"]\n',
        "servers-read-auth-state",
        append,
        id="server-token-scopes",
    ),
    param(
        SOUND + 'c.Spawner.oauth_client_allowed_scopes = ["admin:users!user", "self"]\n',
        "servers-read-auth-state",
        append,
        id="oauth-client-allowed-scopes",
    ),
    param(
        SOUND
        + 'c.JupyterHub.load_roles = [{"name": "server", "scopes": ["inherit", "admin:auth_state!user"]}, {"name": "x"}]\n',
        "servers-read-auth-state",
        append,
        id="role-server",
    ),
    param(
        SOUND
        + dedent(
            """
            async def add_token(spawner):
                auth_state = await spawner.user.get_auth_state()
                spawner.environment["GITLAB_ACCESS_TOKEN"] = auth_state["access_token"]

            c.Spawner.pre_spawn_hook = add_token
            """
        ),
        "hook-writes-tokens",
        append,
        id="pre-spawn-hook",
    ),
    param(
        SOUND
        + dedent(
            """
            def add_token(spawner, auth_state):
                spawner.environment.update({"TOKEN": auth_state["access_token"]}, USER_EMAIL="")

            c.SimpleLocalProcessSpawner.auth_state_hook = add_token
            """
        ),
        "hook-writes-tokens",
        append,
        id="auth-state-hook",
    ),
    param(
        SOUND
        + dedent(
            """
            from oauthenticator.gitlab import GitLabOAuthenticator

            class Mine(GitLabOAuthenticator):
                async def pre_spawn_start(self, user, spawner):
                    auth_state = await user.get_auth_state()
                    spawner.environment["GITLAB_TOKEN"] = auth_state["access_token"]

            c.JupyterHub.authenticator_class = Mine
            """
        ),
        "hook-writes-tokens",
        append,
        id="pre-spawn-start",
    ),
    param(SOUND.replace("tokens-simple", "tokens-docker"), "docker-variables-frozen", append, id="docker-remove"),
    param(
        SOUND.replace("c.TokenSpawnerMixin.tokens", "c.TokenSpawnerMixin.tokns"), "trait-unknown", append, id="trait-typo"
    ),
    param(SOUND.replace("c.TokenSpawnerMixin", "c.TokensSpawner"), "section-unknown", append, id="section-typo"),
    param(
        SOUND + 'c.Spawner.tokens = {"other": {"env": "OTHER", "key": "id_token"}}\n',
        "tokens-twice",
        append,
        id="tokens-twice",
    ),
    param(
        SOUND.replace('tokens = {"gitlab": {"preset": "gitlab"}}', 'tokens.update({"x": {"key": "acces_token"}})'),
        "key-never-stored",
        append,
        id="key-of-tokens-that-are-added",
    ),
    param(
        SOUND
        + dedent(
            """
            def add_token(spawner):
                env = spawner.environment
                env.setdefault("API_TOKEN", spawner.user.auth_state)

            c.Spawner.pre_spawn_hook = add_token
            """
        ),
        "hook-writes-tokens",
        append,
        id="pre-spawn-hook-with-another-name-for-it",
    ),
    param(SOUND.replace("c.Authenticator.", "c.Authenticatr("), "config-fails", by_hand("r(", "r."), id="syntax"),
    param(SOUND.replace('"gitlab"\n', '"gitlub"\n', 1), "class-unknown", append, id="unknown-authenticator"),
    param(SOUND.replace("tokens-simple", "tokens-simpel"), "class-unknown", append, id="unknown-spawner"),
    param(
        SOUND.replace("tokens-simple", "spawner_tokens.TokenSpawner"),
        "class-unknown",
        by_hand("spawner_tokens.TokenSpawner", "spawner_tokens.TokenSimpleLocalProcessSpawner"),
        id="no-such-class",
    ),
    param(
        SOUND.replace("tokens-simple", "nowhere.Spawner"),
        "class-unknown",
        by_hand("nowhere.Spawner", "tokens-simple"),
        id="no-such-module",
    ),
    param(SOUND + "c.JupyterHub.hub_port = 'x'\n", "hub-fails", by_hand("'x'", "8081"), id="hub-trait"),
    param(
        SOUND + "c.GitLabOAuthenticator.allow_all = 'the-client-secret'\n",
        "authenticator-fails",
        by_hand("'the-client-secret'", "True"),
        id="authenticator-trait",
    ),
    param(
        SOUND + "c.GitLabOAuthenticator.admin_groups = {'a'}\nc.GitLabOAuthenticator.client_id = 'x'\n",
        "authenticator-fails",
        by_hand("c.GitLabOAuthenticator.client_id = 'x'", "c.Authenticator.manage_groups = True"),
        id="authenticator-value",
    ),
    param(
        SOUND + "c.Spawner.start_timeout = 'long'\n", "spawner-fails", by_hand("'long'", "60"), id="spawner-trait"
    ),
    param(
        SOUND
        + dedent(
            """
            from jupyterhub.spawner import SimpleLocalProcessSpawner
            class WrapSpawner(SimpleLocalProcessSpawner): pass
            class ProfilesSpawner(WrapSpawner): pass
            c.JupyterHub.spawner_class = ProfilesSpawner
            """
        ),
        "mixin-not-seen",
        by_hand("spawner_class = ProfilesSpawner", "spawner_class = 'tokens-simple'"),
        id="wrapspawner",
    ),
    param(SOUND + "import sys\nsys.exit(3)\n", "config-fails", by_hand("sys.exit(3)", ""), id="exit"),
]


@pytest.mark.parametrize("config, id, mend", CASES)
def test_a_mistake_is_found_and_the_printed_fix_mends_it(examine, config, id, mend):
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


def test_the_lines_of_two_findings_go_together(examine):
    asked = 'scope = ["read_user", "read_repository"]'
    config = SOUND.replace('"preset": "gitlab"', '"preset": "gitlab", "required_scopes": ["write_repository"]')
    for scope in ("scope = []", 'scope = ["api", "openid"]'):
        broken = config.replace(asked, scope)
        _, findings = examine(broken)
        found = [finding for finding in findings if finding["level"] != "ok"]
        assert {finding["id"] for finding in found} == {"scopes-not-asked", "scopes-too-powerful"}
        for order in (found, found[::-1]):
            mended = broken
            for finding in order:
                mended = append(mended, finding["fix"])
            assert "scopes-not-asked" not in of(examine(mended)[1], "error")
        assert {finding["level"] for finding in examine(append(broken, found[1]["fix"]))[1]} == {"ok"}


# -- what is printed can be run, and all of it together -----------------------------------------

CALLABLE = '{"x": {"key": "acess_token", "variables": {"A": lambda state: "a", "ME": "oauth_user.username"}}}'


def test_a_function_is_not_printed_and_not_lost(examine, tmp_path):
    plain = 'tokens = {"gitlab": {"preset": "gitlab"}}'
    added = SOUND.replace(plain, f"tokens.update({CALLABLE})")
    _, findings = examine(added)
    fixes = [part for finding in findings for part in finding["fix"]]
    assert {part["kind"] for part in fixes} == {"words"} and not re.search("<function|0x", json.dumps(fixes))
    assert 'set "key": "access_token"' in fixes[0]["text"] and '{"ME": "gitlab_user.username"}' in fixes[1]["text"]
    assigned = SOUND.replace(plain, f"tokens = {CALLABLE}")
    mended = apply_all(assigned, examine(assigned)[1])
    assert {finding["level"] for finding in examine(mended)[1]} == {"ok"}
    (tmp_path / "mended.py").write_text(mended)
    assert callable(load_file(str(tmp_path / "mended.py")).TokenSpawnerMixin.tokens["x"]["variables"]["A"])


def test_a_literal_is_read_as_the_same_value():
    for value in ['a"\'\n\x00é', None, True, 1, 1.5, ["a", {"b": [None]}], {"a"}, set()]:
        assert eval(literal(value)) == value
    for value in [len, object(), {"a": [lambda: 0]}, math.inf, math.nan, b"bytes"]:
        with pytest.raises(TypeError):
            literal(value)


@pytest.mark.parametrize(
    "key, asked, mended",
    [
        param("token", ["read_user"], "access_token", id="token"),
        param("gitlab_token", ["read_user"], "access_token", id="gitlab-token"),
        param("gitlab_token", ["read_user", "openid"], "access_token", id="gitlab-token-openid"),
        param("acces_token", ["read_user"], "access_token", id="misspelt"),
        param("id_tokn", ["read_user"], "access_token", id="id-token-not-asked"),
        param("id_tokn", ["read_user", "openid"], "id_token", id="id-token"),
    ],
)
def test_an_id_token_is_proposed_only_for_its_own_name(examine, key, asked, mended):
    config = SOUND.replace('"preset": "gitlab"', f'"key": "{key}"').replace('["read_user", "read_repository"]', repr(asked))
    (found,) = (finding for finding in examine(config)[1] if finding["id"] == "key-never-stored")
    assert found["fix"][0]["text"].endswith(f' = "{mended}"')


PLAIN = 'tokens = {"gitlab": {"preset": "gitlab"}}'
ASKED = '["read_user", "read_repository"]'
NEEDY = '{"x": {"key": "id_token", "required_scopes": ["write_repository"], "forbidden_scopes": ["sudo"]}}'
TWO_BAD = """{
    "x": {"key": "acess_token", "variables": {"ME": "oauth_user.username"}, "required_scopes": ["write_repository"]},
    "y": {"key": "nowhere", "variables": {"MYSELF": "oauth_user.name"}, "file_env": None},
}"""
ROLES = """
c.JupyterHub.load_roles = [
    {"name": "server", "scopes": ["inherit", "admin:auth_state!user"]},
    {"name": "user", "scopes": ["self", "admin:auth_state!user"]},
]
"""


@pytest.mark.parametrize(
    "config",
    [
        param(SOUND + ROLES, id="two-roles"),
        param(SOUND.replace(PLAIN, f"tokens = {NEEDY}").replace(ASKED, '["api", "sudo"]'), id="scopes"),
        param(SOUND.replace(PLAIN, f"tokens = {NEEDY}").replace(ASKED, "[]"), id="no-scope"),
        param(
            GENERIC.replace('"openid", "email", "offline_access"', '"admin:all"').replace(
                '{"preset": "oidc"}', '{"key": "id_token", "required_scopes": ["email"]}'
            ),
            id="scopes-of-openid",
        ),
        param(
            login("azuread", "azuread", ["admin:all"], 'c.TokenSpawnerMixin.tokens["t"]["required_scopes"] = ["files"]'),
            id="scopes-of-azure",
        ),
        param(SOUND.replace(PLAIN, f"tokens = {TWO_BAD}"), id="two-specs"),
        param(SOUND.replace(PLAIN, f"tokens.update({TWO_BAD})"), id="two-specs-that-are-added"),
        param(SOUND.replace(PLAIN, f"tokens = {TWO_BAD}").replace(ASKED, '["api"]') + ROLES, id="all"),
        param(SOUND.replace(PLAIN, f"tokns = {NEEDY}"), id="misplaced"),
        param(SOUND.replace("TokenSpawnerMixin.", "TokensSpawnerMixin."), id="section-misplaced"),
    ],
)
def test_all_lines_together_leave_nothing_to_print(examine, config):
    _, findings = examine(config)
    assert [part for finding in findings for part in finding["fix"]]
    mended = apply_all(config, findings)
    if "tokns" in config:  # what was not read is examined when it is
        mended = apply_all(mended, examine(mended)[1])
    _, left = examine(mended)
    assert [finding for finding in left if "config" in [part["kind"] for part in finding["fix"]]] == []
    assert "spec-wrong" not in of(left, "error")


@pytest.mark.parametrize(
    "more, level",
    [
        param("", "warning", id="alone"),
        param('c.Spawner.server_token_scopes = ["inherit"]\n', "error", id="server-token-scopes"),
        param('c.JupyterHub.load_roles += [{"name": "server", "scopes": ["inherit"]}]\n', "error", id="role-server"),
        param('c.JupyterHub.load_roles += [{"name": "server", "scopes": ["self"]}]\n', "warning", id="other-role-server"),
    ],
)
def test_what_a_user_may_read_is_an_error_where_servers_may_too(examine, more, level):
    roles = 'c.JupyterHub.load_roles = [{"name": "user", "scopes": ["self", "admin:auth_state!user"]}]\n'
    config = SOUND + roles + more
    _, findings = examine(config)
    assert of(findings, level) == ["servers-read-auth-state"]
    assert {finding["level"] for finding in examine(apply_all(config, findings))[1]} == {"ok"}


@pytest.mark.parametrize("config", [SOUND, GENERIC], ids=["gitlab", "generic"])
def test_nothing_is_said_of_a_sound_config(examine, config):
    status, findings = examine(config)
    assert status == 0
    assert {finding["level"] for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize("key, id", [("", "crypt-key-missing"), ("tooshort", "crypt-key-bad")])
def test_the_printed_command_makes_a_crypt_key(examine, monkeypatch, key, id):
    monkeypatch.setenv(KEY, key)
    status, findings = examine(SOUND)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert status == 1 and found["id"] == id
    assert not key or key not in json.dumps(findings)
    (part,) = found["fix"]
    assert part["kind"] == "shell"
    printed = subprocess.run(["sh", "-c", f"{part['text']}\necho ${KEY}"], capture_output=True, text=True, check=True)
    monkeypatch.setenv(KEY, printed.stdout.strip())
    assert examine(SOUND)[0] == 0


OLD = [
    ("jupyterhub", "4.1.6", "5.0"),
    ("oauthenticator", "17.2.0", "17.3"),
    ("jupyterhub-kubespawner", "6.2.0", "7.0"),
    ("dockerspawner", "13.0.0", "14.0"),
]


@pytest.mark.parametrize("package, installed, oldest", OLD)
def test_what_is_too_old_is_named(examine, monkeypatch, tmp_path, package, installed, oldest):
    site = tmp_path / "site"
    metadata = site / f"{package.replace('-', '_')}-{installed}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {installed}\n")
    entry_points = metadata.with_name("entry_points.txt")
    entry_points.write_text(distribution(package).read_text("entry_points.txt") or "")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(site)
        status, findings = examine(SOUND)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert status == 1 and found["id"] == "version-too-old"
    assert found["fix"] == [{"kind": "shell", "text": f"pip install '{package}>={oldest}'"}]
    assert "version-too-old" not in [finding["id"] for finding in examine(SOUND)[1]]


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


def test_an_engine_that_does_not_answer_is_found(examine, monkeypatch, serve):
    status, findings = examine(DOCKER)
    assert status == 1 and of(findings, "error") == ["docker-unreachable"]
    engine = serve(lambda path, body: "OK" if path.endswith("_ping") else {"ApiVersion": "1.41"})
    monkeypatch.setenv("DOCKER_HOST", engine.replace("http", "tcp"))
    status, findings = examine(DOCKER)
    assert status == 0 and "docker" in of(findings, "ok")


KUBERNETES = SOUND + dedent(
    """
    c.JupyterHub.spawner_class = "tokens-kubespawner"
    c.KubeSpawner.namespace = "hubs"
    c.KubeTokenMixin.token_sync_period = 90
    """
)


VARIABLES_ONLY = """
from kubespawner import KubeSpawner
from spawner_tokens import TokenSpawnerMixin

class VariablesOnly(TokenSpawnerMixin, KubeSpawner):
    pass

c.JupyterHub.spawner_class = VariablesOnly
"""

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
            asked.append((path, attributes["namespace"], attributes["resource"], attributes["verb"]))
            return {**review, "status": {"allowed": attributes["verb"] in verbs}}

        config = {"current-context": "c", "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}]}
        config |= {"clusters": [{"name": "c", "cluster": {"server": serve(answer)}}], "users": [{"name": "u", "user": {}}]}
        kubeconfig.write_text(yaml.safe_dump(config))
        load_config.cache_clear()
        return asked

    load_config.cache_clear()
    yield cluster
    load_config.cache_clear()
    Configuration.set_default(before)


def test_the_verbs_that_the_hub_may_not_do_are_named(examine, cluster):
    asked = cluster(["get", "list"])
    status, findings = examine(KUBERNETES)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert status == 1 and found["id"] == "kubernetes-rights"
    assert found["what"] == "The Hub may not create, delete Secrets in the namespace hubs."
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert set(asked) == {(path, "hubs", "secrets", verb) for verb in VERBS}
    (rule,) = re.findall(r"{.*}", found["fix"][0]["text"])
    cluster(yaml.safe_load(rule)["verbs"])
    status, findings = examine(KUBERNETES)
    assert status == 0 and "kubernetes" in of(findings, "ok")


def test_without_a_cluster_all_the_rest_is_checked(examine, cluster):
    status, findings = examine(KUBERNETES.replace('"preset"', '"prest"'))
    assert status == 1 and of(findings, "error") == ["spec-wrong"]
    assert of(findings, "warning") == ["kubernetes-not-asked"]


def test_an_api_that_does_not_answer_is_found(examine, cluster, tmp_path):
    cluster([])
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(re.sub(r"127.0.0.1:\d+", "127.0.0.1:1", kubeconfig.read_text()))
    assert of(examine(KUBERNETES)[1], "error") == ["kubernetes-unreachable"]


def test_variables_alone_need_no_secrets(examine, cluster):
    asked = cluster([])
    status, findings = examine(KUBERNETES + VARIABLES_ONLY)
    assert status == 0 and asked == [] and "kubernetes" not in of(findings, "ok")


def test_a_life_that_the_kubelets_pace_cannot_serve_is_found(examine, cluster):
    cluster(VERBS)
    keycloak = KUBERNETES.replace('"gitlab"\n', '"generic-oauth"\n', 1).replace('"preset": "gitlab"', '"preset": "oidc"')
    url = "https://sso.example.org/realms/r/protocol/openid-connect/token"
    keycloak += f'c.GenericOAuthenticator.token_url = "{url}"\n'
    assert "lifetime-too-short" not in of(examine(keycloak)[1], "error")
    slow = keycloak.replace("token_sync_period = 90", "token_sync_period = 150")
    (found,) = (finding for finding in examine(slow)[1] if finding["level"] == "error")
    assert found["id"] == "lifetime-too-short"
    (most,) = re.findall(r"token_sync_period = (\d+)", found["fix"][0]["text"])
    mended = keycloak.replace("token_sync_period = 90", f"token_sync_period = {most}")
    assert "lifetime-too-short" not in of(examine(mended)[1], "error")


# -- how it is loaded ----------------------------------------------------------------------------


def test_the_file_has_to_be_there(capsys):
    assert main(["doctor", "-f", "nowhere.py"]) == 1
    assert "there is no file nowhere.py" in capsys.readouterr().out


def test_subconfigs_are_loaded_and_what_is_printed_goes_to_stderr(examine, tmp_path):
    (tmp_path / "sub.py").write_text("c.Authenticator.enable_auth_state = False\n")
    status, findings = examine(SOUND + "print('hello')\nload_subconfig('sub.py')\n")
    assert of(findings, "error") == ["auth-state-off"]


def test_options_of_the_hubs_command_line_win(tmp_path, capsys):
    (tmp_path / "hub_config.py").write_text(SOUND)
    assert main(["doctor", "-f", "hub_config.py", "--", "--Authenticator.enable_auth_state=False", "--debug"]) == 1
    assert "error    auth-state-off" in capsys.readouterr().out
    for options in (["--JupyterHub.port=x"], ["rest"]):
        assert main(["doctor", "-f", "hub_config.py", "--", *options]) == 1
        assert "config-fails" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, options",
    [
        param('c.JupyterHub.log_level = "DEBUG"', [], id="hub"),
        param("c.Application.log_level = 10", [], id="application"),
        param("", ["--debug"], id="option"),
        param("", ["--JupyterHub.cookie_secret=the-cookie-secret", "--JupyterHub.port=the-port-secret"], id="bad-option"),
        param("", ["--GitLabOAuthenticator.client_secret=the-cookie-secret", "rest-secret"], id="rest"),
    ],
)
def test_what_traitlets_logs_of_a_config_is_not_heard(tmp_path, line, options):
    (tmp_path / "hub_config.py").write_text(f'{SOUND}{line}\nc.CryptKeeper.keys = ["the-crypt-key"]\n')
    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py", "--", *options]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    text = done.stdout + done.stderr
    known = re.compile("the-[a-z]+-secret|rest-secret|the-crypt-key")
    assert " ok\n" in text and not known.findall(text)
    # what is looked for is what traitlets shows
    (tmp_path / "shown.py").write_text(
        "from jupyterhub.app import JupyterHub\nfrom traitlets.config import Config\nc = Config()\n"
        + (tmp_path / "hub_config.py").read_text()
        + "c.JupyterHub.log_level = 10\nJupyterHub(config=c)\n"
    )
    shown = subprocess.run([sys.executable, "shown.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert {"the-client-secret", "the-crypt-key"} <= {*known.findall(shown.stdout + shown.stderr)}


def test_a_level_that_is_none_is_an_error(examine):
    assert of(examine(SOUND + 'c.JupyterHub.log_level = "DEBG"\n')[1], "error") == ["hub-fails"]


@pytest.mark.parametrize("base", ["SimpleLocalProcessSpawner", "GitLabOAuthenticator"])
def test_what_classes_print_is_not_between_the_findings(examine, base):
    config = dedent(
        f"""
        from oauthenticator.gitlab import GitLabOAuthenticator
        from spawner_tokens import TokenSimpleLocalProcessSpawner as SimpleLocalProcessSpawner
        class Mine({base}):
            def __init__(self, *arguments, **given):
                print("hello")
                super().__init__(*arguments, **given)
        c.JupyterHub.{"spawner" if "Spawner" in base else "authenticator"}_class = Mine
        """
    )
    assert {finding["level"] for finding in examine(SOUND + config)[1]} == {"ok"}


SECRET = "s3cret-Value"


@pytest.mark.parametrize(
    "line, words",
    [
        param(f"raise ValueError('{SECRET}')", "ValueError, line", id="value"),
        param(f"raise AttributeError('{SECRET}')", "AttributeError, line", id="attribute"),
        param(f"raise SyntaxError('{SECRET}')", "SyntaxError, line", id="syntax"),
        param(f"open('{SECRET}')", "FileNotFoundError, line", id="file"),
        param(f"{{}}['{SECRET}']", "KeyError, line", id="key"),
        param("{}[os.environ['MINE'].replace('-', '_')]", "KeyError, line", id="key-of-the-environment"),
        param("os.environ['GITHUB_CLIENT_ID']", "KeyError: 'GITHUB_CLIENT_ID', line", id="name"),
        param("raise ImportError(os.environ['MINE'])", "ImportError: …, line", id="import"),
        param("x = 1 +", "SyntaxError: invalid syntax", id="compiler"),
    ],
)
def test_a_text_is_shown_only_where_it_is_made_of_names(examine, monkeypatch, line, words):
    monkeypatch.setenv("MINE", SECRET)
    monkeypatch.delenv("GITHUB_CLIENT_ID", raising=False)
    _, findings = examine(f"{SOUND}import os\n{line}\n")
    text = json.dumps(findings, ensure_ascii=False)
    assert words in text and SECRET not in text and SECRET.replace("-", "_") not in text


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()], ids=["text", "bytes"])
def test_what_a_class_raises_shows_no_secret(examine, secret):
    raised = dedent(
        f"""
        from oauthenticator.gitlab import GitLabOAuthenticator
        class Mine(GitLabOAuthenticator):
            def __init__(self, **given):
                super().__init__(**given)
                raise TraitError("not as it is: %s %s" % (self.client_id, {secret!r}))
        from traitlets import TraitError
        c.JupyterHub.authenticator_class = Mine
        c.Mine.api_tokens = [{secret!r}]
        """
    )
    (found,) = (finding for finding in examine(SOUND + raised)[1] if finding["id"] == "authenticator-fails")
    assert "not as it is: id" in found["what"] and SECRET not in found["what"]
    (found,) = (finding for finding in examine(SOUND + raised.replace("TraitError(", "ValueError("))[1] if finding["fix"])
    assert "ValueError, line" in found["what"] and "not as it is" not in found["what"]


def test_tokens_of_several_files_add_up(examine):
    more = 'c.TokenSpawnerMixin.tokens.update({"other": {"key": "refresh_token"}})\n'
    assert of(examine(SOUND + more)[1], "error") == ["spec-wrong"]
    lazy = SOUND.replace('c.TokenSpawnerMixin.tokens = {"gitlab": {"preset": "gitlab"}}', more)
    assert of(examine(lazy)[1], "error") == ["spec-wrong"]


def test_what_a_class_needs_is_named(examine, monkeypatch):
    for module in ("spawner_tokens.docker", "dockerspawner"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Without("dockerspawner"), *sys.meta_path])
    for name in ("tokens-docker", "spawner_tokens.TokenDockerSpawner"):
        status, (found,) = examine(SOUND.replace("tokens-simple", name))
        assert found["id"] == "class-unknown" and "TokenDockerSpawner needs more packages" in found["what"]
        assert found["fix"] == [{"kind": "words", "text": "pip install 'spawner_tokens[docker]'"}]


class Without:
    """An importer to which a package is not installed."""

    def __init__(self, package):
        self.package = package

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_no_value_of_a_wrong_setting_is_shown(examine):
    status, findings = examine(SOUND + 'c.GitLabOAuthenticator.client_secret = ["the-client-secret"]\n')
    assert status == 1 and of(findings, "error") == ["authenticator-fails"]


def test_nothing_is_started_and_nothing_is_written(examine, tmp_path):
    examine(SOUND + f"c.JupyterHub.db_url = 'sqlite:///{tmp_path}/hub.sqlite'\n")
    assert [path.name for path in tmp_path.iterdir()] == ["hub_config.py"]


def test_bitbucket_grants_what_its_consumer_has(examine):
    more = 'c.TokenSpawnerMixin.tokens["t"]["required_scopes"] = ["repository"]'
    assert of(examine(login("bitbucket", "bitbucket", more=more))[1], "error") == []
    assert of(examine(login("bitbucket", "bitbucket", ["account"], more))[1], "error") == ["scopes-not-asked"]


def test_of_a_strangers_authenticator_nothing_is_claimed(examine):
    own = dedent(
        """
        from jupyterhub.auth import Authenticator
        class Mine(Authenticator):
            pass
        c.JupyterHub.authenticator_class = Mine
        """
    )
    status, findings = examine(SOUND + own)
    assert status == 0 and not {"authenticator", "keys", "scopes"} & {finding["id"] for finding in findings}


def test_a_check_that_fails_is_no_traceback(examine):
    broken = dedent(
        """
        from spawner_tokens import TokenSimpleLocalProcessSpawner
        class Mine(TokenSimpleLocalProcessSpawner):
            delivery_delay = property(lambda self: print("hello") or 1 / 0)
        c.JupyterHub.spawner_class = Mine
        """
    )
    status, findings = examine(SOUND + broken)
    assert status == 0 and of(findings, "warning") == ["lifetime"]
    assert "ZeroDivisionError" in json.dumps(findings) and "servers-scopes" in of(findings, "ok")


def test_a_hook_that_leaves_the_environment_alone_is_left_alone(examine):
    hook = dedent(
        """
        async def look(spawner):
            auth_state = await spawner.user.get_auth_state()
            spawner.environment["TEAM"] = "a" if auth_state else "b"

        def other(spawner):
            spawner.environment["SOME_TOKEN"] = "b"

        class Callable:
            def __call__(self, spawner):
                pass

        c.Spawner.pre_spawn_hook = look
        """
    )
    for name in ("look", "other", "Callable()", "print", "lambda spawner: spawner.environment"):
        status, findings = examine(SOUND + hook + f"c.Spawner.pre_spawn_hook = {name}\n")
        assert status == 0 and of(findings, "warning") == [], name


def test_a_hook_in_the_charts_values_is_read_too(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"].setdefault("extraConfig", {})["hook"] = dedent(
        """
        async def hook(spawner):
            auth_state = await spawner.user.get_auth_state()
            spawner.environment["TOKEN"] = auth_state["access_token"]

        if get_config("custom.hook"):
            c.KubeSpawner.pre_spawn_hook = hook
        """
    )
    values["custom"] = {"hook": True}
    _, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    (found,) = (finding for finding in findings if finding["level"] == "warning")
    assert found["id"] == "hook-writes-tokens" and "sets TOKEN" in found["what"]
    assert found["fix"] == [{"kind": "config", "text": "hub.config.KubeSpawner.pre_spawn_hook: null"}]


# -- whose configurations go through -------------------------------------------------------------

# After the pages "GitHub Setup" and so on of OAuthenticator's documentation, with auth state and a token.
DOCUMENTED = [
    param("github", "GitHubOAuthenticator", "", "github", ["refresh-token-never"], id="github"),
    param("gitlab", "GitLabOAuthenticator", "", "gitlab", ["scopes-too-powerful"], id="gitlab"),
    param("google", "GoogleOAuthenticator", "", "google", ["refresh-token-not-asked"], id="google"),
    param(
        "azuread",
        "AzureAdOAuthenticator",
        'c.AzureAdOAuthenticator.tenant_id = "tenant"\nc.AzureAdOAuthenticator.scope = ["openid", "profile", "email"]',
        "azuread",
        ["refresh-token-not-asked"],
        id="azuread",
    ),
    param(
        "generic-oauth",
        "GenericOAuthenticator",
        """
c.GenericOAuthenticator.authorize_url = "https://accounts.example.org/oauth2/authorize"
c.GenericOAuthenticator.token_url = "https://accounts.example.org/oauth2/token"
c.GenericOAuthenticator.userdata_url = "https://accounts.example.org/userinfo"
c.GenericOAuthenticator.scope = ["openid", "email", "groups"]
c.GenericOAuthenticator.username_claim = "email"
c.GenericOAuthenticator.manage_groups = True
c.GenericOAuthenticator.auth_state_groups_key = "oauth_user.groups"
c.GenericOAuthenticator.admin_groups = {"administrator"}
""",
        "oidc",
        ["refresh-token-not-asked"],
        id="generic",
    ),
    param(
        "cilogon",
        "CILogonOAuthenticator",
        """
c.CILogonOAuthenticator.allowed_idps = {
    "https://github.com/login/oauth/authorize": {"username_derivation": {"username_claim": "email"}},
}
""",
        "oidc",
        ["refresh-token-not-asked"],
        id="cilogon",
    ),
    param("globus", "GlobusOAuthenticator", "", "globus", [], id="globus"),
    param("bitbucket", "BitbucketOAuthenticator", "", "bitbucket", [], id="bitbucket"),
]


@pytest.mark.parametrize("entry_point, cls, more, preset, warnings", DOCUMENTED)
def test_oauthenticators_own_examples_have_no_error(examine, entry_point, cls, more, preset, warnings):
    config = f"""
c.JupyterHub.authenticator_class = "{entry_point}"
c.OAuthenticator.oauth_callback_url = "https://hub.example.org/hub/oauth_callback"
c.OAuthenticator.client_id = "[your oauth2 application id]"
c.OAuthenticator.client_secret = "[your oauth2 application secret]"
c.OAuthenticator.allow_all = True
{more}
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {{"login": {{"preset": "{preset}"}}}}
"""
    status, findings = examine(config)
    assert status == 0 and of(findings, "error") == []
    assert of(findings, "warning") == warnings


@pytest.mark.parametrize("code", list(blocks("python")))
def test_the_readmes_examples_have_no_false_error(examine, cluster, code):
    cluster(VERBS)
    if "authenticator_class" not in code:
        preset = re.search(r'"preset": "(github|gitlab|google|azuread)"', code)
        cls = {"github": "github", "google": "google", "azuread": "azuread"}.get(preset[1] if preset else "", "gitlab")
        if "AzureAd" in code:
            cls = "azuread"
        cls = "generic-oauth" if re.search("oauth_user|exchanged|id_token|aws|azure\"|gcp|storage|HF_", code) else cls
        code = f"c.JupyterHub.authenticator_class = '{cls}'\n{code}"
        code += '\nc.GenericOAuthenticator.scope = ["openid", "offline_access"]\n'
    if "enable_auth_state" not in code:
        code += "\nc.Authenticator.enable_auth_state = True\n"
    status, findings = examine(code)
    expected = set()
    if "exchanged_tokens" in code or "teams_token" in code:
        expected.add("key-never-stored")  # the admin's own authenticator makes it
    if "acces_token" in code:  # the doctor's own sample
        expected.add("key-never-stored")
    if re.search("docker", code):
        expected.add("docker-unreachable")
    if "spawner_class" not in code:
        expected.add("mixin-missing")
    assert set(of(findings, "error")) <= expected, findings
    assert ("hook-writes-tokens" in of(findings, "warning")) == ("spawner.environment[" in code)


@pytest.mark.parametrize("text", values_files())
def test_the_readmes_values_have_no_error(examine, text, cluster, monkeypatch):
    cluster(VERBS)
    monkeypatch.delenv(KEY)  # the chart makes one
    status, findings = examine(text, "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == [], findings
    assert "auth-state" in of(findings, "ok")


def test_a_fix_for_values_is_a_path_in_them(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    broken = text.replace("enable_auth_state: true", "enable_auth_state: false").replace(", read_repository", ", api")
    status, findings = examine(broken, "values.yaml", "--values")
    assert status == 1
    assert of(findings, "error") == ["auth-state-off"] and of(findings, "warning") == ["scopes-too-powerful"]
    values = yaml.safe_load(broken)
    for finding in findings:
        for part in finding["fix"]:
            path, _, value = part["text"].partition(": ")
            *parents, last = path.split(".")
            node = values
            for parent in parents:
                node = node[parent]
            node[last] = yaml.safe_load(value)
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == []


def test_values_in_another_encoding_are_named(tmp_path, capsys):
    (tmp_path / "values.yaml").write_bytes("hub: {config: {A: {b: é}}}".encode("latin-1"))
    assert main(["doctor", "--values", "values.yaml"]) == 1
    assert "is not in UTF-8" in capsys.readouterr().out


def test_blocks_have_what_the_chart_gives_them(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["extraConfig"] = {
        "a": "from z2jh import get_config\nif get_config('custom.on'):\n    c.JupyterHub.port = len(sys.argv[:0]) + 8001",
        "b": "assert re.match('.', os.sep) and get_name('hub') == 'hub'",
    }
    values["custom"] = {"on": True}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == [] and "z2jh" not in sys.modules
    status, findings = examine(yaml.safe_dump({"jupyterhub": values}), "values.yaml", "--values")
    assert status == 0 and of(findings, "warning") == []


def test_the_values_beside_hub_config_are_read(examine, cluster):
    cluster(VERBS)
    (text,) = (block.values[0] for block in values_files())
    values = yaml.safe_load(text)
    values["hub"]["loadRoles"] = {"server": {"scopes": ["admin:auth_state!user"]}}
    (variable,) = {"GITLAB_TOKEN", "GITHUB_TOKEN", "GH_TOKEN"} & {*re.findall("G[A-Z]+_TOKEN", text), "GITLAB_TOKEN"}
    values.setdefault("singleuser", {})["extraEnv"] = {variable: "x"}
    status, findings = examine(yaml.safe_dump(values), "values.yaml", "--values")
    assert status == 1 and of(findings, "error") == ["servers-read-auth-state"]
    assert of(findings, "warning") == ["environment-wins"]
    assert "singleuser.extraEnv" in json.dumps(findings)


@pytest.mark.parametrize(
    "text, words",
    [
        param("hub: [", "is no YAML, line 1", id="no-yaml"),
        param("text", "'hub' is no mapping", id="no-values"),
        param("hub: {config: {JupyterHub: 5}}", "hub.config: 'JupyterHub' is no mapping", id="no-section"),
        param("hub: {config: {5: {a: b}}}", "a section's name is no text", id="no-name"),
        param("hub: {extraConfig: [1]}", "hub: 'extraConfig' is no mapping", id="no-blocks"),
        param("hub: {extraConfig: {a: 'c.x = undefined'}}", "undefined", id="code"),
    ],
)
def test_values_that_cannot_be_loaded_are_named(examine, text, words):
    status, (found,) = examine(text, "values.yaml", "--values")
    assert status == 1 and found["id"] == "config-fails" and words in found["what"]


# -- how it is told ------------------------------------------------------------------------------


def run(tmp_path, *arguments, terminal=False, **environment):
    """The command's output, in a pipe or on a terminal."""
    import pty

    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py", *arguments]
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    if not terminal:
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    main_end, other_end = pty.openpty()
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=other_end, stderr=subprocess.DEVNULL)
    os.close(other_end)
    out = b""
    try:
        while chunk := os.read(main_end, 4096):
            out += chunk
    except OSError:  # its other end is closed
        pass
    os.close(main_end)
    process.wait()
    return out.decode().replace("\r\n", "\n")


def test_it_is_coloured_on_a_terminal_and_plain_in_a_pipe(tmp_path):
    (tmp_path / "hub_config.py").write_text(CASES[0].values[0])
    plain = run(tmp_path)
    assert plain.startswith("error    auth-state-off\n") and plain.endswith("1 error, 0 warnings, 13 ok\n")
    assert "\n         → c.Authenticator.enable_auth_state = True\n" in plain
    coloured = run(tmp_path, terminal=True)
    assert "\033[31merror" in coloured and re.sub(r"\033\[\d+m", "", coloured) == plain
    assert run(tmp_path, terminal=True, NO_COLOR="1") == plain


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    (tmp_path / "hub_config.py").write_text(CASES[0].values[0])
    command = f"{sys.executable} -m spawner_tokens doctor -f hub_config.py | true"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == ""


def test_an_output_in_ascii_has_other_arrows(tmp_path):
    (tmp_path / "hub_config.py").write_text(CASES[0].values[0])
    plain = run(tmp_path, PYTHONIOENCODING="ascii")
    assert "\n         -> c.Authenticator.enable_auth_state = True\n" in plain


# -- what the README says of it ------------------------------------------------------------------


def test_the_readmes_sample_is_what_is_printed(tmp_path):
    section = README.read_text().split("When something is wrong\n====")[1]
    (block,) = (each.values[0] for each in blocks("python") if "When something is wrong" in each.id)
    printed = dedent(section.split("$ spawner-tokens doctor -f jupyterhub_config.py\n")[1].split("\n\n")[0])
    (tmp_path / "hub_config.py").write_text(block)
    assert run(tmp_path) == printed + "\n"


def test_the_readmes_table_has_all_findings():
    source = "".join(path.read_text() for path in PACKAGE.glob("*.py"))
    ids = set(re.findall(r"(?:error|warning)\(\s*\"([a-z-]+)\"", source)) | {
        f"{part}-fails" for part in ("config", "hub", "authenticator", "spawner")
    }
    section = README.read_text().split("When something is wrong\n====")[1].split("\nSecurity considerations\n")[0]
    assert set(re.findall(r"^``([a-z-]+)`` ", section, re.MULTILINE)) == ids
    assert ids - {"crypt-key-missing", "version-too-old", "docker-unreachable"} - {
        *("kubernetes-rights", "kubernetes-not-asked", "kubernetes-unreachable", "lifetime-too-short"),
    } == {case.values[1] for case in CASES}


def test_no_other_module_needs_the_doctor():
    for path in PACKAGE.parent.glob("*.py"):
        if path.stem != "__main__":
            assert "doctor import" not in path.read_text()
