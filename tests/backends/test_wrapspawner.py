"""wrapspawner, whose child is ours: what its servers get, and what is left of them."""

from pathlib import Path

import pytest
from wrapspawner import ProfilesSpawner, WrapSpawner

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.pages import blocks, load
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
