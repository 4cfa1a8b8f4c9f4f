"""Kubernetes' objects for tokens: the Secret, and what a pod has of it. Pure builders."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from kubernetes_asyncio.client.models import V1Volume, V1VolumeMount
from kubespawner.utils import get_k8s_model

from ...tokens.files import PUBLIC_FILE

# On each of our Secrets: whose it is. Nothing without the label is ever changed or deleted.
HUB_LABEL = "spawner-tokens/hub"
POD_ANNOTATION = "spawner-tokens/pod"
# On a pod, whose change makes the kubelet look at once.
RENEWED_ANNOTATION = "spawner-tokens/renewed"

VOLUME = "spawner-tokens"
PUBLIC_VOLUME = f"{VOLUME}-public"

# The group of the user in Jupyter's docker-stacks, whose images start as root and become that user.
_NB_GID = "100"


def make_data(files: Mapping[str, bytes | None]) -> dict[str, str]:
    """A Secret's data: key → base64."""
    found = {name: contents for name, contents in files.items() if contents is not None}
    if (
        PUBLIC_FILE in files
    ):  # a mounted key has to be there: git takes an empty file for no configuration
        found.setdefault(PUBLIC_FILE, b"")
    return {name: base64.b64encode(contents).decode() for name, contents in found.items()}


def make_secret(
    name: str,
    hub: str,
    pod: str,
    data: Mapping[str, str],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """The Secret of one server. ``labels`` and ``annotations`` are those of all objects of its Spawner."""
    metadata = {
        "name": name,
        "labels": {**labels, HUB_LABEL: hub},
        "annotations": {**annotations, POD_ANNOTATION: pod},
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata,
        "data": dict(data),
    }


def make_owner(pod: str, uid: str) -> dict[str, Any]:
    """With it, the garbage collector deletes the Secret when the pod is gone."""
    # No blockOwnerDeletion: with OwnerReferencesPermissionEnforcement, that needs a right on the pod's finalizers.
    return {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}


def make_volumes(secret: str, mode: int, *, public: bool) -> list[dict[str, Any]]:
    """The volumes of a pod; with ``public``, one for the file that all users of the pod can read."""
    # A mode of one key would need a list of all of them, and a listed key that is not there stops the volume.
    volumes = [{"name": VOLUME, "secret": {"secretName": secret, "defaultMode": mode}}]
    if public:
        items = [{"key": PUBLIC_FILE, "path": PUBLIC_FILE}]
        source = {"secretName": secret, "defaultMode": 0o444, "items": items}
        volumes.append({"name": PUBLIC_VOLUME, "secret": source})
    return volumes


def make_mount(volume: str, path: str) -> dict[str, Any]:
    return {"name": volume, "mountPath": path, "readOnly": True}


def make_reference(secret: str, key: str) -> dict[str, Any]:
    """A variable's source, for the environment of KubeSpawner."""
    return {"valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def escape(text: str) -> str:
    """A variable's text that the kubelet leaves as it is: it would expand ``$(NAME)``."""
    return text.replace("$", "$$")


def find_mode(pod: Mapping[str, Any], names: Iterable[str]) -> int:
    """The files' mode: closed to others if a group of the files has the processes of all these containers in it.

    ``pod`` is a pod's ``spec`` as the API has it. The kubelet gives files to root and the pod's ``fsGroup``.
    """
    wanted = set(names)
    containers = [*pod.get("containers", ()), *(pod.get("initContainers") or ())]
    in_group = [
        _is_in_group(pod, container) for container in containers if container["name"] in wanted
    ]
    return 0o440 if all(in_group) else 0o444


def _is_in_group(pod: Mapping[str, Any], container: Mapping[str, Any]) -> bool:
    of_pod, of_container = pod.get("securityContext") or {}, container.get("securityContext") or {}
    context = {
        **of_pod,
        **{name: value for name, value in of_container.items() if value is not None},
    }
    user, group = context.get("runAsUser"), context.get("fsGroup")
    if user == 0:  # it may become the image's user, who has but the groups that the image knows
        env = {variable["name"]: variable.get("value") for variable in container.get("env") or ()}
        return str(group) == (env.get("NB_GID") or _NB_GID)
    if group:
        return True
    roots = 0 in (group, context.get("runAsGroup"), *(context.get("supplementalGroups") or ()))
    return user is not None and roots


def mount_secret(
    pod: Any, secret: str, mode: int, places: Mapping[str, Mapping[str, str]]
) -> set[str]:
    """Mount the Secret in the pod's containers. ``places``: container → volume → path.

    A mount of the admin's at the same path stays, and so does a volume of the same name. Returns the names of
    containers that are not there.
    """
    there = set()
    for container in [*pod.spec.containers, *(pod.spec.init_containers or ())]:
        name = _get(container, "name", "name")
        there.add(name)
        for volume, path in places.get(name, {}).items():
            _add_mount(container, make_mount(volume, path))
    taken = {_get(volume, "name", "name") for volume in pod.spec.volumes or ()}
    volumes = make_volumes(
        secret, mode, public=any(PUBLIC_VOLUME in mounts for mounts in places.values())
    )
    ours = [get_k8s_model(V1Volume, volume) for volume in volumes if volume["name"] not in taken]
    pod.spec.volumes = [*(pod.spec.volumes or ()), *ours]
    return set(places) - there


def _add_mount(container: Any, mount: Mapping[str, Any]) -> None:
    mounts = _get(container, "volume_mounts", "volumeMounts") or []
    if any(_get(each, "mount_path", "mountPath") == mount["mountPath"] for each in mounts):
        return
    if isinstance(container, dict):
        container["volumeMounts"] = [*mounts, dict(mount)]
    else:
        container.volume_mounts = [*mounts, get_k8s_model(V1VolumeMount, mount)]


def _get(item: Any, attribute: str, key: str) -> Any:
    """Of an object of Kubernetes' client, or of the dict that an admin gave in its place."""
    return item.get(key) if isinstance(item, Mapping) else getattr(item, attribute)
