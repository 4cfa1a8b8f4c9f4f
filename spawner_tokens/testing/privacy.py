"""Who can read a token: its server's user alone, and no log, error, state or output has it."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import os
import re
import secrets
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ..tokens.files import PUBLIC_FILE
from .checks import Checks
from .contents import Files
from .platform import Platform, Servers, expect_here, is_open


class PrivacyContract(Checks):
    """The part of the contract about who can read a token."""

    @pytest.mark.asyncio
    async def test_nobody_but_the_servers_user_can_read_a_token(self, servers: Servers) -> None:
        """And everybody the file that is not a secret, at its own path."""
        files: dict[str, bytes | None] = {"t": b"value", "u": b"another"}
        files |= self._make_public(await servers.make(), b"[user]\n\tname = {Alice}\n")
        with _usual_umask():
            spawner = await servers.start(files)
            await self._expect_private(spawner, files)
            if spawner.delivery_delay < math.inf:
                files |= {"t": b"new"}
                await spawner.deliver_files(files)
                await self._expect_private(spawner, files)

    @pytest.mark.asyncio
    async def test_nobody_else_can_read_a_token_while_it_is_written_anew(
        self, servers: Servers
    ) -> None:
        if type(self).can_others_read is not Platform.can_others_read:
            pytest.skip("can_others_read() may be too slow to see a file that is open briefly")
        over = threading.Event()

        def look(path: str) -> bool:
            return any(is_open(path) for _ in iter(over.is_set, True))

        with _usual_umask():
            spawner = await self._start_changeable(servers, {"t": b"value"})
            path = self._find_path(spawner, "t")
            expect_here(path)
            # In a thread: it also looks while a delivery occupies the event loop.
            looking = asyncio.create_task(asyncio.to_thread(look, path))
            try:
                for number in range(self.rewrites):
                    await spawner.deliver_files({"t": b"%i" % number})
                    await asyncio.sleep(0)
            finally:
                over.set()
            assert not await looking, "for a moment, others than the server's user can read it"

    @pytest.mark.asyncio
    async def test_a_token_is_in_no_log_output_state_or_error(
        self,
        servers: Servers,
        caplog: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        recwarn: pytest.WarningsRecorder,
    ) -> None:
        token = secrets.token_hex(30).encode()
        caplog.set_level(logging.DEBUG)
        caplog.set_level(logging.DEBUG, logger=(await servers.make()).log.name)
        spawner = await servers.start({"t": token, "u": b"value"})
        shown = {}
        async with self._obstructed(servers, spawner):
            try:
                await spawner.deliver_files({"t": token, "u": b"new"})
            except Exception as error:
                shown["error"] = "".join(traceback.format_exception(error))
        if spawner.delivery_delay < math.inf:
            await spawner.deliver_files({"t": token, "u": b"new"})
        row = spawner.orm_spawner
        shown["state"] = repr(spawner.get_state())
        shown["database"] = repr([getattr(row, column.name) for column in row.__table__.columns])
        await servers.close()
        shown["warnings"] = "".join(str(warning.message) for warning in recwarn)
        shown |= {"log": caplog.text, "output": "".join(capfd.readouterr())}
        found = [place for place, text in shown.items() if _is_in(text, token)]
        assert not found, f"the token, or a part of it, is in: {', '.join(found)}"

    async def _expect_private(self, spawner: Any, files: Files) -> None:
        await self._expect(spawner, files)
        for name in files:
            can_read = await self.can_others_read(spawner, self._find_path(spawner, name))
            if name == PUBLIC_FILE:
                assert can_read, f"{name}: others cannot read it"
            else:
                assert not can_read, f"{name}: others than the server's user can read it"


@contextmanager
def _usual_umask() -> Iterator[None]:
    umask = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(umask)


# So many characters of a token are enough to know it.
_PIECE = 16


def _is_in(text: str, token: bytes) -> bool:
    """Whether a text has the token or a part of it, also across lines."""
    joined = re.sub(r"\s|\\n", "", text)
    return any(piece in joined for piece in _make_pieces(token))


def _make_pieces(token: bytes) -> Iterator[str]:
    """The parts of a token, as it is, in hexadecimal digits and in base64."""
    forms = [token, token.hex().encode()]
    for shift in range(3):  # the token may begin anywhere in the encoded text
        forms.append(base64.b64encode(b"x" * shift + token)[4:-4])
    for form in forms:
        yield from (form[at : at + _PIECE].decode() for at in range(len(form) - _PIECE + 1))
