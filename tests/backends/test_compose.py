"""The tutorial's compose file: a Hub in a container starts servers that hold tokens."""

import asyncio
import json
import os
import secrets
import sys
import urllib.request
from pathlib import Path

import pytest
import yaml

import spawner_tokens

from ..support.engine import MOUNTS
from ..support.hub import SERVER
from ..support.pages import blocks
from ..support.waiting import until

DIRECTORY = "/var/run/secrets/spawner-tokens"
pytestmark = [pytest.mark.xdist_group("compose"), pytest.mark.timeout(240)]

CONFIG = "/srv/jupyterhub/jupyterhub_config.py"
PACKAGE = Path(spawner_tokens.__file__).parent

# Instead of GitHub and an image from a registry.
HERE = """
c.JupyterHub.authenticator_class = "dummy"
c.DummyAuthenticator.allow_all = True
c.JupyterHub.services = [{"name": "test", "api_token": os.environ["API_TOKEN"], "admin": True}]
c.DockerSpawner.image = os.environ["IMAGE"]
c.DockerSpawner.prefix = os.environ["PREFIX"]
c.DockerSpawner.cmd = ["python3", os.environ["SERVER"]]
c.DockerSpawner.pull_policy = "never"
c.Spawner.http_timeout = 100
mounts = os.environ["MOUNTS"].split(":")
c.DockerSpawner.volumes = {path: {"bind": path, "mode": "ro"} for path in mounts}
c.TokenSpawnerMixin.tokens["github"]["missing"] = "refuse"
"""


def read_tutorial():
    """The compose file, and the Hub's configuration."""
    [compose] = blocks("yaml", "tutorials/docker-compose")
    config, _ = blocks("python", "tutorials/docker-compose")
    return yaml.safe_load(compose.values[0]), config.values[0]


class Api:
    """The API of the Hub in the container."""

    def __init__(self, url, token):
        self._url, self._token = url, token

    def ask(self, method, path, body=None):
        headers = {"Authorization": f"token {self._token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self._url}/hub/api{path}", data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def is_up(self):
        try:
            return bool(self.ask("GET", "/"))
        except OSError:
            return False


@pytest.fixture
def start_hub_container(engine, need, tmp_path):
    """Start the tutorial's Hub, with one line more or less among its volumes; its API."""
    socket = os.environ["DOCKER_HOST"].removeprefix("unix://")
    need(socket.startswith("/"), "a Docker Engine with a socket")
    mounts = [*MOUNTS, str(PACKAGE)]
    image = engine.image(
        f"ENV PATH={sys.prefix}/bin:/usr/bin:/bin PYTHONPATH={PACKAGE.parent}", user="root"
    )
    made = engine.image(f"ENV PATH={sys.prefix}/bin:/usr/bin:/bin")
    networks = []

    def start(config, tokens_volume):
        compose, _ = read_tutorial()
        service = compose["services"]["hub"]
        network = compose["networks"][service["networks"][0]]["name"]
        mine = f"{engine.prefix}-{network}"
        networks.append(engine.client.create_network(mine)["Id"])
        path = tmp_path / "jupyterhub_config.py"
        path.write_text(config.replace(f'"{network}"', f'"{mine}"') + HERE)
        sources = {
            "./jupyterhub_config.py": str(path),
            "hub-data": str(tmp_path),
            "/var/run/docker.sock": socket,
        }
        volumes = [volume for volume in service["volumes"] if "spawner-tokens" not in volume]
        assert len(volumes) == len(service["volumes"]) - 1
        binds = [
            ":".join([sources[source], *rest])
            for source, *rest in (volume.split(":") for volume in volumes)
        ]
        binds += [f"{path}:{path}:ro" for path in mounts] + (
            [tokens_volume] if tokens_volume else []
        )
        token = secrets.token_hex(16)
        values = {"IMAGE": made, "SERVER": SERVER, "PREFIX": engine.prefix}
        values |= {"MOUNTS": ":".join(mounts), "API_TOKEN": token}
        values |= {name: secrets.token_hex(32) for name in service["environment"]}
        name = f"{engine.prefix}hub"
        engine.client.create_container(
            image,
            [sys.executable, "-m", "jupyterhub", "-f", CONFIG],
            name=name,
            environment={**values, "HOME": "/root"},
            working_dir="/srv/jupyterhub/data",
            host_config=engine.client.create_host_config(binds=binds),
            networking_config={"EndpointsConfig": {mine: {"Aliases": ["hub"]}}},
        )
        engine.client.start(name)
        address = engine.client.inspect_container(name)["NetworkSettings"]["Networks"][mine][
            "IPAddress"
        ]
        return Api(f"http://{address}:8000", token)

    yield start
    for name in engine.containers():
        engine.client.remove_container(name, force=True, v=True)
    for network in networks:
        engine.client.remove_network(network)


@pytest.mark.parametrize("kind", ["bind", "volume"])
async def test_a_hub_in_a_container_hands_tokens_to_servers_in_containers(
    engine, start_hub_container, kind
):
    compose, config = read_tutorial()
    [volume] = [each for each in compose["services"]["hub"]["volumes"] if "spawner-tokens" in each]
    host_path = volume.partition(":")[0]
    api = start_hub_container(config, volume if kind == "bind" else None)
    hub, server = f"{engine.prefix}hub", f"{engine.prefix}-alice"
    try:
        await until(lambda: asyncio.to_thread(api.is_up), 60, 0.5)
        login = {
            "access_token": "the-token",
            "github_user": {"login": "alice", "id": 1, "name": "A", "email": None},
        }
        api.ask("POST", "/users/alice")
        api.ask("PATCH", "/users/alice", {"auth_state": login})
        api.ask("POST", "/users/alice/server")
        await until(lambda: api.ask("GET", "/users/alice")["server"], 100, 0.5)
        found = engine.run(
            server, "sh", "-c", "cat $GITHUB_TOKEN_FILE; stat -c ' %u %a' $GITHUB_TOKEN_FILE"
        )
        assert found.out == "the-token 1000 600\n"
        [mount] = [
            m
            for m in engine.client.inspect_container(server)["Mounts"]
            if m["Destination"] == DIRECTORY
        ]
        assert mount["Type"] == kind
        assert mount["Source"].startswith(host_path) == (kind == "bind")
        api.ask("PATCH", "/users/alice", {"auth_state": {**login, "access_token": "new"}})
        await until(lambda: engine.run(server, "cat", f"{DIRECTORY}/github").out == "new")
        api.ask("DELETE", "/users/alice/server")
        await until(lambda: server not in engine.containers(), 30)
    except BaseException:
        print(engine.client.logs(hub).decode()[-5000:])
        raise
    await until(lambda: engine.volumes() == [])
    assert list(Path(host_path).glob(f"*/{server}")) == []
