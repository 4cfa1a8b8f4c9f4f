"""The pulls: one object for a Hub, with its handlers and the servers that may ask."""

from __future__ import annotations

import re
from typing import Any
from weakref import WeakValueDictionary

from jupyterhub.utils import url_path_join
from sqlalchemy.orm import object_session
from traitlets.config import Application

from ..tokens.files import PULL_PATH
from .access import Access
from .handlers import ListHandler, TokenHandler
from .server import PulledServer, PullRefused, check_running


class Pulls:
    """The servers of a Hub that were started with ``tokens_pull``, by their row in the database."""

    def __init__(self) -> None:
        self._access = Access()
        # By the row's id, which may be another server's later: the row itself is compared, too.
        self._servers: WeakValueDictionary[int, PulledServer] = WeakValueDictionary()
        self._is_installed = False

    @classmethod
    def get_or_install(cls, spawner: Any) -> Pulls:
        """The one of this Spawner's Hub, whose application answers its servers from now on."""
        pulls: Pulls = spawner.tokens_hub.known.setdefault(cls, cls())
        pulls._install(spawner)
        return pulls

    def add(self, server: PulledServer) -> PulledServer:
        """From now on, it may ask, as long as this object lives."""
        self._servers[server.spawner.orm_spawner.id] = server
        return server

    def _install(self, spawner: Any) -> None:
        """Add the handlers to the Hub's application, which has none for these addresses.

        A Spawner may be made long after the Hub's start, so its configuration comes too late.
        """
        app: Any = Application.instance() if Application.initialized() else None
        application = getattr(app, "tornado_application", None)
        if (
            self._is_installed
            or application is None
            or app.db is not object_session(spawner.orm_spawner)
        ):
            return
        self._is_installed = True
        prefix = re.escape(url_path_join(spawner.hub.base_url, "api", PULL_PATH))
        tools = {"find_server": self._find_server, "log": spawner.log}
        handlers = [(rf"{prefix}/?", ListHandler, tools), (rf"{prefix}/(.+)", TokenHandler, tools)]
        application.add_handlers(".*", handlers)

    async def _find_server(self, session: Any, token: str) -> PulledServer:
        row = await self._access.find_server(session, token) if token else None
        if row is None:
            words = (
                "Only a server that runs may ask, with its own JUPYTERHUB_API_TOKEN in the header "
                "Authorization: token …, and with no other token."
            )
            raise PullRefused(403, "refused", words, reason="not_a_server")
        check_running(row)
        server = self._servers.get(row.id)
        if server is None or server.spawner.orm_spawner is not row:
            words = (
                "This server was started without tokens_pull. The administrator can set "
                "c.TokenSpawnerMixin.tokens_pull = True; then stop the server, and start it again."
            )
            raise PullRefused(403, "refused", words, reason="pull_is_off")
        return server
