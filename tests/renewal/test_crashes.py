"""The Hub is killed (-9) between any two steps of a renewal, and started again."""

import asyncio
import json
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.demo import run_provider
from spawner_tokens.demo.processes import end_processes, find_processes

from ..support import faults
from ..support.browser import Browser
from ..support.crashing import (
    KEY,
    USERINFO,
    HubProcess,
    keep_looking,
    log_in,
    read_auth_state,
    start_forkserver,
)
from ..support.oauth import hub_settings, start_by_token, wait_for_server
from ..support.oauth import log_in as log_in_by_browser
from ..support.oidc import oidc_settings
from ..support.ports import random_port
from ..support.provider import Provider
from ..support.waiting import until

pytestmark = pytest.mark.xdist_group("crashes")

LIFETIME = 3
# Seconds in which a Hub that has found its servers has new tokens in their files: 2, and a renewal.
SOON = 5.0
# And for which a file may have the token that the provider ended at the renewal: until it answers,
# of which a busy machine has been seen to make 0.2.
DELIVERY = 0.75


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    start_forkserver()
    folder = tmp_path_factory.mktemp("provider")
    callback = f"http://127.0.0.1:{random_port()}/hub/oauth_callback"
    with run_provider(
        folder, callback, "--token-lifetime", str(LIFETIME), "--reuse-protection"
    ) as described:
        yield Provider(described, folder)


@pytest.fixture
async def proxy(provider):
    async with faults.FaultyProxy(provider.url) as proxy:
        yield proxy


@pytest.fixture
def settings(provider):
    return hub_settings(provider) | {
        "TokenSpawnerMixin.tokens": {"t": {}},
        "CryptKeeper.keys": [KEY],
        "Authenticator.refresh_pre_spawn": True,
    }


@pytest.fixture
def proxied(provider, proxy, settings):
    """The same, with the proxy before the provider."""
    return settings | hub_settings(provider, proxy.url)


@pytest.fixture
def start_process(tmp_path, memory):
    """Start a Hub in a process of its own. :meth:`start_hub` is the same Hub, in this process."""
    hubs = []

    def start(*arguments):
        hubs.append(HubProcess(tmp_path, memory, *arguments))
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.kill()
    end_processes(find_processes(tmp_path))


@pytest.fixture
def crash(start_process, provider, proxy):
    """Have a Hub die at a step of alice's renewal; the token file of her server, which runs on."""

    async def crash(step, settings):
        login = await log_in(provider, "alice")
        hub = start_process(settings, {"alice": (login, [""])}, step)
        [file] = await hub.ready()
        if step == ON_ITS_WAY:
            gate = faults.Gate()
            proxy.on("/o/token/", faults.hold_after(gate))
            await gate.reached.wait()
            hub.kill()
            gate.open()
        assert await hub.died()
        return file

    return crash


async def shows_live_token(provider, file):
    return await provider.is_live(file.read_text())


async def stop_servers(hub, user):
    await asyncio.gather(
        *(user.stop(name) for name, spawner in list(user.spawners.items()) if spawner.ready)
    )
    assert hub.token_directories == []


KEPT = [
    "before the token request",
    "after_commit",
    "before the token is in its place",
    "between the two files",
    USERINFO[1],
]


@pytest.mark.parametrize("step", KEPT)
async def test_a_hub_killed_before_a_request_or_after_its_answer_was_stored_loses_nothing(
    crash, provider, settings, start_hub, tmp_path, step
):
    file = await crash(step, settings)
    assert provider.knows_refresh_token(read_auth_state(tmp_path, "alice")["refresh_token"])
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    await until(partial(shows_live_token, provider, file))
    alice = await hub.user("alice")
    assert await hub.app.authenticator.refresh_user(alice)
    status, _ = await start_by_token(hub, alice.new_api_token(), "alice", "b")
    assert status in (201, 202)
    assert await wait_for_server(hub, "alice", "b")
    file = Path(alice.spawners["b"].tokens_directory, "t")
    await until(partial(shows_live_token, provider, file))  # it may be renewed just now
    assert alice.spawners[""].ready and await alice.spawners[""].poll() is None
    await stop_servers(hub, alice)


