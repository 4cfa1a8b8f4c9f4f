"""The backend, which delivers files to servers of one kind: what it implements and may use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import inspect

from .hub import TokenHub, find_hub_name, find_states
from .sweep import Leftover, find_each
from .traits import TokenTraits

REFUSED_FOR = 600.0  # seconds until a platform is asked again for what it has refused
_PATIENCE = 20.0  # seconds for the withdrawal from one location


class TokenBackend(TokenTraits):
    """The part of :class:`~spawner_tokens.mixin.TokenSpawnerMixin` that a backend knows.

    A backend implements

    - :meth:`deliver_files` and :meth:`withdraw_files`,
    - :attr:`tokens_directory` if the files are not at ``tokens_mount_path``, and
      :meth:`make_location` if they are found by more than that and the Hub's name,
    - :attr:`tokens_public_path` if a file can be shown to all users of the server's system,
    - :attr:`delivery_delay` if a running server sees new files only some time later,
    - :meth:`sweep_files` if a Hub that was killed may leave files behind,
    - :attr:`delivers_in_start` if it knows only during its own start where the files go,
    - :attr:`prepares_in_start` if it knows only during its own start what is to be delivered,
    - :attr:`shows_files` if the server may not see its files,
    - :attr:`delivers_variables` and :meth:`make_variable` if its platform can take variables from
      what is delivered, and
    - :attr:`admin_variables` if its ``environment`` has other keys than names.

    It may use :attr:`tokens_location`, :attr:`tokens_specs`, :attr:`tokens_running`,
    :attr:`tokens_variables`, :attr:`tokens_hub` and :attr:`tokens_hub_name`, and call
    :meth:`list_locations`, :meth:`amend_location`, :meth:`prepare_tokens`, :meth:`deliver_tokens`,
    :meth:`redeliver_tokens` and :meth:`withdraw_tokens`.
    """

    #: Whether ``start()`` itself calls :meth:`deliver_tokens`: it knows more than before.
    delivers_in_start: bool = False
    prepares_in_start: bool = False  #: Whether ``start()`` itself calls :meth:`prepare_tokens`.

    #: Whether the text of variables that get a token is among the files, as ``.env.NAME``.
    delivers_variables: bool = False

    # The key of its locations in a Spawner's state: each kind of location has another one.
    location_key: str = "tokens_location"

    # Of the server that runs. And all where files may be: those that could not be withdrawn, too.
    _tokens_location: Mapping[str, Any] | None = None
    _tokens_locations: tuple[Mapping[str, Any], ...] = ()

    # -- what a backend implements ---------------------------------------------------------------

    async def deliver_files(self, files: Mapping[str, bytes | None]) -> None:
        """Show these files to the server, before it starts and while it runs.

        ``files``: name → contents, or ``None`` for a file that must not be there any more. Those of
        a running server that are not among them stay as they are: while it is shared, only some may
        be. ``.gitconfig`` is the one at :attr:`tokens_public_path`. A reader sees an old file or a
        new one, and never a part. Raises :exc:`OSError` if it cannot: for a running server, it is
        called again. The error is logged, so it holds no contents.
        """
        raise NotImplementedError(f"{type(self).__name__} delivers no files")

    async def withdraw_files(self) -> None:
        """Remove all that :meth:`deliver_files` made for this server at :attr:`tokens_location`.

        Called after a failed spawn, and after the server has stopped; also before a spawn, unless
        the backend :attr:`delivers_in_start`. Most often there is nothing.
        """

    def sweep_files(self) -> AsyncIterator[Leftover]:
        """Yield what servers of this Hub that do not run any more left behind, to be removed.

        Called after the Hub's start, in the background, while servers start: what is theirs, and
        what is younger than the Hub, is spared. Called again later if it raises, or if a removal
        does; the others are removed all the same.
        """
        return find_each()

    def make_location(self) -> dict[str, Any]:
        """All by which the files of a server that starts now are found, as JSON can hold it.

        It is kept with the server: while the server runs, and until its files are withdrawn, the
        configuration may change. It is in the Hub's database, so it holds no secret. ``server`` is
        the server's own, and, unlike the names of user and server, never changes.
        """
        server = "" if self.orm_spawner is None else str(self.orm_spawner.id)
        more = {"mount_path": self.tokens_mount_path, "server": server}
        return {"hub": self.tokens_hub_name, **more}

    @property
    def tokens_directory(self) -> str:
        """The directory of the files, as the server sees it."""
        return str(self.tokens_location["mount_path"])

    @property
    def tokens_public_path(self) -> str | None:
        """Where the server sees a file that is not a secret; ``None`` if it cannot be shown one.

        All users of its system are able to read it, though they need not find it: git refuses to
        work when it cannot read a file that its configuration names. One that is to be removed may
        be empty instead.
        """
        return None

    @property
    def delivery_delay(self) -> float:
        """Seconds until a running server sees what was delivered; infinite if it never does."""
        return 0.0

    @property
    def shows_files(self) -> bool:
        """Whether the server itself sees the files, and not only what runs beside it."""
        return True

    @property
    def admin_variables(self) -> Any:
        """The variables that the admin's ``environment`` sets: they win over the tokens'."""
        return self.environment

    def make_variable(self, variable: str, text: str, token: str | None) -> Any:
        """A variable as the environment has it. ``token``: the token's name if ``text`` is one."""
        return text

    # -- what a backend may use ------------------------------------------------------------------

    @property
    def tokens_location(self) -> Mapping[str, Any]:
        """What :meth:`make_location` returned when the server was started."""
        return self._tokens_location or self.make_location()

    def list_locations(self, *keys: str) -> set[tuple[Any, ...]]:
        """What has these keys: where a server that starts has files, and all recorded locations.

        Recorded are those of this Hub's servers that may have files, by :attr:`location_key`.
        """
        states = find_states(self._tokens_session, self.location_key)
        recorded = [each for state in states for each in self._read_locations(state)]
        return {
            tuple(location[key] for key in keys)
            for location in [self.make_location(), *recorded]
            if all(isinstance(location.get(key), str) for key in keys)
        }

    def _read_locations(self, state: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
        """Those in a Spawner's state, which may be another version's."""
        found = state.get(self.location_key)
        found = found if isinstance(found, list) else ()
        return tuple(location for location in found if isinstance(location, Mapping))

    @property
    def tokens_specs(self) -> Sequence[Any]:
        """The :class:`~spawner_tokens.tokens.spec.TokenSpec` that the server was started with."""
        raise NotImplementedError

    @property
    def tokens_running(self) -> bool:
        """Whether the server runs, and sees what is delivered."""
        raise NotImplementedError

    @property
    def tokens_variables(self) -> frozenset[str]:
        """The names of the variables that a server that starts gets, without git's."""
        raise NotImplementedError

    async def prepare_tokens(self) -> None:
        """Renew and select the tokens of a server that starts; ``get_env`` has the variables then.

        Unless the backend :attr:`delivers_in_start`, the files are delivered, too.

        Raises as :func:`~spawner_tokens.refusal.refuse` if a token is not as asked and its policy
        is ``refuse``.
        """
        raise NotImplementedError

    async def deliver_tokens(self) -> bool:
        """Deliver the prepared tokens. Returns whether the server got its files.

        If not, ``get_env`` names none of them from here on. Raises as :meth:`prepare_tokens`.
        """
        raise NotImplementedError

    def redeliver_tokens(self) -> None:
        """Deliver all files anew to a running server that has lost them."""
        raise NotImplementedError

    async def withdraw_tokens(self) -> None:
        """Withdraw the server's files. Errors are logged."""
        raise NotImplementedError

    @classmethod
    def delivers_files(cls) -> bool:
        """Whether this class can deliver files, and not only variables."""
        return cls.deliver_files is not TokenBackend.deliver_files

    @property
    def tokens_hub(self) -> TokenHub | None:
        """What there is once for this Spawner's Hub; ``None`` if it was made outside of one."""
        session = self._tokens_session
        is_bare = session is None or self.authenticator is None
        return None if is_bare else TokenHub.from_session(session)

    # -- the record of its locations -------------------------------------------------------------

    async def keep_location(self, **more: Any) -> None:
        """Record where a server that starts has its files, before they are there.

        Files of earlier starts that are elsewhere are withdrawn. ``more``: a backend's entries that
        only a start can make. Raises :exc:`OSError` if there is no such location.
        """
        location = {**self.make_location(), **more}
        self._tokens_locations = tuple(each for each in self._list_own() if each != location)
        if self._tokens_locations:
            try:
                await self.withdraw_locations()
            except Exception:  # the next withdrawal tries again
                self.log.exception("Could not remove older token files of %s", self._log_name)
        self._record_locations(*self._tokens_locations, location)
        self._tokens_session.commit()  # with what it is started with, if this is recorded already
        assert self.tokens_hub is not None
        await self.tokens_hub.sweeps.keep(self.orm_spawner.id, location)
        self.tokens_hub.sweeps.begin(self)  # wrapspawner calls no load_state() before it

    def amend_location(self, **more: Any) -> None:
        """Add a backend's entries to the location of now: what only a delivery can find out."""
        self._record_locations(*self._tokens_locations[:-1], {**self.tokens_location, **more})

    def _record_locations(self, *locations: Mapping[str, Any]) -> None:
        self._tokens_locations = locations
        self._tokens_location = next(reversed(locations), None)
        if self._tokens_session is None:  # the server is deleted
            return
        old = self.orm_spawner.state or {}
        state = {key: value for key, value in old.items() if key != self.location_key}
        if locations:
            state[self.location_key] = list(locations)
        if state != old:
            self.orm_spawner.state = state
            self._tokens_session.commit()

    def _list_own(self) -> list[Mapping[str, Any]]:
        """Those recorded, but for another server's by now: a renamed user's may be a new user's."""
        hub = self.tokens_hub

        def is_own(location: Mapping[str, Any]) -> bool:
            place = {key: location.get(key) for key in ("hub", "server")}
            return hub is None or not hub.sweeps.is_anothers(self.orm_spawner.id, place)

        return [location for location in self._tokens_locations if is_own(location)]

    async def withdraw_locations(self) -> None:
        """Withdraw the files at all recorded locations; at that of now if there is none.

        Raises the last error, or :exc:`asyncio.TimeoutError` where it takes too long.
        """
        if self.tokens_hub is not None:
            self.tokens_hub.sweeps.kept.pop(self.orm_spawner.id, None)
        failure, left = None, []
        for location in self._list_own() or (None,):
            self._tokens_location = location
            try:
                await asyncio.wait_for(self.withdraw_files(), _PATIENCE)
            except Exception as error:
                failure = error
                left += [location] if location else []
        self._record_locations(*left)
        self._tokens_location = None
        if failure is not None:
            raise failure

    def load_state(self, state: dict[str, Any]) -> None:
        super().load_state(state)
        self._tokens_locations = self._read_locations(state)
        self._tokens_location = next(reversed(self._tokens_locations), None)

    def get_state(self) -> dict[str, Any]:
        state: dict[str, Any] = super().get_state()
        if self._tokens_locations:
            state[self.location_key] = list(self._tokens_locations)
        return state

    @property
    def _tokens_session(self) -> Any:
        """The Hub's SQLAlchemy session."""
        row = inspect(self.orm_spawner, raiseerr=False)
        return None if row is None else row.session

    @cached_property
    def tokens_hub_name(self) -> str:
        """Its Hub's name among those that share an engine or a cluster; empty outside of one."""
        return find_hub_name(self._tokens_session) if self.tokens_hub else ""
