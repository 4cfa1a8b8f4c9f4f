"""The rights in Kubernetes that a Hub needs for tokens, besides those for KubeSpawner. Pure."""

from __future__ import annotations

# Resource → verbs. `get` is for a Secret that exists, and for a pod's uid; `list` for the sweep.
RIGHTS = {"secrets": ("get", "list", "create", "delete"), "pods": ("get", "list")}
# With these, a Secret is changed and not replaced, it gets its owner at the start, and the Hub
# annotates the pod, which makes the kubelet update the files at once.
MORE_RIGHTS = {"secrets": ("patch",), "pods": ("patch",)}


def make_role(service_account: str, *, patch: bool, hub_namespace: str | None = None) -> str:
    """YAML of a Role and its binding to a service account.

    ``patch``: whether to give :data:`MORE_RIGHTS`, too. ``hub_namespace``: of the service account,
    for a ClusterRole.
    """
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
