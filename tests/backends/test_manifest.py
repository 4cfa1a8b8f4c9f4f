"""Kubernetes' objects: what is built is valid in all versions, and as closed as it can be."""

import base64

import kubernetes_validate
import pytest
import yaml
from kubernetes_asyncio.client import ApiClient
from kubespawner.objects import make_pod
from pytest import param

from spawner_tokens.__main__ import main
from spawner_tokens.backends.kubernetes.manifest import (
    escape,
    find_mode,
    find_taken,
    make_data,
    make_mount,
    make_owner,
    make_reference,
    make_secret,
    make_volumes,
    mount_secret,
)
from spawner_tokens.backends.kubernetes.rbac import make_role

NB_GID = [{"name": "NB_GID", "value": "5"}]
ALL_VERSIONS = kubernetes_validate.utils.all_versions()


def pod(*, of_pod=None, of_container=None, env=()):
    container = {"name": "notebook", "securityContext": of_container, "env": list(env)}
    return {"securityContext": of_pod, "containers": [container, {"name": "other"}]}


@pytest.mark.parametrize(
    "spec, mode",
    [
        param(pod(), 0o444, id="nothing-known"),
        param(pod(of_pod={"fsGroup": 100}), 0o440, id="group-of-jupyters-images"),
        param(pod(of_pod={"fsGroup": 5}), 0o444, id="group-that-an-image-may-leave"),
        param(pod(of_pod={"fsGroup": 5}, env=NB_GID), 0o440, id="group-that-the-image-is-told"),
        param(pod(of_pod={"fsGroup": 5, "runAsUser": 1000}), 0o440, id="group-of-a-known-user"),
        param(pod(of_pod={"fsGroup": 5, "runAsNonRoot": True}), 0o440, id="group-of-no-root"),
        param(pod(of_pod={"runAsNonRoot": True}), 0o444, id="no-root-and-no-group"),
        param(pod(of_container={"runAsGroup": 0}), 0o444, id="root-group-that-an-image-may-leave"),
        param(
            pod(of_pod={"fsGroup": 100}, of_container={"runAsUser": 1000}),
            0o440,
            id="user-and-group",
        ),
        param(pod(of_container={"runAsUser": 1000}), 0o444, id="user-alone"),
        param(pod(of_container={"runAsUser": 1000, "runAsGroup": 0}), 0o440, id="root-group"),
        param(
            pod(of_pod={"runAsUser": 1000, "supplementalGroups": [5, 0]}),
            0o440,
            id="supplemental-root-group",
        ),
        param(pod(of_pod={"runAsUser": 1000, "fsGroup": 0}), 0o440, id="files-of-root-group"),
        param(pod(of_pod={"runAsUser": 0}), 0o444, id="root-who-may-become-another"),
        param(pod(of_pod={"runAsUser": 0, "fsGroup": 100}), 0o440, id="root-who-becomes-jovyan"),
        param(pod(of_pod={"runAsUser": 0, "fsGroup": 5}), 0o444, id="root-who-leaves-the-group"),
        param(pod(of_pod={"runAsUser": 0, "fsGroup": 5}, env=NB_GID), 0o440, id="root-with-nb-gid"),
        param(
            pod(of_pod={"runAsUser": 1000, "runAsGroup": 0}, of_container={"runAsGroup": 7}),
            0o444,
            id="overridden",
        ),
    ],
)
def test_files_are_closed_to_others_where_a_group_reaches_the_user(spec, mode):
    assert find_mode(spec, ["notebook"]) == mode


def test_all_containers_with_the_files_have_to_reach_them():
    spec = pod(of_container={"runAsUser": 1000, "runAsGroup": 0})
    assert find_mode(spec, ["notebook"]) == 0o440
    assert find_mode(spec, ["notebook", "other"]) == 0o444


def test_what_is_withheld_is_no_key_and_the_public_file_always_is_one():
    data = make_data({"t": b"x", "u": None, ".gitconfig": None})
    assert data == {"t": base64.b64encode(b"x").decode(), ".gitconfig": ""}


def test_the_kubelet_expands_nothing_in_an_escaped_text():
    assert escape("$(T) $x") == "$$(T) $$x"


SECRET = make_secret(
    "jupyter-alice-tokens",
    "0123456789ab",
    "17",
    "jupyter-alice",
    make_data({"t": b"x"}),
    {"a": "b"},
    {},
)


def test_a_secret_is_labelled_as_this_hubs():
    assert SECRET["metadata"]["labels"] == {"a": "b", "spawner-tokens/hub": "0123456789ab"}
    annotations = {"spawner-tokens/server": "17", "spawner-tokens/pod": "jupyter-alice"}
    assert SECRET["metadata"]["annotations"] == annotations
    assert "blockOwnerDeletion" not in make_owner("p", "u")


