"""Pods that run while their user's token changes, or the Hub starts again."""

import pytest
import yaml

from spawner_tokens.backends.kubernetes.rbac import make_role

from ..support.cluster import KUBESPAWNER_RULES
from ..support.hub import respell
from ..support.waiting import until
from .test_kubernetes import AUTH_STATE, KUBE, NAME, TOKENS, decoded, owners


def add_key(spawner):
    if not spawner.name:
        spawner.tokens["added"] = {"key": lambda auth_state: auth_state["access_token"]}


@pytest.mark.parametrize("patch", [False, True], ids=["z2jh", "patch"])
async def test_with_the_rights_that_the_command_prints_each_server_sees_each_new_token(
    start_pod, start_hub, tmp_path, patch, caplog
):
    role, _ = yaml.safe_load_all(make_role("hub", patch=patch))
    rules = [*KUBESPAWNER_RULES, *role["rules"]]
    namespace, _, user, server = await start_pod(rules, pre_spawn_hook=add_key)
    if patch:
        await until(lambda: owners(namespace.get("secrets", NAME)))
    namespace.audit()
    for number in range(3):
        await user.save_auth_state({"access_token": f"token-{number}"})
        await server.until(f"token-{number}".encode())
    [pod] = namespace.all("pods")
    secret = namespace.get("secrets", NAME)
    assert owners(secret) == [pod["metadata"]["uid"]] and decoded(secret)[".env.t"] == b"token-2"
    assert ("spawner-tokens/renewed" in pod["metadata"]["annotations"]) == patch
    asked = namespace.audit("secrets", "pods")
    if patch:
        assert asked in (None, ["get secrets 200", "patch secrets 200", "patch pods 200"] * 3)
    else:
        again = ["create secrets 409", "delete secrets 200", "create secrets 201"]
        assert asked in (None, ["get pods 200", *again * 3])

    # A Hub that is started again knows its Secrets, also with other names for itself and new ones.
    template = "other-{pod_name}"
    settings = namespace.settings(common_labels={"release": "other"})
    settings |= {"KubeTokenMixin.tokens_secret_name_template": template, **respell(tmp_path)}
    hub = await start_hub(KUBE, {**TOKENS, **settings})
    user = await hub.user("alice")
    await until(lambda: user.spawners[""].tokens_running)
    work = await hub.spawn(user, "work")
    await user.save_auth_state({"access_token": "new"})
    for each in (server, work):
        await each.until(b"new")
    assert set(namespace.secrets()) == {NAME, "other-jupyter-alice--work"}
    renewed = namespace.get("secrets", NAME)
    assert (renewed["metadata"]["uid"] == secret["metadata"]["uid"]) == patch
    assert decoded(renewed)["added"] == b"token-2"  # by a function that this Hub does not know
    await user.stop("")
    assert set(namespace.secrets()) == {"other-jupyter-alice--work"}
    assert await work.token() == b"new"
    await user.stop("work")
    assert namespace.secrets() == {} and "Could not" not in caplog.text
    refused = [asked for asked in namespace.audit("secrets", "pods") or () if asked.endswith("403")]
    assert refused == [] if patch else set(refused) <= {"patch secrets 403"}


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
