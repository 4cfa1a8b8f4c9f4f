"""Kubernetes when the API server, the Hub or a pod's creation fails; where no token is found."""

import asyncio
import json
import logging
import os
import time
from datetime import datetime
from pathlib import Path

import pytest
from pytest import param

from ..support import faults
from ..support.cluster import PATCH_RULES, Z2JH_RULES
from ..support.hub import Server, launch, respell
from ..support.killed import run_killed
from ..support.leaks import ACCESS, REFRESH, places, search
from ..support.leaks import AUTH_STATE as LEAKING
from ..support.oauth import hub_settings, make_auth_state
from ..support.provider import start_provider
from ..support.pulling import PULL, ask
from ..support.waiting import until
from .test_kubernetes import KUBE, NAME, TOKENS, both_roles, decoded, owners

AUTH_STATE = {"access_token": "the-token"}

# -- the API server ------------------------------------------------------------------------------


async def test_a_spawn_outlasts_an_api_server_that_fails_for_a_while(kube, start_hub):
    namespace = kube(proxied=True)
    settings = namespace.settings(k8s_api_request_timeout=1)
    for verb, part in (("GET", "/secrets"), ("POST", "/secrets")):
        namespace.proxy.on(verb, part, faults.drop_after, times=2)
    hub = await start_hub(KUBE, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    assert await (await hub.spawn(user)).token() == b"the-token"
    for verb in ("GET", "DELETE"):
        namespace.proxy.on(verb, "/secrets", faults.drop_after, times=2)
    await user.stop("")
    assert namespace.secrets() == {}
    faulty = [outcome for *_, outcome in namespace.proxy.requests if isinstance(outcome, str)]
    assert len(faulty) >= 4  # the faults were real


async def test_a_spawn_without_the_right_to_make_secrets_follows_the_policy(
    kube, start_hub, caplog
):
    namespace = kube(proxied=True)
    refused = faults.status(403, b'{"message": "the-token"}')
    namespace.proxy.on("POST", "/secrets", refused, times=9)
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    user = await hub.user("alice", AUTH_STATE)
    env = await (await hub.spawn(user)).env()
    assert "T" not in env and "SPAWNER_TOKENS_DIR" not in env
    path = f"/namespaces/{namespace.name}/secrets"
    assert f"POST {path}: the API server answered 403" in caplog.text
    await user.stop("")
    hub.spawner(user).tokens_missing = "refuse"
    with pytest.raises(Exception) as caught:
        await hub.spawn(user)
    assert "the-token" not in f"{caught.value!r} {vars(caught.value)} {caplog.text}"
    await until(lambda: namespace.all("pods") == [])


@both_roles
async def test_a_renewal_outlasts_an_api_server_that_is_away(kube, start_hub, rules):
    namespace = kube(rules, proxied=True)
    settings = namespace.settings(k8s_api_request_timeout=1, k8s_api_request_retry_timeout=2)
    hub = await start_hub(KUBE, {**TOKENS, **settings})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    if rules is PATCH_RULES:
        await until(lambda: owners(namespace.get("secrets", NAME)))
    for number, (verb, part, fault) in enumerate(
        [
            ("GET", "", faults.drop_before),  # all of it
            ("GET" if rules is PATCH_RULES else "POST", "/secrets", faults.status(403)),
            ("PATCH" if rules is PATCH_RULES else "DELETE", "/secrets", faults.drop_after),
            ("PATCH" if rules is PATCH_RULES else "POST", "/secrets", faults.drop_before),
            ("PATCH" if rules is PATCH_RULES else "POST", "/secrets", faults.drop_after),
            ("PATCH" if rules is PATCH_RULES else "POST", "/secrets", faults.status(409)),
        ]
    ):
        seen = len(namespace.proxy.requests)
        namespace.proxy.on(verb, part, fault, times=3)
        await user.save_auth_state({"access_token": f"token-{number}"})

        def has_failed(verb=verb, seen=seen):
            requests = namespace.proxy.requests[seen:]
            return any(asked == verb and isinstance(outcome, str) for asked, _, outcome in requests)

        await until(has_failed)
        assert await server.token()  # nothing is taken from a server that runs
        namespace.proxy.clear()
        await server.until(f"token-{number}".encode())
    [pod] = namespace.all("pods")
    assert owners(namespace.get("secrets", NAME)) == [pod["metadata"]["uid"]]
    await user.stop("")
    assert namespace.secrets() == {}


async def test_a_secret_that_is_too_large_follows_the_policy(kube, start_hub, caplog):
    namespace = kube()
    tokens = {"TokenSpawnerMixin.tokens": {"t": {}}}
    hub = await start_hub(KUBE, {**tokens, **namespace.settings()})
    server = await hub.spawn(await hub.user("alice", {"access_token": "x" * 2**20}))
    assert "T_TOKEN_FILE" not in await server.env()
    assert "larger than the 1 MiB" in caplog.text


# -- the Hub -------------------------------------------------------------------------------------


@pytest.mark.xdist_group("crashes")
@pytest.mark.parametrize(
    "rules, step, left",
    [
        param(Z2JH_RULES, "SecretMade", {NAME: b"the-token"}, id="secret-made"),
        param(PATCH_RULES, "PodMade", {NAME: b"the-token"}, id="pod-made"),
        param(Z2JH_RULES, "SecretDeleted", {}, id="secret-deleted"),
    ],
)
async def test_a_hub_killed_between_two_steps_leaves_no_orphan_and_loses_nothing(
    kube, tmp_path, memory, rules, step, left
):
    namespace = kube(rules)
    settings = {**TOKENS, **namespace.settings()}
    killed = f"tests.support.kubespawners.{step}"
    kubeconfig = str(namespace.kubeconfig)
    await run_killed(tmp_path, memory, killed, settings, kubeconfig)
    found = {name: decoded(secret)["t"] for name, secret in namespace.secrets().items()}
    assert found == left  # the crash was real
    settings |= respell(tmp_path)
    hub = await launch(tmp_path, memory, b"k" * 32, KUBE, settings)
    try:
        user = await hub.user("alice")
        spawner = hub.spawner(user)
        await hub.swept()
        if spawner.server is not None:  # it runs, and has been found
            await until(lambda: NAME in namespace.secrets())
            await user.save_auth_state({"access_token": "after"})
            await Server(spawner).until(b"after")
            await user.stop("")
        elif step == "SecretMade":
            assert namespace.secrets() == {}
        await user.save_auth_state({"access_token": "the-last"})
        assert await (await hub.spawn(user)).token() == b"the-last"
        await user.stop("")
        await until(lambda: namespace.all("pods") == [])
        assert namespace.secrets() == {}
    finally:
        await hub.close()


# -- what lives shorter than a server ------------------------------------------------------------


async def test_a_running_server_has_a_live_token_through_four_lives(kube, start_hub, tmp_path):
    namespace = kube(Z2JH_RULES)
    async with start_provider(tmp_path, "--token-lifetime", "6") as provider:
        settings = {**hub_settings(provider), **TOKENS, **namespace.settings()}
        hub = await start_hub(KUBE, {**settings, "KubeTokenMixin.tokens_sync_period": 1})
        user = await hub.user("alice")
        spawner = hub.spawner(user)  # from our first Spawner on, what is saved gets its time
        await user.save_auth_state(make_auth_state("alice", await provider.log_in("alice")))
        server, seen, dead_since, gaps = await hub.spawn(user), [], None, [0.0]
        expired = 0
        while len(seen) < 5:
            files = await server.files()
            token, ends = files["t"].decode(), json.loads(files["t.json"])["expires_at"]
            ends = datetime.fromisoformat(ends.replace("Z", "+00:00"))
            expired += ends.timestamp() + 1 < time.time()  # by its own word: it is in whole seconds
            if not seen or seen[-1] != token:
                seen.append(token)
            if await provider.is_live(token):
                dead_since = None
            else:  # this provider kills a token when it is refreshed
                dead_since = dead_since or time.monotonic()
                gaps.append(time.monotonic() - dead_since)
            await asyncio.sleep(0.05)
        assert provider.grants() <= 6
        # This provider ends the old token at the refresh: it is dead until the kubelet looks.
        assert expired == 0 and max(gaps) < 3, (expired, max(gaps))
        assert spawner.delivery_delay == 1
        await user.stop("")


# -- where a token is not ------------------------------------------------------------------------


async def nearby(*arguments):
    """What the Hub has. The processes of the pods are others': a node's."""
    found = await places(*arguments)
    own = f"arguments of {os.getpid()}"
    return {
        name: contents
        for name, contents in found.items()
        if name == own or not name.startswith("arguments of")
    }


def look_around(namespace):
    """All that the namespace has, but the Secrets; and the API server's audit log."""
    kinds = ["pods", "events", "configmaps", "services", "serviceaccounts"]
    kinds += ["persistentvolumeclaims"]
    found = {kind: json.dumps(namespace.all(kind)).encode() for kind in kinds}
    if log := os.environ.get("KUBE_AUDIT_LOG"):
        found["audit log"] = Path(log).read_bytes()
    return found


@pytest.mark.xdist_group("leaks")
async def test_a_token_and_a_servers_own_are_in_its_secret_and_nowhere_else(
    kube, start_hub, debug_log
):
    namespace, own = kube(PATCH_RULES), []  # the value of each server's JUPYTERHUB_API_TOKEN
    tokens = {"t": {"env": "T"}, "v": {"env": "V", "file": False}}
    settings = {
        "TokenSpawnerMixin.tokens": tokens,
        "JupyterHub.log_level": 10,
        "Spawner.debug": True,
        "Spawner.pre_spawn_hook": lambda spawner: own.append(spawner.api_token),
    }
    hub = await start_hub(KUBE, {**settings, **PULL, **namespace.settings()})
    user = await hub.user("alice", LEAKING)

    async def find(error=None):
        """The places where the user's tokens are, and those where a server's own is."""
        found = {**await nearby(hub, user, debug_log, error), **look_around(namespace)}
        users = search(found)
        found |= {"traits": b"", "instance": b""}  # JupyterHub keeps api_token there
        return users, search(found, *own)

    server = await hub.spawn(user)
    env = await server.env()
    assert env["V"] == ACCESS.encode() and await server.token() == ACCESS.encode()
    assert env["JUPYTERHUB_API_TOKEN"] == env["JPY_API_TOKEN"] == own[0].encode()
    await user.save_auth_state({**LEAKING, "access_token": f"{ACCESS}-2"})
    await server.until(f"{ACCESS}-2".encode())
    assert (await ask(hub, own[0], "t")).body["token"] == f"{ACCESS}-2"
    assert "DEBUG" in debug_log.text
    assert await find() == ([], [])
    await user.stop("")
    # KubeSpawner logs a whole manifest when it cannot make a pod.
    for hides, places_of_own in ((True, []), (False, ["log"])):
        spawner = hub.spawner(user)
        spawner.volume_mounts = [{"name": "none", "mountPath": "/x"}]
        spawner.tokens_hide_api_token = hides
        with pytest.raises(Exception) as caught:
            await hub.spawn(user)
        assert "Failed for" in debug_log.text and "secretKeyRef" in debug_log.text
        assert await find(caught.value) == ([], places_of_own)
    assert len({*own}) == 3
    # The search can find, planted where somebody might look.
    namespace.create("configmaps", "planted", data={"x": ACCESS})
    namespace.create("serviceaccounts", "planted", metadata={"annotations": {"x": REFRESH}})
    namespace.sleeper("planted", annotations={"x": own[0]})
    where = {"namespace": namespace.name}
    namespace.create("events", "planted", involvedObject=where, message=own[0])
    namespace.cluster.ask("GET", f"{namespace.path}/pods/{own[0]}")  # into the audit log
    logging.getLogger("kubernetes_asyncio").debug("planted %s", ACCESS)
    users, servers = await find()
    assert {"configmaps", "serviceaccounts", "log"} <= set(users)
    assert {"pods", "events"} <= set(servers)
    if "KUBE_AUDIT_LOG" in os.environ:  # a line comes just after its answer
        await until(lambda: "audit log" in search(look_around(namespace), *own))
