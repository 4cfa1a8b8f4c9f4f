"""Findings of the spawner: its class, the specs, their variables, hooks, servers' scopes."""

import pytest
from jupyterhub.spawner import Spawner

from spawner_tokens.doctor.finding import WHY

from ..support.examining import (
    GENERIC,
    KUBERNETES,
    SOUND,
    TOKENS,
    check_case,
    find_one,
    list_cases,
    of,
    spec,
)
from . import test_login

DOCKER = SOUND.replace("tokens-simple", "tokens-docker") + "c.DockerSpawner.remove = True\n"
CLASS = """
from spawner_tokens import LocalTokenMixin
from {module} import {base} as Base
class {name}({bases}): pass
c.JupyterHub.spawner_class = {name}
"""
READING = '"scopes": ["self", "admin:auth_state!user"]'
INHERIT = '{"name": "server", "scopes": ["inherit"]}'
HOOK = """
async def hook(spawner):
    auth_state = await spawner.user.get_auth_state()
    spawner.environment["GITLAB_ACCESS_TOKEN"] = auth_state["access_token"]
"""
OF_STATE = """
def hook(s, told):
    s.environment.update(TOKEN=told["access"])
"""
METHOD = """
from {module} import {base} as Base
class Mine(Base):
    async def {name}(self, *arguments):
        env = (await self.user.get_auth_state())["access_token"]
c.JupyterHub.{kind}_class = Mine
"""
OF_AUTHENTICATOR = {
    "module": "oauthenticator.gitlab",
    "base": "GitLabOAuthenticator",
    "name": "pre_spawn_start",
    "kind": "authenticator",
}
OF_SPAWNER = {
    "module": "spawner_tokens",
    "base": "TokenSimpleLocalProcessSpawner",
    "name": "start",
    "kind": "spawner",
}


def spawner_class(base, bases, name="Mine", module="jupyterhub.spawner"):
    return SOUND + CLASS.format(base=base, bases=bases, name=name, module=module)


def roles(*roles):
    return f"{SOUND}c.JupyterHub.load_roles = [{', '.join(roles)}]\n"


def profile(override):
    override = f'"kubespawner_override": {override}'
    return KUBERNETES + f'c.KubeSpawner.profile_list = [{{"display_name": "GPU", {override}}}]\n'


def choice(override):
    override = f'{{"kubespawner_override": {override}}}'
    options = f'{{"size": {{"choices": {{"big": {override}}}, "unlisted_choice": {override}}}}}'
    options = f'"display_name": "GPU", "profile_options": {options}'
    return KUBERNETES + f"c.KubeSpawner.profile_list = [{{{options}}}]\n"


def group(override):
    override = f'{{"groups": [], "spawner_override": {override}}}'
    return f'{SOUND}c.Spawner.group_overrides = {{"g": {override}}}\n'


def hook(code, trait="pre_spawn_hook"):
    return f"{SOUND}{code}\nc.Spawner.{trait} = hook\n"


