"""The doctor: each finding by a broken configuration, and its printed fix makes it go away."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from pytest import param

import spawner_tokens.doctor

from ..support.examining import (  # noqa: F401
    GENERIC,
    SOUND,
    append,
    by_hand,
    examine,
    find_and_mend,
    hubs_environment,
    login,
)
from ..support.reference import README
from . import test_doctor_hooks

PACKAGE = Path(spawner_tokens.doctor.__file__).parent

CASES = [
    param(
        SOUND.replace("enable_auth_state = True", "enable_auth_state = False"),
        "auth-state-off",
        append,
        id="off",
    ),
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
    param(
        SOUND.replace('"gitlab"\n', '"dummy"\n', 1), "login-without-tokens", append, id="no-oauth"
    ),
    param(SOUND.replace("tokens-simple", "simple"), "mixin-missing", append, id="no-mixin"),
    param(SOUND.replace("tokens-simple", "docker"), "mixin-missing", append, id="no-mixin-docker"),
    param(
        SOUND.replace("tokens-simple", "systemd"), "mixin-missing", append, id="no-mixin-systemd"
    ),
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
        by_hand(
            "class Mine(LocalProcessSpawner)",
            "from spawner_tokens import LocalTokenMixin\nclass Mine(LocalTokenMixin, LocalProcessSpawner)",
        ),
        id="no-mixin-own-class",
    ),
    *(
        param(
            f"""{SOUND}
