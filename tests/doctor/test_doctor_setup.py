"""The doctor and the admin's own classes: they are made as the Hub makes them, and asked for nothing that it gives them."""

import json
from textwrap import dedent

import psutil
import pytest
from pytest import param

from ..support.examining import SOUND, examine, hubs_environment, of  # noqa: F401

OWN_AUTHENTICATOR = """
from jupyterhub import orm
from oauthenticator.gitlab import GitLabOAuthenticator
class Mine(GitLabOAuthenticator):
    def __init__(self, **given):
        super().__init__(**given)
        asked = {asked}
c.JupyterHub.authenticator_class = Mine
"""

OWN_SPAWNER = """
from spawner_tokens import {base} as Base
class Mine(Base):
    def __init__(self, **given):
        super().__init__(**given)
        asked = {asked}
c.JupyterHub.spawner_class = Mine
c.DockerSpawner.remove = True
"""


@pytest.mark.parametrize(
    "asked",
    [
        param("self.db.query(orm.User).all()", id="its-database"),
        param("self.parent.db.query(orm.Group).count()", id="the-hubs-database"),
        param("self.parent.hub.api_url", id="the-hub"),
        param("self.parent.base_url + self.parent.hub_prefix", id="the-hubs-config"),
    ],
)
def test_an_authenticator_is_made_with_what_the_hub_gives_it(examine, asked):  # noqa: F811
    _, findings = examine(SOUND + OWN_AUTHENTICATOR.format(asked=asked))
    assert {finding["level"] for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize(
    "base", ["TokenSimpleLocalProcessSpawner", "TokenLocalProcessSpawner", "TokenDockerSpawner"]
)
@pytest.mark.parametrize(
    "asked",
    [
        param("self.user.admin or self.user.name.upper()", id="its-user"),
        param("[group.name for group in self.user.orm_user.groups]", id="groups"),
        param("[role.name for role in self.user.roles]", id="roles"),
        param("self.user.url + self.user.proxy_spec + self.user.escaped_name", id="addresses"),
        param(
            "self.user.settings['base_url'] + self.user.settings['app'].hub_prefix", id="settings"
        ),
        param("self.user.spawners, self.user.active", id="other-servers"),
        param("1 / self.hub.port", id="the-hubs-port"),
        param("self.hub.api_url + self.hub.base_url", id="the-hubs-addresses"),
        param("1 / self.orm_spawner.id, self.orm_spawner.user.name", id="its-row"),
        param("self.db.commit()", id="its-database"),
        param(
            "self.authenticator.admin_users, self.proxy_spec.strip(), self.user_options.get('x')",
            id="the-rest",
        ),
    ],
)
def test_a_spawner_is_made_with_what_the_hub_gives_it(examine, base, asked):  # noqa: F811
    _, findings = examine(SOUND + OWN_SPAWNER.format(base=base, asked=asked))
    assert not of(findings, "warning") and set(of(findings, "error")) <= {"docker-unreachable"}, (
        findings
    )


def test_what_is_not_there_in_the_hub_either_is_an_error(examine):  # noqa: F811
    for asked, words in [
        ("self.user.nothing", "AttributeError"),
        ("1 / len(self.user.groups)", "ZeroDivisionError"),
    ]:
        _, findings = examine(
            SOUND + OWN_SPAWNER.format(base="TokenSimpleLocalProcessSpawner", asked=asked)
        )
        assert of(findings, "error") == ["spawner-fails"] and words in json.dumps(findings)


def test_the_hub_is_the_one_of_the_config(examine):  # noqa: F811
    config = dedent(
        """
        c.JupyterHub.hub_port = 4321
        c.JupyterHub.base_url = "/prefix/"
        """
    )
    asked = '{"http://127.0.0.1:4321/prefix/hub/api": 1}[self.hub.api_url], {"/prefix/user/alice/": 1}[self.user.url]'
    _, findings = examine(
        SOUND + config + OWN_SPAWNER.format(base="TokenSimpleLocalProcessSpawner", asked=asked)
    )
    assert {finding["level"] for finding in findings} == {"ok"}, findings
    assert of(examine(SOUND + 'c.JupyterHub.hub_bind_url = "http://[::1:x/"\n')[1], "error") == [
        "hub-fails"
    ]


def test_neither_the_hubs_database_nor_a_port_nor_a_file_of_a_server_is_touched(
    examine, tmp_path, monkeypatch
):  # noqa: F811
    """A Spawner that a Hub loads sweeps what is left of servers that do not run."""
    left = tmp_path / "memory" / "left-behind"
    left.parent.mkdir()
    left.write_text("of another Hub")
    sweeping = dedent(
        f"""
        import os, psutil
        from spawner_tokens import TokenSimpleLocalProcessSpawner
        class Mine(TokenSimpleLocalProcessSpawner):
            async def sweep_files(self):
                os.remove("{left}")
            def __init__(self, **given):
                super().__init__(**given)
                listening = [each for each in psutil.Process().net_connections() if each.status == "LISTEN"]
                assert len(listening) == {len(listening())}
        c.JupyterHub.spawner_class = Mine
        c.JupyterHub.db_url = "sqlite:///{tmp_path}/hub.sqlite"
        """
    )
    before = {path.name for path in tmp_path.iterdir()}
    _, findings = examine(SOUND + sweeping)
    assert {finding["level"] for finding in findings} == {"ok"}, findings
    assert left.exists() and {path.name for path in tmp_path.iterdir()} == before | {
        "hub_config.py"
    }


def listening():
    return [each for each in psutil.Process().net_connections() if each.status == "LISTEN"]