CASES = {
    "mixin-missing": [
        (SOUND.replace("tokens-simple", "simple"), SOUND),
        (spawner_class("SimpleLocalProcessSpawner", "Base", "WrapSpawner"), SOUND, "warning"),
    ],
    "mixin-wrong": [
        (spawner_class("KubeSpawner", "LocalTokenMixin, Base", module="kubespawner"), SOUND),
    ],
    "tokens-none": [(SOUND.replace(TOKENS, "{}"), SOUND)],
    "section-unknown": [
        (SOUND.replace("c.TokenSpawnerMixin", "c.TokensSpawner"), SOUND),
    ],
    "trait-unknown": [(SOUND.replace("tokens =", "tokns ="), SOUND)],
    "spec-wrong": [
        (SOUND.replace('"preset":', '"prest":'), SOUND),
        (SOUND.replace(TOKENS, '["gitlab"]'), SOUND),
        (
            spec('"required_scopes": ["api"], "forbidden_scopes": ["api"]'),
            spec('"required_scopes": ["api"]'),
        ),
        (SOUND + 'c.TokenSpawnerMixin.tokens.update({"b": {"key": "refresh_token"}})\n', SOUND),
        (profile('{"tokens": {"gitlab": {"prest": "x"}}}'), KUBERNETES),
        (choice('{"tokens": {"b": {"env": "GITLAB_TOKEN"}}}'), choice('{"cpu_limit": 1}')),
        (group('{"tokens": ["gitlab"]}'), group('{"tokens": {"gitlab": {"missing": "skip"}}}')),
    ],
    "environment-wins": [
        (
            SOUND + 'c.Spawner.environment = {"1_X": {"name": "GITLAB_TOKEN", "value": "x"}}\n',
            SOUND + 'c.Spawner.environment = {"1_X": {"name": "A", "value": "x"}}\n',
        ),
        (
            SOUND + 'c.Spawner.environment = {"GITLAB_TOKEN": "x", "A": "b"}\n',
            SOUND + 'c.Spawner.environment = {"A": "b"}\n',
        ),
        (
            choice('{"tokens": {"b": {"env": "MINE"}}, "environment": {"MINE": "x"}}'),
            choice('{"tokens": {"b": {"env": "MINE"}}, "environment": {"MINE": None}}'),
        ),
        (
            group('{"environment": {"GITLAB_TOKEN": "x"}}'),
            group('{"environment": {"GITLAB_TOKEN": None}, "mem_limit": "1G"}'),
        ),
    ],
    "null-ignored": [
        (
            profile('{"tokens": {"gitlab": {"env": None}}}'),
            profile('{"tokens": {"gitlab": {"env": False}}}'),
        ),
        (group('{"tokens": {"b": None}}'), group('{"tokens": {"gitlab": {"preset": None}}}')),
    ],
    "docker-variables-frozen": [
        (DOCKER + "c.DockerSpawner.remove = False\n", DOCKER),
    ],
    "hook-writes-tokens": [
        (hook(HOOK), hook("def hook(spawner): spawner.environment['A'] = 'b'")),
        (hook(OF_STATE, "auth_state_hook"), hook(OF_STATE)),
        (SOUND + METHOD.format(**OF_AUTHENTICATOR), SOUND),
        (SOUND + METHOD.format(**OF_SPAWNER), SOUND),
        (
            hook(f"from functools import partial\n{HOOK}\nhook = partial(hook)"),
            hook("def hook(spawner): auth_state = {}"),
        ),
    ],
    "servers-read-auth-state": [
        (
            SOUND + 'c.Spawner.server_token_scopes = ["self", "admin:auth_state!user"]\n',
            SOUND + 'c.Spawner.server_token_scopes = ["self", "inherit"]\n',
        ),
        (roles(f'{{"name": "server", {READING}}}', '{"name": "x"}'), roles(INHERIT)),
        (roles(f'{{"name": "user", {READING}}}'), SOUND, "warning"),
        (
            roles(INHERIT, f'{{"name": "team", {READING}, "groups": ["team"]}}'),
            roles(f'{{"name": "team", {READING}, "groups": ["team"]}}'),
        ),
        (
            roles(f'{{"name": "team", {READING}, "users": ["alice"]}}')
            + 'c.Spawner.server_token_scopes = ["inherit"]\n',
            roles(INHERIT, f'{{"name": "culler", {READING}, "services": ["culler"]}}'),
        ),
    ],
    "role-lets-others-in": [
        (
            roles('{"name": "team", "scopes": ["access:servers"], "groups": ["team"]}'),
            roles('{"name": "user", "scopes": ["self", "access:servers!user", "list:users"]}'),
            "warning",
        ),
        (
            roles('{"name": "bobs", "scopes": ["access:servers!user=alice"], "users": ["bob"]}'),
            roles('{"name": "bobs", "scopes": ["access:servers!user=alice"], "users": ["bob"]}')
            + 'c.TokenSpawnerMixin.tokens_shared = "deliver"\n',
            "warning",
        ),
    ],
    "config-fails": [
        (SOUND.replace("c.Authenticator.", "c.Authenticatr("), SOUND),
        (SOUND + "import sys\nsys.exit(3)\n", SOUND),
        (spawner_class("SimpleLocalProcessSpawner", "Base, LocalTokenMixin"), SOUND),
        (SOUND.replace('"gitlab"\n', '"gitlub"\n'), SOUND),
        (SOUND + "c.GitLabOAuthenticator.client_secret = ['the-client-secret']\n", SOUND),
        (
            SOUND + "c.GitLabOAuthenticator.admin_groups = {'a'}\n",
            SOUND + "c.GitLabOAuthenticator.admin_groups = set()\n",
        ),
    ],
}


@pytest.mark.parametrize("id, case", list_cases(CASES))
def test_a_broken_config_has_the_finding_and_the_mended_one_has_not(examine, cluster, id, case):
    if "group_overrides" in case[0] and not hasattr(Spawner, "group_overrides"):
        pytest.skip("a JupyterHub without group_overrides")
    check_case(examine, id, *case)


def test_every_finding_has_a_case():
    others = {"crypt-key-missing", "kubernetes-rights"}  # which have tests of their own
    assert CASES.keys() | test_login.CASES.keys() | others == WHY.keys()


@pytest.mark.parametrize("config", [SOUND, GENERIC, DOCKER], ids=["gitlab", "generic", "docker"])
def test_a_sound_config_has_no_finding(examine, config):
    status, findings = examine(config)
    assert status == 0 and {finding["level"] for finding in findings} == {"ok"}, findings


def test_a_check_that_raises_is_reported(examine):
    broken = """
from spawner_tokens import TokenSimpleLocalProcessSpawner
class Mine(TokenSimpleLocalProcessSpawner):
    delivery_delay = property(lambda self: print("hello") or 1 / 0)
c.JupyterHub.spawner_class = Mine
"""
    status, findings = examine(SOUND + broken)
    assert status == 0 and of(findings, "warning") == ["lifetime"]
    assert "ZeroDivisionError, line" in find_one(findings, "lifetime")["what"]
    assert "servers-scopes" in of(findings, "ok")


@pytest.mark.parametrize(
    "broken, id, words",
    [
        (
            METHOD.format(**OF_AUTHENTICATOR | {"name": "x"})
            + "Mine.token_url = property(lambda self: open('the-client-secret'))\n",
            "keys",
            "The check keys could not be made: FileNotFoundError",
        ),
        (
            "c.JupyterHub.load_roles = [c.JupyterHub.load_roles]\n"
            "c.JupyterHub.load_roles[0] = c.JupyterHub.load_roles\n",
            "config-fails",
            "The app cannot be made: TraitError: …",
        ),
    ],
    ids=["provider", "config-in-itself"],
)
def test_what_cannot_be_read_is_a_finding_and_no_traceback(examine, broken, id, words):
    assert words in find_one(examine(SOUND + broken)[1], id)["what"]
