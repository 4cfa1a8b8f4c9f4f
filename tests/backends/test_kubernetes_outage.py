"""Kubernetes while its API server is away: killed (-9) at a step, and started again."""

import os

import pytest
from jupyterhub.utils import AnyTimeoutError

from spawner_tokens import TokenKubeSpawner, backend
from spawner_tokens.backends.kubernetes import spawner as kubernetes
from spawner_tokens.backends.kubernetes.secrets import Secrets

from ..support.apiserver import ApiServer
from ..support.cluster import Z2JH_RULES, Cluster
from ..support.waiting import until
from .test_kubernetes import AUTH_STATE, NAME, TOKENS, decoded, owners

pytestmark = pytest.mark.alone

PATIENT = {"k8s_api_request_timeout": 2, "k8s_api_request_retry_timeout": 40}
IMPATIENT = {"k8s_api_request_timeout": 1, "k8s_api_request_retry_timeout": 1}


class _Secrets(Secrets):
    async def delete(self, secret):
        deleted = await super().delete(secret)
        Interrupted.reach("the Secret deleted")
        return deleted


class Interrupted(TokenKubeSpawner):
    """Does what ``at`` has for a step, once."""

    at = {}

    @classmethod
    def reach(cls, step):
        cls.at.pop(step, int)()

    async def deliver_files(self, files):
        self.reach("the Secret being made")
        await super().deliver_files(files)

    async def _make_create_pod_request(self, *args):
        created = await super()._make_create_pod_request(*args)
        self.reach("the pod being waited for")
        return created

    async def withdraw_files(self):
        self.reach("the Secret being withdrawn")
        await super().withdraw_files()

    @property
    def _secrets(self):
        made = super()._secrets
        made.__class__ = _Secrets
        return made


@pytest.fixture
def at(monkeypatch):
    monkeypatch.setattr(Interrupted, "at", {})
    return Interrupted.at


@pytest.fixture
async def api_server(kube):
    """The cluster's."""
    if "REAL_KUBE_DIR" not in os.environ:
        pytest.skip(
            "this cluster's API server cannot be killed: REAL_KUBE_DIR does not name its folder"
        )
    server = ApiServer(os.environ["REAL_KUBE_DIR"], Cluster(os.environ["KUBECONFIG"]))
    yield server
    await server.settle()


async def assert_nothing_is_left(namespace):
    await until(lambda: namespace.all("pods") == [])
    assert namespace.secrets() == {}


async def test_a_spawn_and_a_stop_outlast_an_outage(kube, api_server, start_hub, at, monkeypatch):
    for module in (backend, kubernetes):  # on a busy machine, it is a long one
        monkeypatch.setattr(module, "_PATIENCE", PATIENT["k8s_api_request_retry_timeout"])
    namespace = kube()
    hub = await start_hub(Interrupted, {**TOKENS, **namespace.settings(**PATIENT)})
    user = await hub.user("alice", AUTH_STATE)
    at["the Secret being made"] = api_server.interrupt
    server = await hub.spawn(user)
    await api_server.settle()
    assert at == {} and await server.token() == b"the-token"
    assert (await server.env())["T"] == b"the-token"
    at["the Secret being withdrawn"] = api_server.interrupt
    await user.stop("")
    await api_server.settle()
    assert at == {}
    await assert_nothing_is_left(namespace)


async def test_what_fails_for_want_of_an_api_server_is_in_no_later_ones_way(
    kube, api_server, start_hub, at, caplog
):
    namespace = kube()
    settings = {**TOKENS, **namespace.settings(**IMPATIENT, start_timeout=3)}
    hub = await start_hub(Interrupted, settings)
    user = await hub.user("alice", AUTH_STATE)
    at["the pod being waited for"] = api_server.kill
    with pytest.raises((*AnyTimeoutError, OSError)):
        await hub.spawn(user)
    assert at == {} and not user.spawners[""].server
    await api_server.start()
    spawner = user.spawners[""]
    spawner.start_timeout, spawner.k8s_api_request_retry_timeout = 60, 40
    await user.save_auth_state({"access_token": "new-token"})
    server = await hub.spawn(user)
    assert await server.token() == b"new-token" and (await server.env())["T"] == b"new-token"
    assert list(namespace.secrets()) == [NAME] and len(namespace.all("pods")) == 1
    # What a stop could not delete ends at the Hub's next start.
    spawner.k8s_api_request_retry_timeout = 1
    at["the Secret being withdrawn"] = api_server.kill
    await user.stop("")
    assert at == {} and "Could not remove the token files of alice" in caplog.text
    await api_server.start()
    assert list(namespace.secrets()) == [NAME]  # the outage was real
    again = await start_hub(Interrupted, settings)
    await again.swept()
    await assert_nothing_is_left(namespace)


async def test_a_running_server_keeps_its_token_and_gets_the_new_one(
    kube, api_server, start_hub, at, caplog
):
    namespace = kube(Z2JH_RULES)
    hub = await start_hub(Interrupted, {**TOKENS, **namespace.settings(**IMPATIENT)})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    at["the Secret deleted"] = api_server.kill
    await user.save_auth_state({"access_token": "new-token"})
    await until(lambda: "Cannot deliver" in caplog.text)
    assert at == {} and await server.token() == b"the-token"
    await api_server.start()
    await server.until(b"new-token")
    [pod] = namespace.all("pods")
    secret = namespace.get("secrets", NAME)
    assert owners(secret) == [pod["metadata"]["uid"]] and decoded(secret)[".env.t"] == b"new-token"
    await user.stop("")
    await assert_nothing_is_left(namespace)
