"""What a Secret is known by: namespace, name and uid, and its Hub by the configuration alone."""

import asyncio
import math

from spawner_tokens import TokenKubeSpawner

from ..support import faults
from ..support.cluster import PATCH_RULES, Z2JH_RULES
from ..support.killed import run_killed
from ..support.waiting import until
from .test_kubernetes import AUTH_STATE, KUBE, NAME, TOKENS, decoded

USERS, ORPHANS = 8, 20


async def leave(namespace, start_hub, settings):
    """What the Hub before has left: orphans, and a server's place where it has no rights."""
    hub = await start_hub(KUBE, settings)
    spawner = hub.spawner(await hub.user("old"))
    await hub.swept()
    place = {**spawner.make_location(), "namespace": "kube-system"}
    spawner.orm_spawner.state = {TokenKubeSpawner.location_key: [place]}
    hub.app.db.commit()
    metadata = {
        "labels": {"spawner-tokens/hub": spawner.tokens_hub_name},
        "annotations": {"spawner-tokens/pod": "not-there"},
    }
    for number in range(ORPHANS):
        namespace.create("secrets", f"orphan-{number}", metadata=metadata)


async def test_users_start_while_the_sweep_fails_and_the_deletion_of_orphans_hangs(
    kube, start_hub, caplog
):
    namespace, gate = kube(proxied=True), faults.Gate()
    settings = {**TOKENS, **namespace.settings(k8s_api_request_timeout=300)}
    await leave(namespace, start_hub, settings)
    namespace.proxy.on("DELETE", "/secrets/orphan-7", faults.status(403), times=1)
    namespace.proxy.on("DELETE", "/secrets/orphan", faults.hold_after(gate), times=1000)
    hub = await start_hub(KUBE, settings)
    users = [await hub.user(f"user{number}", AUTH_STATE) for number in range(USERS)]
    servers = await asyncio.gather(*(hub.spawn(user) for user in users))
    assert [await server.token() for server in servers] == [b"the-token"] * USERS
    await until(gate.reached.is_set)
    assert "kube-system/secrets" in caplog.text  # the sweep has failed
    gate.open()
    await until(lambda: len(namespace.secrets()) == USERS, 60)


async def test_a_secret_whose_pod_is_not_made_yet_stays(kube, start_hub):
    async def sweep(spawner, pod):
        sweeps = spawner.tokens_hub.sweeps
        sweeps.started_at = math.inf  # so that no age protects it
        assert await sweeps.run_once(spawner)
        return pod

    hub = await start_hub(KUBE, {**TOKENS, **kube().settings(modify_pod_hook=sweep)})
    server = await hub.spawn(await hub.user("alice", AUTH_STATE))
    assert await server.token() == b"the-token"


async def test_a_name_that_returns_is_not_taken_for_the_one_that_was_left(kube, start_hub, caplog):
    namespace = kube(Z2JH_RULES, proxied=True)
    template = {"KubeTokenMixin.tokens_secret_name_template": "tokens-{user_server}"}
    hub = await start_hub(KUBE, {**TOKENS, **template, **namespace.settings()})
    first = await hub.user("alice", AUTH_STATE)
    await hub.spawn(first)
    namespace.proxy.on("DELETE", "/secrets", faults.status(403), times=1000)
    await first.stop("")
    namespace.proxy.clear()
    assert "Could not remove the token files of alice" in caplog.text
    left = namespace.secrets()
    first.orm_user.name = "carol"  # and another one is alice now
    hub.app.db.commit()
    second = await hub.user("alice", {"access_token": "another"})
    server = await hub.spawn(second)
    now = namespace.secrets()
    assert set(left) == set(now)
    await hub.spawn(first)  # what alice left is withdrawn
    await first.stop("")
    assert {name: decoded(secret)["t"] for name, secret in namespace.secrets().items()} == {
        name: b"another" for name in left
    }
    assert await server.token() == b"another"


async def test_two_servers_do_not_share_a_secret(kube, start_hub, caplog):
    namespace = kube()
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    before = namespace.get("secrets", NAME)
    other = await hub.user("bob", {"access_token": "another"})
    # As a profile may do it.
    hub.spawner(other).tokens_secret_name_template = "jupyter-alice-tokens{user_server:.0}"
    assert "T" not in await (await hub.spawn(other)).env()
    assert "is another server's" in caplog.text
    await other.stop("")
    assert namespace.get("secrets", NAME)["metadata"]["uid"] == before["metadata"]["uid"]
    assert await server.token() == b"the-token"


async def test_the_hubs_name_is_the_configurations_whatever_a_profile_says(kube, start_hub):
    namespace = kube(PATCH_RULES)
    override = {"component_label": "mine", "common_labels": {"release": "mine"}}
    profile = {"display_name": "p", "default": True, "kubespawner_override": override}
    settings = {**TOKENS, **namespace.settings(profile_list=[profile])}
    hub = await start_hub(KUBE, settings)
    user = await hub.user("alice", AUTH_STATE)
    name = hub.spawner(await hub.user("bob")).tokens_hub_name
    server = await hub.spawn(user)
    assert namespace.get("secrets", NAME)["metadata"]["labels"]["spawner-tokens/hub"] == name
    await user.save_auth_state({"access_token": "new"})
    await server.until(b"new")
    await user.stop("")
    assert namespace.secrets() == {}


async def test_a_secret_in_a_profiles_namespace_goes_after_the_hub_was_killed(
    kube, start_hub, tmp_path, memory
):
    namespace = kube(everywhere=True)
    other = kube(everywhere=True)
    override = {"namespace": other.name}
    profile = {"display_name": "p", "default": True, "kubespawner_override": override}
    settings = {**TOKENS, **namespace.settings()}
    elsewhere = {**settings, "KubeSpawner.profile_list": [profile]}
    killed = "tests.support.kubespawners.SecretMade"
    await run_killed(tmp_path, memory, killed, elsewhere, str(namespace.kubeconfig))
    assert list(other.secrets()) == [NAME]  # the crash was real
    hub = await start_hub(KUBE, settings)
    await hub.swept()
    assert other.secrets() == {}
