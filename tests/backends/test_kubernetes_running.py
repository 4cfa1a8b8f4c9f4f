"""Pods that run while their user's token changes, or the Hub starts again."""

import pytest
import yaml

from spawner_tokens.backends.kubernetes.rbac import make_role

from ..support.cluster import KUBESPAWNER_RULES, PATCH_RULES
from ..support.waiting import until
from .test_kubernetes import AUTH_STATE, KUBE, NAME, TOKENS, both_roles, decoded, owners


@both_roles
async def test_a_running_server_sees_each_new_token_and_its_pod_owns_the_secret(start_pod, rules):
    namespace, _, user, server = await start_pod(rules)
    if rules is PATCH_RULES:
        await until(lambda: owners(namespace.get("secrets", NAME)))
    namespace.audit()
    for number in range(3):
        await user.save_auth_state({"access_token": f"token-{number}"})
        await server.until(f"token-{number}".encode())
    [pod] = namespace.all("pods")
    secret = namespace.get("secrets", NAME)
    assert owners(secret) == [pod["metadata"]["uid"]] and decoded(secret)[".env.t"] == b"token-2"
    assert ("spawner-tokens/renewed" in pod["metadata"]["annotations"]) == (rules is PATCH_RULES)
    asked = namespace.audit("secrets", "pods")
    if rules is PATCH_RULES:
        assert asked in (None, ["get secrets 200", "patch secrets 200", "patch pods 200"] * 3)
    else:
        again = ["get secrets 200", "delete secrets 200", "create secrets 201"]
        assert asked in (None, [again[0], "get pods 200", *again[1:], *again, *again])
    namespace.delete("pods", "jupyter-alice")  # by somebody else, and the Hub does not look
    await until(lambda: namespace.secrets() == {}, seconds=30)


@both_roles
async def test_a_hub_started_again_knows_its_secrets(start_pod, start_hub, rules):
    namespace, _, user, server = await start_pod(rules)
    before = namespace.get("secrets", NAME)["metadata"]["uid"]
    settings = {
        **namespace.settings(),
        "KubeTokenMixin.tokens_secret_name_template": "other-{pod_name}",
    }
    again = await start_hub(KUBE, {**TOKENS, **settings})
    user = await again.user("alice")
    await until(lambda: user.spawners[""].tokens_running)
    await user.save_auth_state({"access_token": "new-token"})
    await server.until(b"new-token")
    assert (namespace.get("secrets", NAME)["metadata"]["uid"] == before) == (rules is PATCH_RULES)
    await user.stop("")
    assert namespace.secrets() == {}


async def test_a_withheld_token_leaves_the_mount(start_pod):
    namespace, _, user, server = await start_pod()
    await user.save_auth_state({"name": "x"})
    await server.until(None)
    assert (
        decoded(namespace.get("secrets", NAME))[".env.t"] == b""
    )  # the container can be started again
    await user.save_auth_state(AUTH_STATE)
    await server.until(b"the-token")


async def test_a_token_that_is_only_a_variable_comes_by_the_secret_too(kube, start_hub):
    namespace = kube()
    tokens = {"TokenSpawnerMixin.tokens": {"v": {"env": "V", "file": False}}}
    hub = await start_hub(KUBE, {**tokens, **namespace.settings()})
    env = await (await hub.spawn(await hub.user("alice", AUTH_STATE))).env()
    assert env["V"] == b"the-token" and "SPAWNER_TOKENS_DIR" not in env
    assert "spawner-tokens" not in repr(namespace.all("pods")[0]["spec"].get("volumes"))


@pytest.mark.parametrize("patch", [False, True])
async def test_the_rights_that_the_command_prints_are_enough_for_all_of_a_users_servers(
    kube, start_hub, patch, caplog
):
    role, _ = yaml.safe_load_all(make_role("hub", patch=patch))
    namespace = kube([*KUBESPAWNER_RULES, *role["rules"]])
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    user = await hub.user("alice", AUTH_STATE)
    servers = [await hub.spawn(user, name) for name in ("", "work")]
    await user.save_auth_state({"access_token": "new"})
    for server in servers:
        await server.until(b"new")
    assert set(namespace.secrets()) == {NAME, "jupyter-alice--work-tokens"}
    await user.stop("")
    assert (
        set(namespace.secrets()) == {"jupyter-alice--work-tokens"}
        and await servers[1].token() == b"new"
    )
    await user.stop("work")
    assert namespace.secrets() == {} and "Could not" not in caplog.text
    refused = [asked for asked in namespace.audit("secrets", "pods") or () if asked.endswith("403")]
    assert refused == [] if patch else set(refused) <= {"patch secrets 403"}
