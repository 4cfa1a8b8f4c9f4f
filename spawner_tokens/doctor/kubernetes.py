"""The check of what Kubernetes allows the Hub to do with Secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from ..backends.kubernetes.rbac import RIGHTS
from .finding import Finding, Level, error
from .setup import Setup

_PATIENCE = 5  # seconds
_VERBS = RIGHTS["secrets"]


def check_rights(setup: Setup) -> Iterator[Finding]:
    """The Hub may do with Secrets what it has to."""
    if setup.no_cluster:
        what = f"Whether the Hub may keep Secrets was not asked: {setup.no_cluster}."
        yield Finding("rights", Level.NOTE, what)
        return
    try:
        denied = asyncio.run(_find_denied(setup.spawner))
    except Exception as failure:
        yield error(
            "kubernetes-rights",
            f"The Kubernetes API does not answer here: {type(failure).__name__}.",
            "look at the Hub's service account, or at the kubeconfig that KUBECONFIG names",
        )
        return
    if denied:
        namespace, verbs = setup.spawner.namespace, ", ".join(_VERBS)
        yield error(
            "kubernetes-rights",
            f"The Hub may not {', '.join(denied)} Secrets in the namespace {namespace}.",
            "add this to the Hub's Role, as spawner-tokens rbac prints it:\n"
            f'{{apiGroups: [""], resources: [secrets], verbs: [{verbs}]}}',
        )


async def _find_denied(spawner: Any) -> list[str]:
    from kubernetes_asyncio import client

    denied = []
    async with client.ApiClient() as connection:  # as KubeSpawner has configured it
        api = client.AuthorizationV1Api(connection)
        for verb in _VERBS:
            attributes = client.V1ResourceAttributes(
                namespace=spawner.namespace, verb=verb, resource="secrets", group=""
            )
            spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
            review = client.V1SelfSubjectAccessReview(spec=spec)
            call = api.create_self_subject_access_review(review)
            if not (await asyncio.wait_for(call, _PATIENCE)).status.allowed:
                denied.append(verb)
    return denied
