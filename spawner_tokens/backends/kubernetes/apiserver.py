"""The Kubernetes API server: requests whose bodies are in no log and no error."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

_NO_ANSWER = 0
_LONGEST_WAIT = 2.0  # seconds
# For a moment after its start, an API server knows no roles, or not all of them: it refuses what it will allow.
_REFUSALS, _KNOWS_ROLES = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN), 5.0  # seconds

# Kinds to ask for: an object, or a list of them, without the data.
METADATA = "PartialObjectMetadata"
METADATA_LIST = "PartialObjectMetadataList"


class ApiFailure(OSError):
    """The API server did not do what it was asked. Tells the verb, the object and the status."""

    discreet = True  # see describe()


@dataclass(frozen=True)
class Answer:
    status: int
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Answer({self.status})"


@dataclass(frozen=True)
class ApiServer:
    """``client`` is the :class:`kubernetes_asyncio.client.ApiClient` to ask with.

    ``timeout``: seconds for one request; ``patience``: seconds for which one is repeated that may succeed later.
    """

    client: Any
    timeout: float
    patience: float

    async def ask(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, str] | None = None,
        expected: tuple[int, ...] = (),
        kind: str | None = None,
    ) -> Answer:
        """The answer, whose status is a success or among those ``expected``. Raises :exc:`ApiFailure`.

        ``verb`` is an HTTP method, ``path`` is below ``/api/v1``, and ``kind`` is :data:`METADATA`, for instance.
        """
        deadline, failures, knows_roles_at = time.monotonic() + self.patience, 0, 0.0
        while True:
            answer = await self._ask_once(verb, path, body, query or {}, kind)
            if answer.status == _NO_ANSWER:
                knows_roles_at = time.monotonic() + _KNOWS_ROLES
            has_just_started = answer.status in _REFUSALS and time.monotonic() < knows_roles_at
            if 200 <= answer.status < 300 or answer.status in expected and not has_just_started:
                return answer
            failures += 1
            wait = min(0.1 * 2**failures, _LONGEST_WAIT) * random.uniform(0.5, 1)
            if (
                not (has_just_started or _may_pass(answer.status))
                or time.monotonic() + wait > deadline
            ):
                raise ApiFailure(f"{verb} {path}: {_describe(answer.status)}")
            await asyncio.sleep(wait)

    async def _ask_once(
        self,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None,
        query: Mapping[str, str],
        kind: str | None,
    ) -> Answer:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if kind is not None:
            headers["Accept"] += f";as={kind};g=meta.k8s.io;v=v1"
        if verb == "PATCH":
            headers["Content-Type"] = "application/merge-patch+json"
        try:
            # Not by the client's methods: those log what they get, Secrets too, and put it into their errors.
            response = await self.client.call_api(
                f"/api/v1{path}",
                verb,
                query_params=list(query.items()),
                header_params=headers,
                body=body,
                auth_settings=["BearerToken"],
                _preload_content=False,
                _request_timeout=self.timeout,
            )
            async with response:
                succeeded = 200 <= response.status < 300
                return Answer(
                    response.status, await response.json(content_type=None) if succeeded else {}
                )
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError, OSError):
            return Answer(_NO_ANSWER, {})


def _may_pass(status: int) -> bool:
    return (
        status in (_NO_ANSWER, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
        or status >= 500
    )


def _describe(status: int) -> str:
    return (
        "the API server gave no answer"
        if status == _NO_ANSWER
        else f"the API server answered {status}"
    )
