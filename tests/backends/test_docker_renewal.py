"""Renewal in running containers, with a real provider: no look at a file finds a dead token."""

import asyncio
import time

from ..support.oauth import hub_settings, make_auth_state
from ..support.provider import start_provider
from ..support.spawners import BothModes

LIFETIME, LIFETIMES = 6, 3  # seconds
# This provider ends the old token at the refresh. A look counts as dead if the file still has that
# token after so many seconds.
# Deliveries take milliseconds, see benchmarks/docker.py; the machine may be busy.
DELIVERY = 2


async def look(provider, server):
    """Whether the token in the server's file is live, or at least on its way out."""
    token = (await server.token()).decode()
    if await provider.is_live(token):
        return True
    asked = time.monotonic()
    while time.monotonic() < asked + DELIVERY:
        if (await server.token()).decode() != token:
            return True
    return False


async def test_three_lifetimes_without_a_dead_look(engine, start_hub, tmp_path):
    async with start_provider(
        tmp_path, "--token-lifetime", str(LIFETIME), "--reuse-protection"
    ) as provider:
        settings = {
            **hub_settings(provider),
            "TokenSpawnerMixin.tokens": {"t": {}},
            **engine.settings(remove=True),
        }
        hub = await start_hub(BothModes, settings)
        user = await hub.user("alice", make_auth_state("alice", await provider.log_in("alice")))
        servers = [await hub.spawn(user), await hub.spawn(user, "volume")]
        mounted = [
            engine.client.inspect_container(spawner.object_name)["Mounts"]
            for spawner in user.spawners.values()
        ]
        assert [any(mount["Type"] == "volume" for mount in mounts) for mounts in mounted] == [
            False,
            True,
        ]
        looks, seen, grants = [], set(), provider.grants()
        end = time.monotonic() + LIFETIME * LIFETIMES
        while time.monotonic() < end:
            looks += await asyncio.gather(*(look(provider, server) for server in servers))
            seen.add((await servers[1].files())["t"])
            await asyncio.sleep(0.1)
        renewals = provider.grants() - grants
        assert looks.count(False) == 0 and len(looks) > 10 * LIFETIMES
        assert renewals >= LIFETIMES and len(seen) >= LIFETIMES
