"""wrapspawner, whose child is ours: what its servers get, and what is left of them."""

import asyncio
import time
from pathlib import Path

import pytest
from jupyterhub import orm
from wrapspawner import ProfilesSpawner, WrapSpawner

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.pages import blocks, load
from ..support.pulling import PULL, ask, restarted
from ..support.scripted import Provider, login, tokens
from ..support.spawners import VariablesOnly
from ..support.waiting import until
from .test_custom_spawners import TOKENS

pytestmark = [
    pytest.mark.xdist_group("system users"),
    # WrapSpawner's own
    pytest.mark.filterwarnings("ignore:Passing unrecognized arguments:DeprecationWarning"),
]

WRAPPED = {
    **TOKENS,
    "WrapSpawner.child_class": TokenSimpleLocalProcessSpawner,
    "ProfilesSpawner.profiles": [("With tokens", "tokens", TokenSimpleLocalProcessSpawner, {})],
}


async def start_wrapped(start_hub, spawner_class):
    hub = await start_hub(spawner_class, WRAPPED)
    user = await hub.user("alice", {"access_token": "first"})
    server = await hub.spawn(user)
    assert await server.token() == b"first" and (await server.env())["T"] == b"first"
    await user.save_auth_state({"access_token": "second"})
    return hub, user, server


async def test_wrapspawner_hands_over_and_no_more_and_what_is_left_goes_after_the_hubs_next_start(
    start_hub,
):
    hub, user, server = await start_wrapped(start_hub, WrapSpawner)
    assert not user.spawners[""].child_spawner.tokens_running
    assert await server.token() == b"first"
    await user.stop("")
    assert hub.token_directories != []  # until the server's next start
    assert await (await hub.spawn(user)).token() == b"second"
    await user.stop("")
    left = hub.token_directories
    again = await start_hub(WrapSpawner, WRAPPED)
    again.spawner(await again.user("alice"))
    bob = await again.user("bob", {"access_token": "first"})
    assert again.token_directories == left != []
    await again.spawn(bob)
    bobs = Path(bob.spawners[""].child_spawner.tokens_directory).name
    await until(lambda: again.token_directories == [bobs])


@pytest.mark.parametrize("profiles", [False, True])
async def test_with_the_readmes_lines_wrapspawner_has_renewals_and_leaves_nothing(
    start_hub, tmp_path, profiles
):
    *_, code = (
        block.values[0] for block in blocks("python") if "TokenWrapSpawner" in block.values[0]
    )
    spawner_class = load(code, tmp_path).JupyterHub.spawner_class
    if profiles:
        spawner_class = type("TokenProfilesSpawner", (spawner_class, ProfilesSpawner), {})
    hub, user, server = await start_wrapped(start_hub, spawner_class)
    await server.until(b"second")
    await user.stop("")
    assert hub.token_directories == []


async def test_a_wrapped_server_that_waits_gets_each_new_token_also_from_a_hub_started_again(
    start_hub,
):
    provider = Provider(grant=lambda user, n: tokens(user, n, expires_in=4))
    wrapped = {**WRAPPED, **PULL, "WrapSpawner.child_class": VariablesOnly}
    settings = {**provider.settings(), **wrapped}
    hub = await start_hub(WrapSpawner, settings)
    user = await hub.user("alice", login("alice", left=3600, expires_in=4))
    await hub.spawn(user)
    token = user.spawners[""].api_token

    async def wait_for_another(hub, change=None):
        known = (await ask(hub, token, "t")).body
        query = {"wait": 60, "renewed_at": known["renewed_at"]}
        begun, waiting = time.monotonic(), asyncio.ensure_future(ask(hub, token, "t", **query))
        pulled = hub.app.users["alice"].spawners[""].child_spawner._tokens_pulled
        await until(lambda: pulled._waiting or waiting.done())
        if change is not None:
            await change()
        found = await waiting
        assert time.monotonic() - begun < 50  # and not when it has waited in vain
        assert found.body.get("token") != known["token"]
        return found

    assert (await wait_for_another(hub)).code == 200  # it is renewed in time
    async with restarted(start_hub, user, WrapSpawner, settings) as again:
        assert (await wait_for_another(again)).code == 200
        alice = again.app.users["alice"]
        await alice.save_auth_state(login("alice", left=3600))

        async def renew_elsewhere():
            await alice.save_auth_state(login("alice", left=3500, n=100))

        assert (await wait_for_another(again, renew_elsewhere)).body["token"] == "alice-a100"

        async def share():
            bob = (await again.user("bob")).orm_user
            orm.Share.grant(again.app.db, alice.spawners[""].orm_spawner, bob)

        assert (await wait_for_another(again, share)).body["reason"] == "shared"


async def test_a_hook_is_called_once_for_all_requests_of_a_wrapped_server_and_may_hang(
    start_hub, monkeypatch
):
    calls, answers = [], asyncio.Event()

    async def hook(spawner, auth_state, tokens):
        calls.append(auth_state["access_token"])
        await answers.wait()
        return tokens

    wrapped = {**WRAPPED, **PULL, "WrapSpawner.child_class": VariablesOnly}
    hub = await start_hub(WrapSpawner, {**wrapped, "TokenSpawnerMixin.tokens_hook": hook})
    user = await hub.user("alice", {"access_token": "first"})
    answers.set()
    await hub.spawn(user)
    calls.clear(), answers.clear()

    async def ask_thrice():
        token = user.spawners[""].api_token
        found = await asyncio.gather(*(ask(hub, token, "t") for _ in range(3)))
        return {answer.body["token"] for answer in found}

    await user.save_auth_state({"access_token": "second"})
    pulled = user.spawners[""].child_spawner._tokens_pulled
    asking = asyncio.ensure_future(ask_thrice())
    await until(lambda: len(pulled._preparing._waiters or ()) == 2)
    answers.set()
    assert (await asking, calls) == ({"second"}, ["second"])
    answers.clear()
    monkeypatch.setattr("spawner_tokens.api.server._HOOK_TIME", 0.1)
    await user.save_auth_state({"access_token": "third"})
    assert await ask_thrice() == {"second"}  # until the hook answers
    answers.set()


async def test_a_profile_gets_no_token_of_the_one_before(start_hub):
    without = ("", "without", VariablesOnly, {"tokens_pull": False})
    profiles = [("", "with", VariablesOnly, {}), without]
    settings = {**WRAPPED, **PULL, "ProfilesSpawner.profiles": profiles}
    hub = await start_hub(ProfilesSpawner, settings)
    user = await hub.user("alice", {"access_token": "first"})

    async def start_and_ask(profile):
        await user.spawn("", options={"profile": profile})
        found = await ask(hub, user.spawners[""].api_token, "t")
        await user.stop("")
        return found

    assert (await start_and_ask("with")).body["token"] == "first"
    assert (await start_and_ask("without")).body["reason"] == "pull_is_off"
