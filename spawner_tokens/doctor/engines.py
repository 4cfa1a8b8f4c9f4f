"""Checks of the engines: whether Docker answers, and what Kubernetes lets the Hub do with Secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

from ..backends.kubernetes.rbac import RIGHTS
from .finding import Finding, Words, error, warning
from .setup import Setup

_PATIENCE = 5  # seconds
_VERBS = RIGHTS["secrets"]


async def check_docker(setup: Setup) -> AsyncIterator[Finding]:
    """The Docker Engine answers."""
    try:
        await asyncio.to_thread(_ask_docker, setup.spawner)
    except Exception as failure:
        yield error(
            "docker-unreachable",
            f"The Docker Engine does not answer here: {type(failure).__name__}.",
            "No server can be started.",
            *_advise(setup),
        )


def _advise(setup: Setup) -> Iterator[Words]:
    if setup.spawner.tls_config:
        section = setup.section(setup.spawner, "tls_config", "DockerSpawner")
        yield Words(
            f"look at c.{section}.tls_config: client_cert is a pair of files, a certificate and its key; ca_cert is a file, "
            "which is used with verify = True; the Hub's user has to be able to read them"
        )
    yield Words(
        "start the engine, give the Hub's user its socket (/var/run/docker.sock), or name another one in the environment: "
        "DOCKER_HOST, and for TLS DOCKER_TLS_VERIFY and DOCKER_CERT_PATH"
    )


def _ask_docker(spawner: Any) -> None:
    # As DockerSpawner.client, which would wait for a minute.
    import docker

    tls = {"tls": docker.tls.TLSConfig(**spawner.tls_config)} if spawner.tls_config else {}
    settings = {
        "version": "auto",
        "timeout": _PATIENCE,
        **tls,
        **docker.utils.kwargs_from_env(),
        **spawner.client_kwargs,
    }
    client = docker.APIClient(**settings)
    try:
        client.ping()
    finally:
        client.close()


async def check_kubernetes(setup: Setup) -> AsyncIterator[Finding]:
    """The Hub may do with Secrets what it has to."""
    if setup.outside:
        yield warning(
            "kubernetes-not-asked",
            f"Whether the Hub may keep Secrets was not asked: {setup.outside}.",
            "The tokens of a server are in a Secret.",
            Words(
                "run this command in the Hub's pod: kubectl exec deploy/hub -- "
                "spawner-tokens doctor -f /usr/local/etc/jupyterhub/jupyterhub_config.py"
            ),
        )
        return
    try:
        denied = [verb for verb in _VERBS if not await _may(setup.spawner, verb)]
    except Exception as failure:
        yield error(
            "kubernetes-unreachable",
            f"The Kubernetes API does not answer here: {type(failure).__name__}.",
            "No server can be started.",
            Words("look at the Hub's service account, or at the kubeconfig that KUBECONFIG names"),
        )
        return
    if denied:
        verbs = ", ".join(_VERBS)
        yield error(
            "kubernetes-rights",
            f"The Hub may not {', '.join(denied)} Secrets in the namespace {setup.spawner.namespace}.",
            "A server's tokens are a Secret that the Hub makes, replaces and removes.",
            Words(
                f'add to the Hub\'s Role: {{apiGroups: [""], resources: [secrets], verbs: [{verbs}]}}, as '
                "spawner-tokens rbac prints it"
            ),
        )


async def _may(spawner: Any, verb: str) -> bool:
    from kubernetes_asyncio import client

    attributes = client.V1ResourceAttributes(
        namespace=spawner.namespace, verb=verb, resource="secrets", group=""
    )
    spec = client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    async with (
        client.ApiClient() as connection
    ):  # its configuration is the one that KubeSpawner has loaded
        api = client.AuthorizationV1Api(connection)
        review = api.create_self_subject_access_review(client.V1SelfSubjectAccessReview(spec=spec))
        answer = await asyncio.wait_for(review, _PATIENCE)
    return bool(answer.status.allowed)
