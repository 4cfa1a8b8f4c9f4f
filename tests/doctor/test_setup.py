"""The admin's own classes are made as the Hub makes them, and nothing of the Hub is touched."""

import psutil
import pytest

from ..support.examining import SOUND, of

AUTHENTICATOR = """
from jupyterhub import orm
from oauthenticator.gitlab import GitLabOAuthenticator
class Mine(GitLabOAuthenticator):
    def __init__(self, **given):
        super().__init__(**given)
        assert self.db.query(orm.User).count() == self.parent.db.query(orm.User).count() == 1
        assert self.parent.hub.api_url and self.parent.base_url + self.parent.hub_prefix
c.JupyterHub.authenticator_class = Mine
"""

SPAWNER = """
import asyncio
from spawner_tokens import {base} as Base
class Mine(Base):
    def __init__(self, **given):
        super().__init__(**given)
        assert asyncio.get_running_loop()
        user = self.user
        assert not user.admin and not user.orm_user.groups and not user.roles and not user.active
        assert user.name == self.orm_spawner.user.name and user.spawners is not None
        assert user.url == "/prefix/user/alice/" and user.settings["app"].hub_prefix
        assert self.hub.api_url == "http://127.0.0.1:4321/prefix/hub/api"
        assert 1 / self.orm_spawner.id and self.authenticator.admin_users is not None
        assert self.user_options.get("x") is None
        self.db.commit()
        {more}
c.JupyterHub.spawner_class = Mine
c.DockerSpawner.remove = True
c.JupyterHub.hub_port = 4321
c.JupyterHub.base_url = "/prefix/"
"""


def test_an_authenticator_is_made_with_what_the_hub_gives_it(examine):
    _, findings = examine(SOUND + AUTHENTICATOR)
    assert {finding["level"] for finding in findings} == {"ok"}, findings


@pytest.mark.parametrize("base", ["TokenSimpleLocalProcessSpawner", "TokenDockerSpawner"])
def test_a_spawner_is_made_with_what_the_hub_gives_it(examine, base):
    _, findings = examine(SOUND + SPAWNER.format(base=base, more=""))
    assert {finding["level"] for finding in findings} == {"ok"}, findings


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
