"""The requests of servers: what they are, and how they are answered."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import re
from collections.abc import Awaitable, Callable
from http.client import responses
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from tornado import web

from ..metrics import FAILURE, SUCCESS, count_pull
from ..redaction import describe_error
from .server import PulledServer, PullRefused

LONGEST_WAIT = 60.0  # seconds

_AUTHORIZATION = re.compile(r"(?:token|bearer)\s+(\S+)", re.IGNORECASE)
# By the token that a server sent: itself.
FindServer = Callable[[Any, str], Awaitable[PulledServer]]


class _Handler(web.RequestHandler):
    """Not JupyterHub's handler: that takes cookies, adds headers, and refreshes the login first.

    ``find_server`` raises :exc:`PullRefused`.
    """

    def initialize(self, find_server: FindServer, log: logging.Logger) -> None:
        self._find_server, self._logger = find_server, log
        self._asking: asyncio.Task[Any] | None = None

    def set_default_headers(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def compute_etag(self) -> None:
        """A hash of the token would be in it."""

    def on_connection_close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    async def _answer(self, give: Callable[[PulledServer], Awaitable[None]]) -> None:
        """Let ``give`` find and write the answer, with nothing between these two, or refuse it."""
        self._asking = asyncio.ensure_future(self._ask(give))
        try:
            await self._asking
        except PullRefused as refused:
            self._refuse(refused)
        except asyncio.CancelledError:  # nobody waits for an answer any more
            self.set_status(499, "Client Closed Request")
        except web.HTTPError:
            raise
        except Exception as error:
            if isinstance(error, SQLAlchemyError):
                self.settings["db"].rollback()
            self._logger.error("Cannot answer a server that asks: %s", describe_error(error))
            words = "The Hub cannot answer now. Ask again soon."
            self._refuse(PullRefused(503, FAILURE, words, reason=FAILURE, retry_after=5))

    async def _ask(self, give: Callable[[PulledServer], Awaitable[None]]) -> None:
        match = _AUTHORIZATION.fullmatch(self.request.headers.get("Authorization", ""))
        server = await self._find_server(self.settings["db"], match[1] if match else "")
        self.current_user = server.spawner.user.name  # for the access log
        await give(server)

    def _refuse(self, refused: PullRefused) -> None:
        count_pull(refused.status)
        self.set_status(refused.code)
        if refused.retry_after:
            self.set_header("Retry-After", str(math.ceil(refused.retry_after)))
        self.finish({"status": refused.code, "message": refused.words, "reason": refused.reason})

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        message = responses.get(status_code, "Unknown Error")
        self.finish({"status": status_code, "message": message, "reason": ""})


class ListHandler(_Handler):
    """The server's tokens without their values."""

    async def get(self) -> None:
        await self._answer(self._give)

    async def _give(self, server: PulledServer) -> None:
        found = await server.describe_all()
        count_pull(SUCCESS)
        self.finish(found)


class TokenHandler(_Handler):
    """One token of the server's: JSON, or the token alone for ``Accept: text/plain``."""

    async def get(self, name: str) -> None:
        await self._answer(lambda server: self._give(server, name))

    async def _give(self, server: PulledServer, name: str) -> None:
        find = self.get_query_argument
        renewed_at, version = find("renewed_at", None), find("version", None)
        answer = await server.give(name, renewed_at, version, self._read_wait())
        count_pull(answer.status)
        if self._wants_text:
            self.set_header("Content-Type", "text/plain; charset=UTF-8")
            self.finish(answer.text)
        else:
            self.set_header("Content-Type", "application/json")
            own = {"token": answer.text, "version": answer.version}
            self.finish(json.dumps(own | answer.facts))

    def _read_wait(self) -> float:
        given = self.get_query_argument("wait", "0")
        try:
            seconds = float(given)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= LONGEST_WAIT:
            words = f"wait is a number of seconds, from 0 to {LONGEST_WAIT:.0f}."
            raise PullRefused(400, "refused", words, reason="wait")
        return seconds

    @property
    def _wants_text(self) -> bool:
        accept = self.request.headers.get("Accept", "")
        accepted = {each.partition(";")[0].strip().lower() for each in accept.split(",")}
        return "text/plain" in accepted and "application/json" not in accepted