from {module} import {spawner}
from spawner_tokens import {wrong}
class K({wrong}, {spawner}): pass
c.JupyterHub.spawner_class = K
""",
            "mixin-wrong",
            by_hand(wrong, right),
            id=f"{wrong}-{spawner}",
        )
        for module, spawner, wrong, right in [
            ("kubespawner", "KubeSpawner", "LocalTokenMixin", "KubeTokenMixin"),
            ("dockerspawner", "DockerSpawner", "LocalTokenMixin", "DockerTokenMixin"),
            ("dockerspawner", "SwarmSpawner", "DockerTokenMixin", "SwarmTokenMixin"),
            ("jupyterhub.spawner", "LocalProcessSpawner", "DockerTokenMixin", "LocalTokenMixin"),
        ]
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
        by_hand(
            "Mine(SimpleLocalProcessSpawner, LocalTokenMixin)",
            "Mine(LocalTokenMixin, SimpleLocalProcessSpawner)",
        ),
        id="mixin-last",
    ),
    param(
        SOUND.replace('"preset":', '"prest":'),
        "spec-wrong",
        by_hand('"prest"', '"preset"'),
        id="spec-field",
    ),
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
    param(
        SOUND.replace('{"gitlab": {"preset": "gitlab"}}', "{}"),
        "tokens-none",
        append,
        id="no-tokens",
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"key": "acess_token"'),
        "key-never-stored",
        append,
        id="key-never-stored",
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
        SOUND.replace('"preset": "gitlab"', '"key": "id_token"'),
        "id-token-not-asked",
        append,
        id="id-token-not-asked",
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"variables": {"ME": "oauth_user.username"}'),
        "variable-never-stored",
        append,
        id="variable-never-stored",
    ),
    param(
        SOUND.replace('"preset": "gitlab"', '"preset": "github"'),
        "variable-never-stored",
        append,
        id="other-preset",
    ),
    param(
        SOUND + 'c.Spawner.environment = {"GITLAB_TOKEN": "x", "A": "b"}\n',
        "environment-wins",
        append,
        id="environment",
    ),
    param(
        SOUND.replace(
            '"preset": "gitlab"', '"preset": "gitlab", "required_scopes": ["write_repository"]'
        ),
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
        SOUND.replace(
            '"preset": "gitlab"',
            '"required_scopes": ["read_user", "api"], "forbidden_scopes": "api"',
        ),
        "scopes-contradictory",
        append,
        id="scopes-contradictory",
    ),
    param(
        login("google", "google", ["openid", "email"]).replace(
            '"preset": "google"', '"preset": "google", "required_scopes": ["openid", "email"]'
        ),
        "scopes-never-named",
        append,
        id="scopes-never-named",
    ),
    param(
        SOUND.replace('"read_repository"]', '"api", "sudo"]'),
        "scopes-too-powerful",
        append,
        id="gitlab-api",
    ),
    param(
        SOUND.replace('["read_user", "read_repository"]', "[]"),
        "scopes-too-powerful",
        append,
        id="gitlab-no-scope",
    ),
    param(
        login("github", "github", ["repo", "admin:org", "user:email"]),
        "scopes-too-powerful",
        append,
        id="github-repo",
    ),
    param(
        login("bitbucket", "bitbucket", ["account", "repository:admin"]),
        "scopes-too-powerful",
        append,
        id="bitbucket",
    ),
    param(
        GENERIC.replace('"email"', '"admin:everything"'),
        "scopes-too-powerful",
        append,
        id="generic-admin",
    ),
    param(login("google", "google"), "refresh-token-not-asked", append, id="google-offline"),
    param(login("azuread", "azuread"), "refresh-token-not-asked", append, id="azure-offline"),
    param(
        GENERIC.replace(', "offline_access"', ""),
        "refresh-token-not-asked",
        append,
        id="oidc-offline",
    ),
    param(
        login("github", "github").replace("Iv1.0123456789abcdef", "0123456789abcdef0123"),
        "refresh-token-never",
        by_hand("0123456789abcdef0123", "Iv23liABCDEFGHIJKLMN"),
        id="github-oauth-app",
    ),
    param(
        GENERIC.replace(
            '"preset": "oidc"', '"preset": "nbgallery", "url": "https://nb.example.org"'
        ),
        "refresh-token-never",
        append,
        id="nbgallery",
    ),
    param(login("mediawiki", "mediawiki"), "refresh-fails", append, id="mediawiki"),
    param(
        SOUND + "c.TokenSpawnerMixin.tokens_renew = False\nc.Authenticator.auth_refresh_age = 0\n",
        "never-refreshed",
        append,
        id="never-refreshed",
    ),
    param(
        SOUND + "c.Spawner.tokens_renew = False\n",
        "refresh-pre-spawn-alone",
        append,
        id="refresh-pre-spawn-alone",
    ),
    param(
        SOUND + "c.Authenticator.auth_refresh_age = 0\nc.Authenticator.refresh_pre_spawn = True\n",
        "refresh-pre-spawn-ignored",
        append,
        id="refresh-pre-spawn-ignored",
    ),
    param(
        GENERIC.replace("c.GenericOAuthenticator.userdata_url", "# ")
        + "c.OAuthenticator.userdata_from_id_token = True\n",
        "userdata-from-id-token",
        append,
        id="userdata-from-id-token",
    ),
    param(
        SOUND
        + 'c.Spawner.server_token_scopes = ["access:servers!server", "admin:auth_state!user"]\n',
        "servers-read-auth-state",
        append,
        id="server-token-scopes",
    ),
    param(
        SOUND + 'c.Spawner.server_token_scopes = ["inherit"]\n',
        "servers-inherit",
        by_hand('"inherit"', '"users:activity!user"'),
        id="servers-inherit",
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
        SOUND.replace("tokens-simple", "tokens-docker"),
        "docker-variables-frozen",
        append,
        id="docker-remove",
    ),
    param(
        SOUND.replace("c.TokenSpawnerMixin.tokens", "c.TokenSpawnerMixin.tokns"),
        "trait-unknown",
        append,
        id="trait-typo",
    ),
    param(
        SOUND.replace("c.TokenSpawnerMixin", "c.TokensSpawner"),
        "section-unknown",
        append,
        id="section-typo",
    ),
    param(
        SOUND + 'c.Spawner.tokens = {"other": {"env": "OTHER", "key": "id_token"}}\n',
        "tokens-twice",
        append,
        id="tokens-twice",
    ),
    param(
        SOUND.replace(
            'tokens = {"gitlab": {"preset": "gitlab"}}',
            'tokens.update({"x": {"key": "acces_token"}})',
        ),
        "key-never-stored",
        append,
        id="key-of-tokens-that-are-added",
    ),
    param(
        SOUND.replace("c.Authenticator.", "c.Authenticatr("),
        "config-fails",
        by_hand("r(", "r."),
        id="syntax",
    ),
    param(
        SOUND.replace('"gitlab"\n', '"gitlub"\n', 1),
        "class-unknown",
        append,
        id="unknown-authenticator",
    ),
    param(
        SOUND.replace("tokens-simple", "tokens-simpel"),
        "class-unknown",
        append,
        id="unknown-spawner",
    ),
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
    param(
        SOUND + "c.JupyterHub.hub_port = 'x'\n", "hub-fails", by_hand("'x'", "8081"), id="hub-trait"
    ),
    param(
        SOUND + "c.GitLabOAuthenticator.allow_all = 'the-client-secret'\n",
        "authenticator-fails",
        by_hand("'the-client-secret'", "True"),
        id="authenticator-trait",
    ),
    param(
        SOUND
        + "c.GitLabOAuthenticator.admin_groups = {'a'}\nc.GitLabOAuthenticator.client_id = 'x'\n",
        "authenticator-fails",
        by_hand("c.GitLabOAuthenticator.client_id = 'x'", "c.Authenticator.manage_groups = True"),
        id="authenticator-value",
    ),
    param(
        SOUND + "c.Spawner.start_timeout = 'long'\n",
        "spawner-fails",
        by_hand("'long'", "60"),
        id="spawner-trait",
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
    param(
        SOUND + "import sys\nsys.exit(3)\n", "config-fails", by_hand("sys.exit(3)", ""), id="exit"
    ),
]


@pytest.mark.parametrize("config, id, mend", CASES)
def test_a_mistake_is_found_and_the_printed_fix_mends_it(examine, config, id, mend):
    find_and_mend(examine, config, id, mend)


def test_the_readmes_table_has_all_findings():
    source = "".join(path.read_text() for path in PACKAGE.glob("*.py"))
    ids = set(re.findall(r"(?:error|warning)\(\s*\"([a-z-]+)\"", source)) | {
        f"{part}-fails" for part in ("config", "hub", "authenticator", "spawner")
    }
    section = (
        README.read_text()
        .split("When something is wrong\n====")[1]
        .split("\nSecurity considerations\n")[0]
    )
    assert set(re.findall(r"^``([a-z-]+)`` ", section, re.MULTILINE)) == ids
    assert ids - {"crypt-key-missing", "version-too-old", "docker-unreachable"} - {
        *(
            "kubernetes-rights",
            "kubernetes-not-asked",
            "kubernetes-unreachable",
            "lifetime-too-short",
        ),
        *("environment-not-seen", "part-not-seen"),
    } == {case.values[1] for case in (*CASES, *test_doctor_hooks.CASES)}


def test_no_other_module_needs_the_doctor():
    for path in PACKAGE.parent.glob("*.py"):
        if path.stem != "__main__":
            assert "doctor import" not in path.read_text()
