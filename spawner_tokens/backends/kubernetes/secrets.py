"""A Hub's Secrets: how each is made, renewed and deleted, with the rights that the Hub has."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from ...backend import REFUSED_FOR
from ...sweep import Leftover, parse_time
from .apiserver import METADATA, METADATA_LIST, ApiFailure, ApiServer
from .manifest import HUB_LABEL, POD_ANNOTATION, RENEWED_ANNOTATION, SERVER_ANNOTATION, make_owner

# Objects in one answer: their metadata are read in the event loop.
_PAGE = 100


@dataclass(frozen=True)
class Secret:
    """A Secret that exists. It is changed or deleted only as long as it has this uid."""

    namespace: str
    name: str
    uid: str
    keys: frozenset[str] = frozenset()
    owners: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Secret:
        metadata, keys = body["metadata"], frozenset(body.get("data") or ())
        owners = metadata.get("ownerReferences") or ()
        return cls(metadata["namespace"], metadata["name"], metadata["uid"], keys, owners)


class NotOurs(FileExistsError):
    """A Secret of that name exists, and it is not this Hub's."""

    discreet = True  # see describe_error()


@dataclass(eq=False)
class Secrets:
    """The Secrets with the label of the Hub of this name.

    They are patched if the Hub has that right, else deleted and made again. ``refused`` keeps what
    the Hub may not patch, (resource, namespace), and when to try again, by the monotonic clock. All
    methods raise :exc:`OSError` if a request fails.
    """

    api: ApiServer
    hub: str
    refused: dict[tuple[str, str], float]
    log: logging.Logger

    async def put(self, namespace: str, content: Mapping[str, Any]) -> Secret:
        """Make a Secret for a server that starts.

        ``content``: see :func:`~spawner_tokens.backends.kubernetes.manifest.make_secret`. An
        existing Secret of its name is deleted: no running server uses it.
        """
        if made := await self._create(namespace, content):
            return made
        if found := await self._find(namespace, content["metadata"]["name"], kind=METADATA):
            await self.delete(Secret.from_body(found))
        return await self._create_again(namespace, content)

    async def renew(
        self,
        namespace: str,
        content: Mapping[str, Any],
        pod: str,
        gone: Collection[str],
        known: Secret | None = None,
    ) -> Secret | None:
        """Bring the Secret of a running server up to date, and make its ``pod`` its owner.

        ``gone``: keys that it must not have any more. Other keys that are not in ``content`` stay.
        ``known``: the Secret as this Hub made it last, which spares a look at it. Returns it as it
        is now; ``None`` if the next renewal has to look.
        """
        may_patch = self._may_patch("secrets", namespace)
        if known and not may_patch and known.keys <= {*gone, *content["data"]}:
            owners = known.owners or await self._find_owners(namespace, pod)
            return await self._replace(known, content, owners)
        name, server = content["metadata"]["name"], _annotation(content, SERVER_ANNOTATION)
        found = await self._find(namespace, name)
        if found and _annotation(found, SERVER_ANNOTATION) != server:
            raise NotOurs(f"the Secret {namespace}/{name} is another server's now")
        owners = found["metadata"].get("ownerReferences", []) if found else []
        old = found.get("data", {}) if found else {}
        kept = {key: text for key, text in old.items() if key not in gone}
        content = {**content, "data": {**kept, **content["data"]}}
        if found is None:
            owners = await self._find_owners(namespace, pod)
            return await self._create_again(namespace, _make_owned(content, owners))
        secret = Secret.from_body(found)
        if old == content["data"] and (owners or not may_patch):
            return secret  # often so after a restart of the Hub, which delivers all files again
        owners = owners or await self._find_owners(namespace, pod)
        metadata = {"uid": secret.uid, "ownerReferences": owners}
        data = {**dict.fromkeys(gone), **content["data"]}  # null: no such key
        if await self._patch("secrets", namespace, secret.name, metadata, data=data):
            await self._annotate_pod(namespace, pod)
            return None
        return await self._replace(secret, content, owners)

    async def _replace(
        self, old: Secret, content: Mapping[str, Any], owners: Sequence[Any]
    ) -> Secret:
        owned = _make_owned(content, owners)
        # It is not deleted by a Hub that cannot make another.
        await self._create(old.namespace, owned, dryRun="All")
        await self.delete(old)  # the kubelet keeps the mounted files meanwhile
        return await self._create_again(old.namespace, owned)

    async def set_owner(self, secret: Secret, pod: str) -> None:
        """Make an existing pod the Secret's owner; without the right to patch, do nothing.

        :meth:`renew` does it then.
        """
        if not self._may_patch("secrets", secret.namespace):
            return
        # The API server is asked for the pod's uid: with the uid of a pod that is gone, the Secret
        # would be deleted at once.
        if owners := await self._find_owners(secret.namespace, pod):
            metadata = {"uid": secret.uid, "ownerReferences": owners}
            await self._patch("secrets", secret.namespace, secret.name, metadata)

    async def remove(self, namespace: str, name: str, server: str, uid: str | None) -> None:
        """Delete the Secret of a server, if there is one; another of its name stays.

        ``server``: see :func:`~spawner_tokens.backends.kubernetes.manifest.make_secret`. ``uid``:
        the Secret's; ``None`` if it is not known.
        """
        if uid is not None and await self.delete(Secret(namespace, name, uid)):
            return
        try:
            found = await self._find(namespace, name, kind=METADATA)
        except NotOurs:
            return
        if found and _annotation(found, SERVER_ANNOTATION) == server:
            await self.delete(Secret.from_body(found))

    async def find_left(
        self, hubs: Iterable[str], namespace: str | None
    ) -> AsyncIterator[Leftover]:
        """The Secrets whose pod does not exist.

        ``hubs``: the names that this Hub had then. ``namespace``: all of them if ``None``.
        """
        selector = f"{HUB_LABEL} in ({','.join(hubs)})"
        bodies = await self._list("secrets", namespace, labelSelector=selector)
        pods = await self._list("pods", namespace) if bodies else ()
        existing = {(pod["metadata"]["namespace"], pod["metadata"]["name"]) for pod in pods}
        for body in bodies:
            secret, made_at = Secret.from_body(body), body["metadata"]["creationTimestamp"]
            if (secret.namespace, _annotation(body, POD_ANNOTATION)) not in existing:
                location = {"namespace": secret.namespace, "secret": secret.name}
                yield Leftover(location, partial(self.delete, secret), parse_time(made_at))

    # -- requests --------------------------------------------------------------------------------

    async def _list(
        self, resource: str, namespace: str | None, **query: str
    ) -> list[Mapping[str, Any]]:
        path, pages = _path(resource, namespace), {"limit": str(_PAGE)}
        found: list[Mapping[str, Any]] = []
        while True:
            answer = await self.api.ask("GET", path, query=query | pages, kind=METADATA_LIST)
            found += answer.body["items"] or []  # an empty list of this kind is null
            if not (rest := answer.body["metadata"].get("continue")):
                return found
            pages["continue"] = rest

    async def _find(
        self, namespace: str, name: str, kind: str | None = None
    ) -> Mapping[str, Any] | None:
        path = _path("secrets", namespace, name)
        answer = await self.api.ask("GET", path, expected=(HTTPStatus.NOT_FOUND,), kind=kind)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        if answer.body["metadata"].get("labels", {}).get(HUB_LABEL) != self.hub:
            raise NotOurs(
                f"there is a Secret {namespace}/{name} that is not this Hub's; delete it, "
                "or set another tokens_secret_name_template"
            )
        return answer.body

    async def _create(
        self, namespace: str, content: Mapping[str, Any], **query: str
    ) -> Secret | None:
        """Create a Secret; ``None`` if one of its name exists."""
        path, exists = _path("secrets", namespace), (HTTPStatus.CONFLICT,)
        answer = await self.api.ask("POST", path, content, query=query, expected=exists)
        return None if answer.status == HTTPStatus.CONFLICT else Secret.from_body(answer.body)

    async def _create_again(self, namespace: str, content: Mapping[str, Any]) -> Secret:
        if made := await self._create(namespace, content):
            return made
        name = content["metadata"]["name"]
        raise ApiFailure(f"the Secret {namespace}/{name} exists again after it was deleted")

    async def delete(self, secret: Secret) -> bool:
        """Delete a Secret. Returns whether none has its name now, as far as is known."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": secret.uid}}
        path = _path("secrets", secret.namespace, secret.name)
        gone = (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)  # conflict: another one has its name
        answer = await self.api.ask("DELETE", path, body, expected=gone)
        return answer.status != HTTPStatus.CONFLICT

    async def _find_owners(self, namespace: str, pod: str) -> Sequence[Mapping[str, Any]]:
        """The pod as an owner; none if the Hub may not ask for it."""
        path, refused = _path("pods", namespace, pod), (HTTPStatus.FORBIDDEN,)
        answer = await self.api.ask("GET", path, expected=refused, kind=METADATA)
        if answer.status == HTTPStatus.FORBIDDEN:
            return []
        return [make_owner(pod, answer.body["metadata"]["uid"])]

    async def _annotate_pod(self, namespace: str, pod: str) -> None:
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        try:
            await self._patch("pods", namespace, pod, {"annotations": {RENEWED_ANNOTATION: now}})
        except ApiFailure as error:  # the kubelet updates the files later
            self.log.debug("Could not annotate a pod: %s", error)

    async def _patch(
        self, resource: str, namespace: str, name: str, metadata: Mapping[str, Any], **changes: Any
    ) -> bool:
        """Change an object; ``False`` if the Hub may not."""
        if not self._may_patch(resource, namespace):
            return False
        body = {"metadata": metadata, **changes}
        path = _path(resource, namespace, name)
        answer = await self.api.ask("PATCH", path, body, expected=(HTTPStatus.FORBIDDEN,))
        if answer.status == HTTPStatus.FORBIDDEN:
            self.refused[resource, namespace] = time.monotonic() + REFUSED_FOR
            self.log.info("The Hub may not patch %s in %s", resource, namespace)
            return False
        return True

    def _may_patch(self, resource: str, namespace: str) -> bool:
        return time.monotonic() >= self.refused.get((resource, namespace), -math.inf)


def _make_owned(content: Mapping[str, Any], owners: Sequence[Any]) -> dict[str, Any]:
    return {**content, "metadata": {**content["metadata"], "ownerReferences": list(owners)}}


def _annotation(body: Mapping[str, Any], name: str) -> str | None:
    found: Mapping[str, str] = body["metadata"].get("annotations") or {}
    return found.get(name)


def _path(resource: str, namespace: str | None, name: str | None = None) -> str:
    below = [] if namespace is None else ["namespaces", namespace]
    parts = [*below, resource, *([] if name is None else [name])]
    return "/" + "/".join(quote(part, safe="") for part in parts)