ON_ITS_WAY = "the answer is on its way"
LOST = [ON_ITS_WAY, "after_flush"]  # nothing awaits between the answer and the second of these


@pytest.mark.parametrize("step", LOST)
async def test_an_answer_lost_with_the_hub_ends_the_login_and_the_next_login_is_delivered(
    crash, provider, proxied, start_hub, tmp_path, step
):
    file = await crash(step, proxied)
    assert not provider.knows_refresh_token(read_auth_state(tmp_path, "alice")["refresh_token"])
    hub = await start_hub(TokenSimpleLocalProcessSpawner, proxied)
    alice = await hub.user("alice")

    async def says(status):
        return json.loads(file.with_name("t.json").read_bytes())["status"] == status

    await until(partial(says, "login_ended"))
    assert await hub.app.authenticator.refresh_user(alice) is False
    await log_in_by_browser(hub, Browser(hub.url), provider, "alice")
    await until(partial(shows_live_token, provider, file))
    await until(partial(says, "ok"))
    assert alice.spawners[""].ready and await alice.spawners[""].poll() is None
    await stop_servers(hub, alice)


async def test_the_files_of_two_servers_are_live_while_the_hub_is_up_and_soon_after_a_kill(
    start_process, provider, settings
):
    hub = start_process(settings, {"alice": (await log_in(provider, "alice"), ["", "b"])})
    files = await hub.ready()
    requests, grants = await provider.token_requests(), provider.grants()
    looks = []
    looking = asyncio.gather(*(keep_looking(provider, file, 0.2, looks) for file in files))
    began = time.monotonic()

    async def is_renewed(token):
        return files[0].read_text() != token

    for _ in range(2):  # right after the second renewal, which so is stored
        await until(partial(is_renewed, files[0].read_text()))
    hub.kill()
    killed = time.monotonic()
    assert await hub.died()
    await start_process(settings).ready()
    back = time.monotonic()

    async def are_over(lifetimes):
        return time.monotonic() > began + lifetimes * LIFETIME

    await until(partial(are_over, 5), 10 * LIFETIME)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    # The kill may come between the two files.
    up = [each for each in looks if each.at + each.dead < killed or each.at > back + SOON]
    assert len(looks) > 50 and [each for each in up if each.dead > DELIVERY] == []
    [(status, count)] = (await provider.token_requests() - requests).items()
    assert (status, count) == (200, provider.grants() - grants)
    # Once for both servers; after 1 s of 3 s, since the provider's times have no fractions.
    assert count <= 5 * LIFETIME + 2


async def test_a_hub_killed_between_the_logins_renewal_and_an_exchange_has_both_live_again(
    start_oidc, start_process
):
    async with start_oidc(LIFETIME, 60) as provider:
        exchange = {"exchange": {"audience": "eos"}}
        settings = oidc_settings(provider) | {"TokenSpawnerMixin.tokens": {"t": {}, "x": exchange}}
        logins = {"alice": (await log_in(provider, "alice"), [""])}
        hub = start_process(settings, logins, "before the exchange request")
        [file] = await hub.ready()
        exchanged = file.with_name("x")
        looks = []
        looking = asyncio.create_task(keep_looking(provider, exchanged, 0.1, looks))
        assert await hub.died()
        before = exchanged.read_text()
        await start_process(settings).ready()

        async def are_live():
            is_new = exchanged.read_text() != before
            return is_new and await asyncio.gather(
                shows_live_token(provider, file), shows_live_token(provider, exchanged)
            ) == [True, True]

        await until(are_live)
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
        assert looks and [each for each in looks if each.dead] == []
