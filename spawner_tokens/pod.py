"""KubeSpawner's pod, before it is made: our volumes and mounts go in, beside those that it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubernetes_asyncio.client.models import V1Volume, V1VolumeMount
from kubespawner.utils import get_k8s_model

from .manifest import PUBLIC_VOLUME, make_mount, make_volumes


def mount_secret(pod: Any, secret: str, mode: int, places: Mapping[str, Mapping[str, str]]) -> set[str]:
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
    volumes = make_volumes(secret, mode, public=any(PUBLIC_VOLUME in mounts for mounts in places.values()))
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
