"""The public file that git reads: who can read it, and how long it lives."""

import asyncio
from pathlib import Path

import pytest

from ..backends.test_local import SIMPLE
from ..support.waiting import until
from .test_git_server import IDENTITY

pytestmark = pytest.mark.xdist_group("system users")


async def test_the_public_file_lives_as_long_as_its_server(start_hub):
    settings = {"TokenSpawnerMixin.tokens": {"t": {"preset": "gitlab"}}}
    hub = await start_hub(SIMPLE, settings)
    user = await hub.user("alice", {"access_token": "the-token", "gitlab_user": IDENTITY})
    server = await hub.spawn(user)
    path = Path((await server.env())["GIT_CONFIG_SYSTEM"].decode())
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o644, 0o711)
    (path.parent.parent / "4711.public").mkdir()
    reaped = asyncio.ensure_future(asyncio.to_thread(user.spawners[""].proc.wait))

    again = await start_hub(SIMPLE, settings)
    user = await again.user("alice")
    assert user.spawners[""].ready and path.exists()

    async def is_swept():
        return not (path.parent.parent / "4711.public").exists()

    await until(is_swept)
    await user.stop("")
    await reaped
    assert again.token_directories == []
