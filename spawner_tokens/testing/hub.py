"""A Hub that has a database and serves nothing: enough for Spawners that deliver files."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from jupyterhub import orm
from jupyterhub.auth import Authenticator
from jupyterhub.objects import Hub
from jupyterhub.user import User
from sqlalchemy import create_engine
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool
from traitlets.config import Config

from ..hub import TokenHub


class BareHub:
    """What Spawners need of a Hub: a database in memory, and the Hub's objects."""

    def __init__(self, spawner_class: type[Any], config: Config) -> None:
        # As orm.new_session_factory() does, without its slow check for migrations.
        self._engine = create_engine("sqlite://", poolclass=StaticPool)
        orm.Base.metadata.create_all(self._engine)
        self._session = Session(self._engine, expire_on_commit=False)
        self._sweep_files = spawner_class.sweep_files
        self._settings = {
            "hub": Hub(),
            "authenticator": Authenticator(config=config),
            "spawner_class": spawner_class,
            "config": config,
            "cookie_secret": secrets.token_bytes(32),
            "allow_named_servers": True,
        }

    async def make_spawner(self, user: str, server: str = "") -> Any:
        """A Spawner as a Hub makes it: a new object each time, with what the database knows."""
        orm_user = orm.User.find(self._session, user)
        if orm_user is None:
            orm_user = orm.User(name=user)
            self._session.add(orm_user)
        owner = User(orm_user, self._settings, self._session)
        if server not in orm_user.orm_spawners:
            self._session.add(orm.Spawner(name=server, user=orm_user))
        self._session.commit()
        sweeps, method = TokenHub.from_session(self._session).sweeps, self._sweep_files
        if method not in sweeps.tasks:  # the contract sweeps itself
            sweeps.tasks[method] = asyncio.create_task(asyncio.sleep(0))
        return owner.spawners[server]

    def close(self) -> None:
        self._session.close()
        self._engine.dispose()
