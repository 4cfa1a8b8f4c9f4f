"""Who asks: a server is known by its own ``JUPYTERHUB_API_TOKEN``, and by nothing else."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from jupyterhub import orm
from sqlalchemy import inspect
from sqlalchemy.orm import Session

_REMEMBERED = 20_000  # tokens that were looked up


@dataclass(frozen=True)
class _Known:
    """Whose an API token is. ``secrets``: of all servers of its user, hashed, at that time."""

    api_token: orm.APIToken
    secrets: tuple[tuple[orm.Spawner, str], ...]
    server: orm.Spawner | None

    @property
    def is_valid(self) -> bool:
        token = self.api_token
        if not inspect(token).persistent or (token.expires_at and token.expires_at < token.now()):
            return False
        return tuple(_list_secrets(token.user)) == self.secrets


class Access:
    """Finds the server that asks. What was found is kept, by the digest of its token."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Known] = OrderedDict()

    async def find_server(self, session: Session, token: str) -> orm.Spawner | None:
        """The server whose own token this is; ``None`` if it is anything else.

        It is the secret of the server's OAuth client (``User.spawn``), which the Hub keeps hashed,
        and removes when the server stops.
        """
        digest = hashlib.sha256(token.encode()).digest()
        known = self._known.get(digest)
        if known is None or not known.is_valid:
            self._known.pop(digest, None)
            if (known := await _look_up(session, token)) is None:
                return None
            self._known[digest] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(digest)
        return known.server


async def _look_up(session: Session, token: str) -> _Known | None:
    api_token = orm.APIToken.find(session, token, kind="user")  # by an index: it takes no time
    if api_token is None:
        return None
    secrets, found = tuple(_list_secrets(api_token.user)), None
    for server, secret in secrets:
        await asyncio.sleep(0)  # a comparison takes some milliseconds
        if orm.compare_token(secret, token):
            found = server
            break
    known = _Known(api_token, secrets, found)
    return known if known.is_valid else None


def _list_secrets(user: orm.User) -> Iterator[tuple[orm.Spawner, str]]:
    for server in user.orm_spawners.values():
        client = server.oauth_client
        if client is not None and inspect(client).persistent:
            yield server, client.secret
