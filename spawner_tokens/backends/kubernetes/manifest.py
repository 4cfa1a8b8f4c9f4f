"""Kubernetes' objects for tokens: the Secret, and its volumes and mounts. Pure builders."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any

from kubernetes_asyncio.client.models import V1Volume, V1VolumeMount
from kubespawner.utils import get_k8s_model

from ...tokens.files import PUBLIC_FILE

# On each of our Secrets: its Hub, its server and its pod. A Secret without this Hub's label is
# never touched, and one of another server neither renewed nor withdrawn.
HUB_LABEL = "spawner-tokens/hub"
SERVER_ANNOTATION = "spawner-tokens/server"
POD_ANNOTATION = "spawner-tokens/pod"
# On a pod: its change makes the kubelet update the files at once.
RENEWED_ANNOTATION = "spawner-tokens/renewed"

VOLUME = "spawner-tokens"
PUBLIC_VOLUME = f"{VOLUME}-public"

# The group of the user in Jupyter's docker-stacks, whose images start as root and switch to it.
_NB_GID = "100"


def make_data(files: Mapping[str, bytes | None]) -> dict[str, str]:
    """A Secret's data: key → base64. ``files``: name → contents, or ``None`` for no such file."""
    found = {name: contents for name, contents in files.items() if contents is not None}
    if PUBLIC_FILE in files:
        # Its volume names its key, so the key has to exist. An empty file is valid for git.
        found.setdefault(PUBLIC_FILE, b"")
    return {name: base64.b64encode(contents).decode() for name, contents in found.items()}


def make_secret(
    name: str,
    hub: str,
    server: str,
    pod: str,
    data: Mapping[str, str],
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
) -> dict[str, Any]:
    """The Secret of one server.

    ``hub`` and ``pod``: the names of its Hub and its pod. ``server``: the one of its location.
    ``data``: see :func:`make_data`. ``labels`` and ``annotations``: those of all objects of its
    Spawner.
    """
    metadata = {
        "name": name,
        "labels": {**labels, HUB_LABEL: hub},
        "annotations": {**annotations, SERVER_ANNOTATION: server, POD_ANNOTATION: pod},
    }
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "Opaque",
        "metadata": metadata,
        "data": dict(data),
    }


def make_owner(pod: str, uid: str) -> dict[str, Any]:
    """An owner reference: the garbage collector deletes the Secret when the pod is gone."""
    # With OwnerReferencesPermissionEnforcement, blockOwnerDeletion needs a right on the pod's
    # finalizers.
    return {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid}


def make_volumes(secret: str, mode: int, *, public: bool) -> list[dict[str, Any]]:
    """The volumes of a pod, for files with this ``mode``.

    ``public``: whether to add one for the file that all users of the pod can read.
    """
    # In one volume, another mode for one key needs a list of all keys, and each has to exist.
    volumes = [{"name": VOLUME, "secret": {"secretName": secret, "defaultMode": mode}}]
    if public:
        items = [{"key": PUBLIC_FILE, "path": PUBLIC_FILE}]
        source = {"secretName": secret, "defaultMode": 0o444, "items": items}
        volumes.append({"name": PUBLIC_VOLUME, "secret": source})
    return volumes


def make_mount(volume: str, path: str) -> dict[str, Any]:
    return {"name": volume, "mountPath": path, "readOnly": True}


def make_reference(secret: str, key: str) -> dict[str, Any]:
    """A variable whose value is a key of a Secret, as KubeSpawner's environment has it."""
    return {"valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def escape(text: str) -> str:
    """A variable's text for the kubelet, which expands ``$(NAME)`` and turns ``$$`` into ``$``."""
    return text.replace("$", "$$")


def find_mode(pod: Mapping[str, Any], names: Iterable[str]) -> int:
    """The files' mode: 0440 if all these containers can read them by their group, else 0444.

    ``pod``: its ``spec``, as the API has it. ``names``: of containers. The kubelet gives the files
    to root and the pod's ``fsGroup``. Where it is not known that a user keeps that group, the files
    are for all in the container.
    """
    wanted = set(names)
    every = [*pod.get("containers", ()), *(pod.get("initContainers") or ())]
    readers = [container for container in every if container["name"] in wanted]
    return 0o440 if all(_is_in_group(pod, container) for container in readers) else 0o444


def _is_in_group(pod: Mapping[str, Any], container: Mapping[str, Any]) -> bool:
    context = dict(pod.get("securityContext") or {})
    own = container.get("securityContext") or {}
    context.update({name: value for name, value in own.items() if value is not None})
    user, group = context.get("runAsUser"), context.get("fsGroup")
    if not user and not context.get("runAsNonRoot"):
        # It may start as root and become the image's user, who has only the groups of the image.
        env = {variable["name"]: variable.get("value") for variable in container.get("env") or ()}
        return str(group) == (env.get("NB_GID") or _NB_GID)
    if group:
        return True
    is_root_group = 0 in (
        group,
        context.get("runAsGroup"),
        *(context.get("supplementalGroups") or ()),
    )
    return user is not None and is_root_group


def mount_secret(
    pod: Any, secret: str, mode: int, places: Mapping[str, Mapping[str, str]]
) -> set[str]:
    """Mount the Secret in the containers of a pod, which is a :class:`V1Pod`.

    ``mode``: of the files. ``places``: container → volume → path. A mount that the admin has set at
    the same path stays, and so does a volume of the same name. Returns the names of containers that
    the pod does not have.
    """
    found = set()
    for container in [*pod.spec.containers, *(pod.spec.init_containers or ())]:
        name = _get(container, "name", "name")
        found.add(name)
        for volume, path in places.get(name, {}).items():
            _add_mount(container, make_mount(volume, path))
    taken = {_get(volume, "name", "name") for volume in pod.spec.volumes or ()}
    public = any(PUBLIC_VOLUME in mounts for mounts in places.values())
    volumes = make_volumes(secret, mode, public=public)
    ours = [get_k8s_model(V1Volume, volume) for volume in volumes if volume["name"] not in taken]
    pod.spec.volumes = [*(pod.spec.volumes or ()), *ours]
    return set(places) - found


def find_taken(pod: Any, places: Mapping[str, Mapping[str, str]]) -> set[str]:
    """The containers that have a mount of their own where :func:`mount_secret` would add one."""
    every = [*pod.spec.containers, *(pod.spec.init_containers or ())]
    names = [_get(container, "name", "name") for container in every]
    return {
        name
        for name, container in zip(names, every, strict=True)
        if any(_has_mount(container, path) for path in places.get(name, {}).values())
    }


def _has_mount(container: Any, path: str) -> bool:
    mounts = _get(container, "volume_mounts", "volumeMounts") or ()
    return any(_get(each, "mount_path", "mountPath") == path for each in mounts)


def _add_mount(container: Any, mount: Mapping[str, Any]) -> None:
    if _has_mount(container, mount["mountPath"]):
        return
    mounts = _get(container, "volume_mounts", "volumeMounts") or []
    if isinstance(container, dict):
        container["volumeMounts"] = [*mounts, dict(mount)]
    else:
        container.volume_mounts = [*mounts, get_k8s_model(V1VolumeMount, mount)]


def _get(item: Any, attribute: str, key: str) -> Any:
    """A field of one of the client's models, or of the dict that an admin gave in its place."""
    return item.get(key) if isinstance(item, Mapping) else getattr(item, attribute)
