"""What is not looked at is one line, and never ok. What may be elsewhere is not called absent."""

import pytest
from pytest import param

from ..support.examining import GENERIC, KUBERNETES, SOUND, find_one, login, of, spec

OWN = """
from jupyterhub.auth import Authenticator
class Mine(Authenticator): pass
c.JupyterHub.authenticator_class = Mine
"""
PROVIDER = GENERIC.replace(', "offline_access"', "")


@pytest.mark.parametrize(
    "config, id, words",
    [
        param(SOUND + OWN, "authenticator", "Mine is not an OAuthenticator", id="authenticator"),
        param(
            SOUND.replace('"gitlab"\n', '"dummy"\n')
            + "c.Authenticator.post_auth_hook = lambda authenticator, handler, model: model\n",
            "authenticator",
            "DummyAuthenticator is not an OAuthenticator",
            id="post-auth-hook",
        ),
        param(
            SOUND.replace('"preset": "gitlab"', '"key": lambda state: state["x"]'),
            "keys",
            "tokens['gitlab'].key",
            id="key-that-is-a-function",
        ),
        param(
            spec('"key": "gitlab_user.x"'), "keys", "tokens['gitlab'].key", id="inside-of-answer"
        ),
        param(login("bitbucket"), "scopes", "as the consumer is registered", id="bitbucket"),
        param(PROVIDER, "refresh-token", "offline_access", id="unknown-provider"),
        param(
            SOUND + "c.Spawner.pre_spawn_hook = print\n",
            "hooks",
            "Spawner.pre_spawn_hook, which has no source here",
            id="hook",
        ),
        param(
            SOUND + "c.TokenSpawnerMixin.tokens_hook = lambda spawner, state, tokens: 1 / 0\n",
            "hooks",
            "what tokens_hook gives: the Hub's log says if it is dead",
            id="tokens-hook",
        ),
        param(
            SOUND + "c.Spawner.server_token_scopes = lambda spawner: 1 / 0\n",
            "servers-scopes",
            "Spawner.server_token_scopes, a function",
            id="scopes-that-are-a-function",
        ),
        param(
            KUBERNETES + "c.KubeSpawner.profile_list = lambda spawner: 1 / 0\n",
            "overrides",
            "profile_list, a function",
            id="profiles",
        ),
    ],
)
def test_what_is_not_looked_at_is_one_line_and_not_ok(examine, cluster, config, id, words):
    status, findings = examine(config)
    assert of(findings, "error", "warning") == []
    found = find_one(findings, id)
    assert found["level"] == "note" and found["what"].startswith("not looked at: ")
    assert words in found["what"] and "\n" not in found["what"]


@pytest.mark.parametrize("address", ["dev-1.okta.com/oauth2/v1/token", "x.auth0.com/oauth/token"])
def test_offline_access_is_proposed_only_to_providers_that_take_it(examine, address):
    """django-oauth-toolkit refuses a login that asks for a scope that it does not know."""
    known = PROVIDER.replace("sso.example.org/token", address)
    found = find_one(examine(known)[1], "refresh-token-not-asked")
    assert found["fix"] == 'add "offline_access" to c.GenericOAuthenticator.scope'
    assert "add " not in str(examine(PROVIDER)[1])


@pytest.mark.parametrize("trait", ["claim_groups_key", "auth_state_groups_key"])
def test_only_what_is_secret_is_masked(examine, monkeypatch, trait):
    monkeypatch.setenv("GROUPS_CLAIM", "groups")
    name = "GenericOAuthenticator"
    found = find_one(examine(f"{GENERIC}c.{name}.{trait} = 'groups'\n")[1], "config-fails")
    assert f"{name}.{trait} requires {name}.manage_groups to also be set" in found["what"]


HOOK = """
from oauthenticator.gitlab import GitLabOAuthenticator
from traitlets import Any
class Mine(GitLabOAuthenticator):
    pre_spawn_hook = Any().tag(config=True)
    async def pre_spawn_start(self, user, spawner):
        await self.pre_spawn_hook(self, spawner, await user.get_auth_state())
def hook(authenticator, spawner, auth_state):
    spawner.environment["TOKEN"] = auth_state["access_token"]
c.JupyterHub.authenticator_class = Mine
"""


def test_a_hook_of_the_authenticator_is_looked_at(examine):
    assert "hook-writes-tokens" not in of(examine(SOUND + HOOK)[1], "warning")
    _, findings = examine(f"{SOUND}{HOOK}c.Mine.pre_spawn_hook = hook\n")
    assert "Mine.pre_spawn_hook has both" in find_one(findings, "hook-writes-tokens")["what"]
