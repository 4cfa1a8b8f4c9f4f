"""Fixtures, and what to do where an engine is missing."""

import logging
import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from .support.apiproxy import ApiProxy
from .support.cluster import Cluster, Namespace, clean, stop_clients
from .support.engine import Engine, OwnEngine
from .support.hub import launch
from .support.oidc import find_oidc_provider, start_oidc_provider
from .support.ports import random_port
from .support.systems import make_users
from .support.waiting import until

TALKATIVE = (
    *("tornado.access", "tornado.application", "tornado.general"),
    *("aiohttp", "asyncio", "kubernetes_asyncio", "sqlalchemy.engine", "traitlets"),
)


def pytest_addoption(parser):
    parser.addoption(
        "--engines",
        choices=["required", "optional"],
        default=os.environ.get("SPAWNER_TOKENS_ENGINES", "optional"),
        help="whether a test whose browser, engine or privilege is missing fails or is skipped",
    )


def pytest_sessionfinish(session, exitstatus):
    """Of a part of the tests, none may be ``alone``: ``tox -- tests/test_spec.py``."""
    config = session.config
    is_part = config.option.keyword or config.args != config.getini("testpaths")
    if (
        exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
        and config.option.markexpr == "alone"
        and is_part
    ):
        session.exitstatus = pytest.ExitCode.OK


@pytest.fixture(scope="session")
def need(request):
    """Skip, or fail where engines are required, unless what a test needs is here."""

    def need(found, what):
        if not found:
            if request.config.getoption("engines") == "required":
                pytest.fail(f"{what} is missing, and --engines=required")
            pytest.skip(f"{what} is missing")
        return found

    return need


@pytest.fixture
def debug_log(caplog):
    """All that the Hub and its libraries log, at their most talkative."""
    caplog.set_level(logging.DEBUG)
    logs = [logging.getLogger(name) for name in TALKATIVE]
    for log in logs:
        log.setLevel(logging.DEBUG)
    yield caplog
    for log in logs:
        log.setLevel(logging.NOTSET)


@pytest.fixture
def memory():
    """A folder in memory for token files."""
    folder = Path("/dev/shm", f"spawner-tokens-test-{secrets.token_hex(4)}")
    yield folder
    # shutil.rmtree cannot go as deep as a test may
    subprocess.run(["rm", "-rf", folder], check=True)


@pytest.fixture
def system_users(need):
    """Two ordinary users of the system, and a command for their servers that they can run."""
    with make_users(need) as found:
        yield found


@pytest.fixture
def start_oidc(need, tmp_path):
    """Start a provider that exchanges tokens: ``async with start_oidc(20, 7) as provider``."""
    module = need(find_oidc_provider(), "oidc-provider, from npm, or Node.js 20,")
    return partial(start_oidc_provider, module, tmp_path)


@pytest.fixture
def engine(need):
    """A real Docker Engine, and what a test makes there."""
    need(os.environ.get("DOCKER_HOST"), "a Docker Engine, by DOCKER_HOST,")
    engine = Engine()
    yield engine
    engine.clean()


@pytest.fixture
def start_engine(engine, need):
    """Start a Docker Engine of the test's own, which it may stop: ``start_engine("--debug")``."""
    need(os.geteuid() == 0 and shutil.which("dockerd"), "root, with dockerd,")
    engines = []

    def start(*flags):
        engines.append(OwnEngine(*flags))
        return engines[-1]

    yield start
    for own in engines:
        own.clean()


@pytest.fixture
async def kube(tmp_path, need, monkeypatch):
    """A namespace of the test's own in a Kubernetes cluster: ``kube(rules, proxied=True)``."""
    kubeconfig = need(os.environ.get("KUBECONFIG"), "a Kubernetes cluster, by KUBECONFIG,")
    # An attribute that tests.support.cluster.use() sets, back at the end.
    monkeypatch.setattr(
        "kubernetes_asyncio.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", kubeconfig
    )
    cluster, namespaces = Cluster(kubeconfig), []
    async with ApiProxy(cluster) as proxy:

        def make(*rules, proxied=False, **more):
            url = proxy.url if proxied else None
            namespaces.append(Namespace(cluster, tmp_path, *rules, url=url, **more))
            namespaces[-1].proxy = proxy
            return namespaces[-1]

        yield make
        proxy.clear()
        await stop_clients()
    clean(cluster, [namespace.name for namespace in namespaces])


@pytest.fixture
async def sts():
    """AWS' STS, by moto: its port."""
    port = random_port()
    command = f"{sys.executable} -c 'from moto.server import main; main()' -H 127.0.0.1 -p {port}"
    process = subprocess.Popen(
        shlex.split(command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )

    async def answers():
        assert process.poll() is None, "moto did not start"
        with closing(socket.socket()) as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    await until(answers, 60)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
async def start_hub(tmp_path, memory, monkeypatch):
    """Start a Hub: ``await start_hub(spawner_class, {"TokenSpawnerMixin.tokens": …})``.

    A second Hub in one test is the first one started again: same database, same crypt key.
    """
    monkeypatch.chdir(tmp_path)
    hubs = []
    crypt_key = secrets.token_bytes(32)

    async def start(spawner_class, settings=None):
        hubs.append(await launch(tmp_path, memory, crypt_key, spawner_class, settings or {}))
        return hubs[-1]

    yield start
    for hub in reversed(hubs):
        await hub.close()
