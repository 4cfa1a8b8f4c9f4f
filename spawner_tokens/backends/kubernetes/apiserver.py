"""Requests to the Kubernetes API server. Their bodies are never logged, nor part of an error."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp

_NO_ANSWER = 0  # in place of a status
_LONGEST_WAIT = 2.0  # seconds between two tries
# An API server that has just started has not read all roles yet, so it refuses allowed requests.
_REFUSALS, _ROLES_DELAY = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN), 5.0  # seconds

# Kinds of an answer that has only the metadata, of an object or of a list of objects.
METADATA = "PartialObjectMetadata"
METADATA_LIST = "PartialObjectMetadataList"


class ApiFailure(OSError):
    """A request failed. The text has its verb, its path and the status."""

    discreet = True  # see describe_error()


@dataclass(frozen=True)
class Answer:
    """``status``: of HTTP. ``body``: the parsed JSON; empty if the request failed."""

    status: int
    body: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"Answer({self.status})"


@dataclass(frozen=True)
class ApiServer:
    """The API server that ``client``, a :class:`kubernetes_asyncio.client.ApiClient`, connects to.

    ``timeout``: seconds for one request. ``patience``: seconds during which a request is repeated
    after a failure that may pass.
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
        """Send a request. Returns an answer with a status of success, or one of those ``expected``.

        ``verb``: the HTTP method. ``path``: below ``/api/v1``. ``kind``: :data:`METADATA`,
        :data:`METADATA_LIST` or ``None`` for a whole object. Raises :exc:`ApiFailure`.
        """
        deadline, failures, has_roles_at = time.monotonic() + self.patience, 0, 0.0
        while True:
            answer = await self._ask_once(verb, path, body, query or {}, kind)
            if answer.status == _NO_ANSWER:
                has_roles_at = time.monotonic() + _ROLES_DELAY
            may_lack_roles = answer.status in _REFUSALS and time.monotonic() < has_roles_at
            if 200 <= answer.status < 300 or answer.status in expected and not may_lack_roles:
                return answer
            failures += 1
            wait = min(0.1 * 2**failures, _LONGEST_WAIT) * random.uniform(0.5, 1)
            may_pass = may_lack_roles or _is_transient(answer.status)
            if not may_pass or time.monotonic() + wait > deadline:
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
            # The client's other methods log the bodies of answers, and put them into their errors.
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
                if not 200 <= response.status < 300:
                    return Answer(response.status, {})
                return Answer(response.status, await response.json(content_type=None))
        except (aiohttp.ClientError, asyncio.TimeoutError, ValueError, OSError):
            return Answer(_NO_ANSWER, {})


def _is_transient(status: int) -> bool:
    transient = (_NO_ANSWER, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
    return status in transient or status >= 500


def _describe(status: int) -> str:
    answer = "gave no answer" if status == _NO_ANSWER else f"answered {status}"
    return f"the API server {answer}"
