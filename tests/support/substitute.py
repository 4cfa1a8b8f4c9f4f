"""A pytest plugin: JupyterHub's own tests, with our class in place of the stock one.

``python -m pytest -p tests.support.substitute --pyargs jupyterhub.tests.test_spawner``
"""

import sys

import jupyterhub.spawner
import jupyterhub.utils

from spawner_tokens import TokenSimpleLocalProcessSpawner

from .ports import random_port

# Before those tests are imported: their MockSpawner and its subclasses derive from our class.
jupyterhub.spawner.SimpleLocalProcessSpawner = TokenSimpleLocalProcessSpawner
jupyterhub.utils.random_port = random_port


def pytest_collection_finish(session):
    mocking = sys.modules["jupyterhub.tests.mocking"]
    assert issubclass(mocking.MockSpawner, TokenSimpleLocalProcessSpawner)
    # the import of JupyterHub in each server would be most of these tests' time
    echo = [sys.executable, "-m", "tests.support.echo"]
    mocking.MockSpawner._cmd_default.func = lambda spawner: echo
    if named_servers := sys.modules.get("jupyterhub.tests.test_named_servers"):
        named_servers.normalize_user = _without_our_state(named_servers.normalize_user)


def _without_our_state(normalize_user):
    """What differs on purpose: the state of a server, which the API shows, has keys of ours."""

    def normalize(user):
        for server in user["servers"].values():
            if server["state"]:
                for ours in [key for key in server["state"] if key.startswith("tokens_")]:
                    del server["state"][ours]
        return normalize_user(user)

    return normalize
