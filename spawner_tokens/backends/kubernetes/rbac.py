"""Kubernetes: the rights that a Hub needs to hand over tokens, beside those of KubeSpawner. Pure."""

from __future__ import annotations

# Resource → verbs. get: what is there, and a pod's uid; list: what was left behind. Nothing needs a watch.
RIGHTS = {"secrets": ("get", "list", "create", "delete"), "pods": ("get", "list")}
# Secrets are then renewed in place, and owned by their pods at once; and an annotation of the pod wakes the kubelet.
MORE_RIGHTS = {"secrets": ("patch",), "pods": ("patch",)}


def make_role(service_account: str, *, patch: bool, hub_namespace: str | None = None) -> str:
    """YAML of a Role, and its binding; with ``hub_namespace``, of a ClusterRole, for a service account of there."""
    kind = "Role" if hub_namespace is None else "ClusterRole"
    role = [
        "apiVersion: rbac.authorization.k8s.io/v1",
        f"kind: {kind}",
        "metadata:",
        "  name: spawner-tokens",
        "rules:",
    ]
    for resource, verbs in RIGHTS.items():
        more = MORE_RIGHTS[resource] if patch else ()
        role += [
            '  - apiGroups: [""]',
            f"    resources: [{resource}]",
            f"    verbs: [{', '.join((*verbs, *more))}]",
        ]
    binding = [
        "apiVersion: rbac.authorization.k8s.io/v1",
        f"kind: {kind}Binding",
        "metadata:",
        "  name: spawner-tokens",
        "roleRef:",
        "  apiGroup: rbac.authorization.k8s.io",
        f"  kind: {kind}",
        "  name: spawner-tokens",
        "subjects:",
        "  - kind: ServiceAccount",
        f"    name: {service_account}",
        *([] if hub_namespace is None else [f"    namespace: {hub_namespace}"]),
    ]
    return "\n".join([*role, "---", *binding, ""])
