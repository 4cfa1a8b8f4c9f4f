"""Pods and Secrets of others, in the way of ours or left behind."""

import base64

import pytest
from jupyterhub.utils import AnyTimeoutError

from spawner_tokens.backends.kubernetes import secrets

from ..support.cluster import IMAGE, PATCH_RULES
from ..support.waiting import until
from .test_kubernetes import AUTH_STATE, KUBE, NAME, TOKENS, owners

# -- what is in the way --------------------------------------------------------------------------


async def test_a_pod_of_the_same_name_is_replaced_and_the_new_secret_stays(kube, start_hub, caplog):
    namespace = kube(PATCH_RULES)
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    user = await hub.user("alice", AUTH_STATE)
    old = namespace.sleeper("jupyter-alice", labels={"component": "singleuser-server"})["metadata"][
        "uid"
    ]
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "jupyter-alice", "uid": old}
    labels = {"spawner-tokens/hub": hub.spawner(user).tokens_hub_name}
    annotations = {"spawner-tokens/pod": "jupyter-alice"}
    metadata = {"labels": labels, "annotations": annotations, "ownerReferences": [owner]}
    namespace.create(
        "secrets", NAME, metadata=metadata, data={"t": base64.b64encode(b"old").decode()}
    )
    server = await hub.spawn(user)
    assert "Found existing pod" in caplog.text
    assert await server.token() == b"the-token" and (await server.env())["T"] == b"the-token"
    await user.save_auth_state({"access_token": "new"})
    await server.until(b"new")
    new = namespace.get("pods", "jupyter-alice")["metadata"]["uid"]
    assert owners(namespace.get("secrets", NAME)) == [new] != [old]


async def test_a_pod_that_cannot_be_made_leaves_no_secret(kube, start_hub):
    namespace = kube()
    bad = [{"name": "none", "mountPath": "/x"}]
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings(volume_mounts=bad)})
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(Exception, match="422|Unprocessable"):
        await hub.spawn(user)
    assert namespace.secrets() == {} and namespace.all("pods") == []
    assert namespace.audit("secrets") in (
        None,
        [f"{verb} secrets {status}" for verb, status in DONE_AND_UNDONE],
    )


DONE_AND_UNDONE = [("list", 200), ("create", 201), ("delete", 200)]


async def test_a_pod_that_does_not_start_in_time_leaves_no_secret(kube, start_hub):
    namespace = kube()
    waits = [{"name": "waits", "image": IMAGE, "command": ["sleep", "1000"]}]
    hub = await start_hub(
        KUBE, {**TOKENS, **namespace.settings(init_containers=waits, start_timeout=3)}
    )
    user = await hub.user("alice", AUTH_STATE)
    with pytest.raises(AnyTimeoutError):
        await hub.spawn(user)
    await until(lambda: namespace.all("pods") == [])
    assert namespace.secrets() == {}


@pytest.mark.parametrize("hub_label", [None, "0123456789ab"], ids=["a-users", "another-hubs"])
async def test_a_secret_of_somebody_else_is_never_touched(kube, start_hub, hub_label, caplog):
    namespace = kube()
    labels = {"spawner-tokens/hub": hub_label} if hub_label else {}
    theirs = namespace.create("secrets", NAME, metadata={"labels": labels}, data={"t": ""})
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    user = await hub.user("alice", AUTH_STATE)
    env = await (await hub.spawn(user)).env()
    assert "T" not in env and "SPAWNER_TOKENS_DIR" not in env
    await user.stop("")
    hub.spawner(user).tokens_missing = "refuse"
    with pytest.raises(Exception) as caught:
        await hub.spawn(user)
    assert "the-token" not in repr(caught.value)
    await hub.spawner(user).delete_forever()
    assert "tokens_secret_name_template" in caplog.text
    found = namespace.get("secrets", NAME)["metadata"]["resourceVersion"]
    assert found == theirs["metadata"]["resourceVersion"]


async def test_two_hubs_in_one_namespace_do_not_know_each_others_secrets(kube, start_hub):
    namespace, names = kube(), set()
    for traits in ({}, {"component_label": "other"}, {"common_labels": {"release": "b"}}):
        hub = await start_hub(
            KUBE, {**TOKENS, **namespace.settings(pod_name_template=f"p{len(names)}", **traits)}
        )
        names.add(hub.spawner(await hub.user("alice")).tokens_hub_name)
    assert len(names) == 3
    hub = await start_hub(
        KUBE, {**TOKENS, **namespace.settings(common_labels={"chart": "jupyterhub-4"})}
    )
    assert (
        hub.spawner(await hub.user("alice")).tokens_hub_name in names
    )  # a new version of the chart is the same Hub


async def test_a_hub_that_starts_sweeps_its_own_secrets_without_pod_and_no_others(
    kube, start_hub, monkeypatch
):
    monkeypatch.setattr(secrets, "_PAGE", 1)
    namespace = kube()
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    spawner = hub.spawner(await hub.user("alice"))
    await hub.swept()
    mine, pod = spawner.tokens_hub_name, namespace.sleeper("there")["metadata"]["name"]
    for name, label, of in (
        ("orphan", mine, "not-there"),
        ("kept", mine, pod),
        ("other-hubs", "0123456789ab", "not-there"),
    ):
        metadata = {
            "labels": {"spawner-tokens/hub": label},
            "annotations": {"spawner-tokens/pod": of},
        }
        namespace.create("secrets", name, metadata=metadata)
    namespace.create("secrets", "users")
    namespace.audit()
    again = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    again.spawner(await again.user("alice"))
    await until(lambda: "orphan" not in namespace.secrets())
    assert set(namespace.secrets()) == {"kept", "other-hubs"} and namespace.get("secrets", "users")
    sweep = [*["list secrets 200"] * 3, "list pods 200", "delete secrets 200"]  # three pages
    assert namespace.audit("secrets", "pods") in (None, sweep)
    namespace.delete("pods", "there")  # and no pod is left
    await until(lambda: namespace.all("pods") == [])
    again = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    await again.swept()
    assert set(namespace.secrets()) == {"other-hubs"}
