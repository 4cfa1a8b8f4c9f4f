"""The admin's own classes are made as the Hub makes them, and nothing of the Hub is touched."""

import psutil
import pytest
from pytest import param

from ..support.examining import SOUND, find_one, of

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
import asyncio
from spawner_tokens import {base} as Base
class Mine(Base):
    def __init__(self, **given):
        super().__init__(**given)
        asked = {asked}
c.JupyterHub.spawner_class = Mine
c.DockerSpawner.remove = True
c.JupyterHub.hub_port = 4321
c.JupyterHub.base_url = "/prefix/"
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
def test_an_authenticator_is_made_with_what_the_hub_gives_it(examine, asked):
    _, findings = examine(SOUND + OWN_AUTHENTICATOR.format(asked=asked))
    assert {finding["level"] for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize("base", ["TokenSimpleLocalProcessSpawner", "TokenDockerSpawner"])
@pytest.mark.parametrize(
    "asked",
    [
        param("self.user.admin or self.user.name.upper()", id="its-user"),
        param("self.user.orm_user.groups, self.user.roles", id="groups-and-roles"),
        param('{"/prefix/user/alice/": 1}[self.user.url]', id="addresses"),
        param("self.user.settings['app'].hub_prefix", id="settings"),
        param("self.user.spawners, self.user.active", id="other-servers"),
        param('{"http://127.0.0.1:4321/prefix/hub/api": 1}[self.hub.api_url]', id="the-hub"),
        param("1 / self.orm_spawner.id, self.orm_spawner.user.name", id="its-row"),
        param("self.db.commit()", id="its-database"),
        param("self.authenticator.admin_users, self.user_options.get('x')", id="the-rest"),
        param("asyncio.get_running_loop()", id="a-running-loop"),
    ],
)
def test_a_spawner_is_made_with_what_the_hub_gives_it(examine, base, asked):
    _, findings = examine(SOUND + OWN_SPAWNER.format(base=base, asked=asked))
    assert {finding["level"] for finding in findings} == {"ok"}, findings


def test_what_the_hub_does_not_give_either_is_an_error(examine):
    own = OWN_SPAWNER.format(base="TokenSimpleLocalProcessSpawner", asked="self.user.nothing")
    found = find_one(examine(SOUND + own)[1], "config-fails")
    assert "The spawner cannot be made: AttributeError" in found["what"]


SWEEPING = """
import os, psutil
from spawner_tokens import TokenSimpleLocalProcessSpawner
class Mine(TokenSimpleLocalProcessSpawner):
    async def sweep_files(self):
        os.remove({left!r})
    def __init__(self, **given):
        super().__init__(**given)
        listening = [each for each in psutil.Process().net_connections() if each.status == "LISTEN"]
        assert len(listening) == {listening}
c.JupyterHub.spawner_class = Mine
c.JupyterHub.db_url = "sqlite:///hub.sqlite"
"""


def test_neither_the_hubs_database_nor_a_port_nor_a_file_of_a_server_is_touched(examine, tmp_path):
    """A Spawner that a Hub loads sweeps what is left of servers that do not run."""
    left = tmp_path / "left-behind"
    left.write_text("of another Hub")
    listening = [each for each in psutil.Process().net_connections() if each.status == "LISTEN"]
    _, findings = examine(SOUND + SWEEPING.format(left=str(left), listening=len(listening)))
    assert of(findings, "error", "warning") == []
    assert {path.name for path in tmp_path.iterdir()} == {"left-behind", "hub_config.py"}
