"""Names in Kubernetes: of Hubs, Secrets, containers, and an admin's variables. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from string import Formatter
from typing import Any

# Of the labels that Helm charts set: those with the name of the release, in all its versions.
_RELEASE_LABELS = ("app.kubernetes.io/instance", "release")

# Fields of KubeSpawner's templates: with one of the first, each server has a name of its own. A
# user's name and a server's, one after the other, may be the same text for two servers.
_SERVER_FIELDS = {"pod_name", "user_server", "safe_user_server", "escaped_user_server"}
_OTHER_FIELDS = {
    *("userid", "username", "safe_username", "escaped_username"),
    *("servername", "safe_servername", "escaped_servername"),
    *("namespace", "hubnamespace", "pvc_name"),
}


def make_hub_name(hub: str, namespace: str, component: str, labels: Mapping[str, str]) -> str:
    """A name for a Hub among those of a cluster: twelve hexadecimal digits.

    Hubs of several releases may have their databases at the same path, each in its own pod.
    ``hub``: the name by its database. ``component`` and ``labels``: KubeSpawner's
    ``component_label`` and ``common_labels``.
    """
    release = next((labels[label] for label in _RELEASE_LABELS if label in labels), None)
    identity = json.dumps([hub, namespace, component, release])
    return hashlib.sha256(identity.encode()).hexdigest()[:12]


def find_template_error(template: str) -> str | None:
    """Why this template does not make a name for each server's Secret; ``None`` if it does."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError:
        return "is not a template"
    fields = {field for _, field, *_ in parts if field is not None}
    if not fields & _SERVER_FIELDS:
        return "makes the same name for several servers"
    is_name = all(re.fullmatch("[-a-z0-9.]*", text) for text, *_ in parts)
    if not is_name or fields - _SERVER_FIELDS - _OTHER_FIELDS:
        return "does not make a valid name for a Secret"
    return None


def is_container_name(name: str) -> bool:
    return re.fullmatch("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) is not None


def list_variables(environment: Mapping[str, Any]) -> set[str]:
    """The variables that KubeSpawner's ``environment`` sets: an entry may have its name inside."""
    return {
        entry.get("name", key) if isinstance(entry, Mapping) else key
        for key, entry in environment.items()
    }
