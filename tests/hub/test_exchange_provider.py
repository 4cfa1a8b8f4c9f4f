"""npm's oidc-provider, which nobody here wrote, exchanges the tokens of servers (RFC 8693)."""

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path

from jupyterhub.spawner import SimpleLocalProcessSpawner

from spawner_tokens import LocalTokenMixin, TokenSimpleLocalProcessSpawner

from ..support.crashing import keep_looking, log_in
from ..support.oauth import make_auth_state
from ..support.oidc import oidc_settings
from ..support.waiting import until

EXCHANGES = {name: {"exchange": {"audience": name}} for name in ("eos", "api", "forbidden")}


async def start_user(hub, provider, name):
    return await hub.user(name, make_auth_state(name, await log_in(provider, name)))


async def test_what_a_running_server_has_is_live_at_every_look_through_lives_of_both(
    start_oidc, start_hub
):
    login_life, exchanged_life = 18, 7
    async with start_oidc(login_life, exchanged_life) as provider:
        settings = oidc_settings(provider) | {"TokenSpawnerMixin.tokens": {"t": {}, **EXCHANGES}}
        hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
        alice = await start_user(hub, provider, "alice")
        server = await hub.spawn(alice)
        files = [Path(alice.spawners[""].tokens_directory, name) for name in ("t", "eos")]
        looks, began = [], time.monotonic()
        looking = asyncio.gather(*(keep_looking(provider, file, 0.3, looks) for file in files))
        await until(lambda: time.monotonic() > began + login_life + 2, 60)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        assert len(looks) > 50 and [each for each in looks if each.dead] == []
        assert json.loads(await server.token("forbidden.json"))["status"] == "exchange_denied"
        assert await server.token("eos") and await server.token("forbidden") is None
        grants, seconds = await provider.grants(), time.monotonic() - began
        assert 2 <= grants["alice"] <= 2 + seconds / (login_life / 2)
        # For each new subject, of which the last may be on its way, and by its own life.
        extra = 1 + seconds / (exchanged_life / 2)
        assert grants["alice"] - 1 <= grants["alice eos"] <= grants["alice"] + extra


class _Idle(SimpleLocalProcessSpawner):
    """Its server is another one, which answers at this port."""

    async def start(self):
        return "127.0.0.1", self.user.settings["port"]

    async def poll(self):
        return None

    async def stop(self, now=False):
        pass


class Idle(LocalTokenMixin, _Idle):
    pass


async def test_fifty_spawns_at_once_are_one_exchange_for_each_user_and_spec(start_oidc, start_hub):
    async with start_oidc(3600, 1800) as provider:
        settings = oidc_settings(provider) | {"TokenSpawnerMixin.tokens": {"t": {}, **EXCHANGES}}
        hub = await start_hub(Idle, settings)
        hub.app.tornado_settings["port"] = provider.port
        users = [await start_user(hub, provider, f"user{number}") for number in range(10)]
        spawns = [user.spawn(f"server-{number}") for user in users for number in range(5)]
        await asyncio.gather(*spawns)
        for name in ("eos", "api"):
            found = {
                user.name: {
                    Path(spawner.tokens_directory, name).read_text()
                    for spawner in user.spawners.values()
                }
                for user in users
            }
            assert {len(tokens) for tokens in found.values()} == {1}
        expected = {}
        for user in users:
            expected |= {user.name: 1, f"{user.name} eos": 1, f"{user.name} api": 1}
        assert await provider.grants() == expected
