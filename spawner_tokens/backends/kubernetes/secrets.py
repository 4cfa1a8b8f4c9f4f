"""A Hub's Secrets: how each is made, renewed, owned and deleted, with the rights that there are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from .apiserver import METADATA, METADATA_LIST, ApiFailure, ApiServer
from .manifest import HUB_LABEL, POD_ANNOTATION, RENEWED_ANNOTATION, make_owner


@dataclass(frozen=True)
class Secret:
    """One as it is. Nothing is changed or deleted but what has this uid."""

    namespace: str
    name: str
    uid: str

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Secret:
        metadata = body["metadata"]
        return cls(metadata["namespace"], metadata["name"], metadata["uid"])


class NotOurs(FileExistsError):
    """A Secret of that name is another Hub's, or a user's."""

    discreet = True  # see describe()


class Secrets:
    """Those with the label of the Hub of this name.

    Where Secrets may be patched, they are; where not, they are deleted and made again. Whether it is so is found out
    once, and kept in ``refused``: resource and namespace, which is empty if rights are for the ``whole_cluster``.
    """

    def __init__(
        self,
        api: ApiServer,
        hub: str,
        refused: set[tuple[str, str]],
        log: logging.Logger,
        *,
        whole_cluster: bool,
    ) -> None:
        self._api = api
        self._hub = hub
        self._refused = refused
        self._log = log
        self._whole_cluster = whole_cluster

    async def put(self, namespace: str, content: Mapping[str, Any]) -> Secret:
        """Make a Secret for a server that starts. If there is one of its name, it is deleted: no running server has it.

        Raises :exc:`OSError`, as all of these do.
        """
        made = await self._create(namespace, content)
        if made is None:
            await self.remove(namespace, content["metadata"]["name"], strictly=True)
            made = await self._create(namespace, content)
        if made is None:
            raise ApiFailure(
                f"the Secret {namespace}/{content['metadata']['name']} is there again when it is deleted"
            )
        return made

    async def renew(self, namespace: str, content: Mapping[str, Any], pod: str) -> None:
        """Bring the Secret of a running server up to date, and give it its owner, the ``pod``."""
        found = await self._find(namespace, content["metadata"]["name"])
        owners = found["metadata"].get("ownerReferences", []) if found else []
        if (
            found
            and found.get("data") == content["data"]
            and (owners or not self._may_patch("secrets", namespace))
        ):
            return  # a Hub that has been started again does not know what there is
        owners = owners or [await self._make_owner(namespace, pod)]
        if found and await self._change(
            Secret.from_body(found), found.get("data", {}), content["data"], owners
        ):
            await self._wake_kubelet(namespace, pod)
            return
        if found:
            # The kubelet keeps the files that it has shown while the Secret is not there.
            await self._delete(Secret.from_body(found))
        owned = {**content, "metadata": {**content["metadata"], "ownerReferences": owners}}
        if await self._create(namespace, owned) is None:
            raise ApiFailure(
                f"the Secret {namespace}/{content['metadata']['name']} is there again when it is deleted"
            )

    async def set_owner(self, secret: Secret, pod: str) -> None:
        """Give it its owner, once there is one. Where it may not be patched, it stays without until it is renewed."""
        if not self._may_patch("secrets", secret.namespace):
            return
        # Not by a watch's word: what names a pod that is gone is deleted at once.
        owner = await self._make_owner(secret.namespace, pod)
        await self._patch(
            "secrets",
            secret.namespace,
            secret.name,
            {"uid": secret.uid, "ownerReferences": [owner]},
        )

    async def remove(self, namespace: str, name: str, *, strictly: bool = False) -> None:
        """Delete the Secret if it is the Hub's; with ``strictly``, raise :exc:`NotOurs` if it is not."""
        try:
            found = await self._find(namespace, name, kind=METADATA)
        except NotOurs:
            if strictly:
                raise
            return
        if found:
            await self._delete(Secret.from_body(found))

    async def sweep(self, namespaces: Iterable[str] | None) -> None:
        """Delete those whose pod is not there; ``None`` for all namespaces. No server starts meanwhile."""
        failure = None
        for namespace in [None] if namespaces is None else namespaces:
            try:
                await self._sweep_namespace(namespace)
            except ApiFailure as error:
                failure = error
        if failure is not None:
            raise failure

    async def _sweep_namespace(self, namespace: str | None) -> None:
        secrets = await self._list("secrets", namespace, labelSelector=f"{HUB_LABEL}={self._hub}")
        if not secrets:
            return
        pods = await self._list("pods", namespace)
        there = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods}
        for body in secrets:
            secret, pod = (
                Secret.from_body(body),
                body["metadata"].get("annotations", {}).get(POD_ANNOTATION),
            )
            if (secret.namespace, pod) not in there:
                self._log.warning(
                    "Deleting the Secret %s/%s, whose pod is gone", secret.namespace, secret.name
                )
                await self._delete(secret)

    # -- requests --------------------------------------------------------------------------------

    async def _list(
        self, resource: str, namespace: str | None, **query: str
    ) -> list[Mapping[str, Any]]:
        answer = await self._api.ask(
            "GET", _path(resource, namespace), query=query, kind=METADATA_LIST
        )
        items: list[Mapping[str, Any]] | None = answer.body["items"]
        return items or []  # null: an empty list, where only the metadata is asked for

    async def _find(
        self, namespace: str, name: str, kind: str | None = None
    ) -> Mapping[str, Any] | None:
        path = _path("secrets", namespace, name)
        answer = await self._api.ask("GET", path, expected=(HTTPStatus.NOT_FOUND,), kind=kind)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.body["metadata"].get("labels", {}).get(HUB_LABEL) != self._hub:
            raise NotOurs(
                f"there is a Secret {namespace}/{name} that is not this Hub's; delete it, "
                "or set another tokens_secret_name_template"
            )
        return answer.body

    async def _create(self, namespace: str, content: Mapping[str, Any]) -> Secret | None:
        """``None`` if there is one of its name."""
        answer = await self._api.ask(
            "POST", _path("secrets", namespace), content, expected=(HTTPStatus.CONFLICT,)
        )
        return None if answer.status == HTTPStatus.CONFLICT else Secret.from_body(answer.body)

    async def _change(
        self,
        secret: Secret,
        before: Mapping[str, str],
        data: Mapping[str, str],
        owners: list[Mapping[str, Any]],
    ) -> bool:
        metadata = {"uid": secret.uid, "ownerReferences": owners}
        changes = {**dict.fromkeys(before), **data}  # null: the key goes
        return await self._patch("secrets", secret.namespace, secret.name, metadata, data=changes)

    async def _delete(self, secret: Secret) -> None:
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": secret.uid}}
        gone = (
            HTTPStatus.NOT_FOUND,
            HTTPStatus.CONFLICT,
        )  # the latter: another one has its name now
        await self._api.ask(
            "DELETE", _path("secrets", secret.namespace, secret.name), body, expected=gone
        )

    async def _make_owner(self, namespace: str, pod: str) -> Mapping[str, Any]:
        answer = await self._api.ask("GET", _path("pods", namespace, pod), kind=METADATA)
        return make_owner(pod, answer.body["metadata"]["uid"])

    async def _wake_kubelet(self, namespace: str, pod: str) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        try:
            await self._patch("pods", namespace, pod, {"annotations": {RENEWED_ANNOTATION: now}})
        except ApiFailure as error:  # it looks by itself, later
            self._log.debug("Could not annotate a pod: %s", error)

    async def _patch(
        self, resource: str, namespace: str, name: str, metadata: Mapping[str, Any], **changes: Any
    ) -> bool:
        """Whether it is allowed."""
        if not self._may_patch(resource, namespace):
            return False
        body = {"metadata": metadata, **changes}
        path = _path(resource, namespace, name)
        answer = await self._api.ask("PATCH", path, body, expected=(HTTPStatus.FORBIDDEN,))
        if answer.status == HTTPStatus.FORBIDDEN:
            self._refused.add((resource, self._scope(namespace)))
            self._log.info("The Hub may not patch %s in %s", resource, namespace)
            return False
        return True

    def _may_patch(self, resource: str, namespace: str) -> bool:
        return (resource, self._scope(namespace)) not in self._refused

    def _scope(self, namespace: str) -> str:
        return "" if self._whole_cluster else namespace


def _path(resource: str, namespace: str | None, name: str | None = None) -> str:
    below = [] if namespace is None else ["namespaces", namespace]
    parts = [*below, resource, *([] if name is None else [name])]
    return "/" + "/".join(quote(part, safe="") for part in parts)