def whole_pod():
    variable = {"name": "T", **make_reference("s", ".env.t")}
    mounts = [
        make_mount("spawner-tokens", "/run/t"),
        make_mount("spawner-tokens-public", "/run/t-public"),
    ]
    container = {"name": "notebook", "image": "i", "env": [variable], "volumeMounts": mounts}
    spec = {"containers": [container], "volumes": make_volumes("s", 0o440, public=True)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec}


def test_no_mount_is_writable_optional_or_by_sub_path():
    text = repr(whole_pod())
    assert "optional" not in text and "subPath" not in text and text.count("'readOnly': True") == 2


def owned(secret):
    return {**secret, "metadata": {**secret["metadata"], "ownerReferences": [make_owner("p", "u")]}}


@pytest.mark.parametrize("version", [ALL_VERSIONS[0], ALL_VERSIONS[-1]])
@pytest.mark.parametrize(
    "manifest",
    [
        param([SECRET], id="secret"),
        param([owned(SECRET)], id="owned"),
        param([whole_pod()], id="pod"),
        param(list(yaml.safe_load_all(make_role("hub", patch=False))), id="role"),
        param(
            list(yaml.safe_load_all(make_role("hub", patch=True, hub_namespace="n"))),
            id="cluster-role",
        ),
    ],
)
def test_manifests_are_valid(manifest, version):
    for each in manifest:
        kubernetes_validate.validate(each, version, strict=True)


VOLUME, PUBLIC = "spawner-tokens", "spawner-tokens-public"
OURS = {"name": VOLUME, "secret": {"secretName": "s", "defaultMode": 0o440}}
MINE = {"name": "mine", "emptyDir": {}}
TAKEN = {"name": VOLUME, "emptyDir": {}}
SIDE = {"name": "side"}
MOUNTED = {"name": "notebook", "volumeMounts": [{"name": "mine", "mountPath": "/run/t"}]}


def ours(pod):
    """Container → volume and path of what is mounted read-only; and the volumes."""
    spec = pod["spec"]
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    mounts = {
        container["name"]: [
            (mount["name"], mount["mountPath"])
            for mount in container.get("volumeMounts", ())
            if mount.get("readOnly")
        ]
        for container in containers
    }
    return mounts, spec["volumes"]


@pytest.mark.parametrize(
    "config, places, mounts, volumes, missing",
    [
        param({}, {"notebook": [VOLUME]}, {"notebook": [VOLUME]}, [OURS], set(), id="models"),
        param(
            {"containers": [{"name": "notebook"}, SIDE]},
            {"notebook": [VOLUME], "none": [VOLUME]},
            {"notebook": [VOLUME], "side": []},
            [OURS],
            {"none"},
            id="what-an-admin-wrote",
        ),
        param(
            {"initContainers": [SIDE]},
            {"side": [VOLUME]},
            {"notebook": [], "side": [VOLUME]},
            [OURS],
            set(),
            id="init-container-alone",
        ),
        param(
            {"volumes": [MINE]},
            {"notebook": [VOLUME, PUBLIC]},
            {"notebook": [VOLUME, PUBLIC]},
            [MINE, *make_volumes("s", 0o440, public=True)],
            set(),
            id="public-file",
        ),
        param(
            {"volumes": [TAKEN]},
            {"notebook": [VOLUME]},
            {"notebook": [VOLUME]},
            [TAKEN],
            set(),
            id="a-volume-of-that-name",
        ),
        param(
            {"containers": [MOUNTED], "volumes": [MINE]},
            {"notebook": [VOLUME]},
            {"notebook": []},
            [MINE, OURS],
            set(),
            id="a-mount-at-that-path",
        ),
    ],
)
async def test_a_pod_gets_the_mounts_beside_its_own(config, places, mounts, volumes, missing):
    pod = make_pod("p", None, 8888, "i", extra_pod_config=config)
    paths = {VOLUME: "/run/t", PUBLIC: "/run/p"}
    wanted = {name: {each: paths[each] for each in found} for name, found in places.items()}
    is_taken = config.get("containers") == [MOUNTED]
    assert find_taken(pod, wanted) == ({"notebook"} if is_taken else set())
    assert mount_secret(pod, "s", 0o440, wanted) == missing
    async with ApiClient() as client:
        found = ours(client.sanitize_for_serialization(pod))
    assert found == (
        {name: [(each, paths[each]) for each in found] for name, found in mounts.items()},
        volumes,
    )


@pytest.mark.parametrize("patch", [False, True])
def test_the_command_prints_the_rights(capsys, patch):
    assert main(["rbac", "--service-account", "my-hub", *(["--patch"] if patch else [])]) == 0
    role, binding = yaml.safe_load_all(capsys.readouterr().out)
    more = ["patch"] if patch else []
    assert {rule["resources"][0]: rule["verbs"] for rule in role["rules"]} == {
        "secrets": ["get", "list", "create", "delete", *more],
        "pods": ["get", "list", *more],
    }
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "my-hub"}]
