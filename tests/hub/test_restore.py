"""A Hub that starts again: its running servers get no more than they were started with."""

import re
from pathlib import Path

from ..support.waiting import until

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
NAMES = ("still", "hook", "key", "set", "old")


def narrow(auth_state):
    return f"narrow-{auth_state['access_token']}"


def narrow_all(spawner, auth_state, tokens):
    return {name: f"narrow-{value}" for name, value in tokens.items()}


def override(spawner):
    if spawner.user.name == "still":
        spawner.tokens_renew = False
    if spawner.user.name == "hook":
        spawner.tokens_hook = narrow_all
    if spawner.user.name == "key":
        spawner.tokens["t"]["key"] = lambda auth_state: narrow(auth_state)
    if spawner.user.name == "set":
        spawner.tokens["t"]["forbidden_scopes"] = {"api"}


async def test_a_running_server_gets_no_more_after_a_restart_than_it_was_started_with(
    start_hub, capfd
):
    def auth_state(token):
        return {"access_token": token, "scope": ["api"], "plain": token}

    specs = {"t": {}, "mine": {"key": narrow}, "plain": {"key": "plain"}}
    settings = {"TokenSpawnerMixin.tokens": specs}
    hub = await start_hub(SIMPLE, settings | {"Spawner.pre_spawn_hook": override})
    users = {name: await hub.user(name, auth_state("1")) for name in NAMES}
    for user in users.values():
        await hub.spawn(user)
    folders = {name: Path(user.spawners[""].tokens_directory) for name, user in users.items()}
    hub.http.stop()
    for user in users.values():
        user.spawners[""].stop_polling()  # this Hub is no more
    later = users["old"].spawners[""].orm_spawner
    started = later.state["tokens_started"]
    changed = {**started["tokens"], "t": {"field_of_a_later_version": 1}}
    later.state = later.state | {"tokens_started": started | {"tokens": changed}}
    hub.app.db.commit()

    def files():
        return {
            user: " ".join(
                file.read_text() if (file := folder / name).exists() else "-" for name in specs
            )
            for user, folder in folders.items()
        }

    narrowed = {"hook": "narrow-1 narrow-narrow-1 narrow-1", "still": "1 narrow-1 1"}
    others = {"key": "narrow-1 narrow-1 1", "set": "- narrow-1 1", "old": "1 narrow-1 1"}
    assert files() == narrowed | others
    try:
        again = await start_hub(SIMPLE, settings)
        for name in users:
            await again.user(name, auth_state("2"))
        known = {"set": "- narrow-2 2", "key": "narrow-1 narrow-2 2", "old": "1 narrow-2 2"}
        await until(lambda: files() == narrowed | known)
    finally:
        for user in users.values():
            await user.stop("")  # their processes are children of ours
    said = re.findall("([a-z]+): token ([a-z]+) stays as it is", capfd.readouterr().err)
    assert sorted(said) == sorted([*(("hook", name) for name in specs), ("key", "t"), ("old", "t")])


async def test_what_a_server_is_started_with_is_recorded_before_it_has_files(start_hub):
    seen = []

    def look(spawner):  # while it starts
        folder = Path(spawner.tokens_directory)
        assert spawner.orm_spawner not in spawner.user.db.dirty
        seen.append((spawner.orm_spawner.state, (folder / "t").read_text()))
        return ""

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "Spawner.environment": {"LOOK": look}}
    hub = await start_hub(SIMPLE, settings | {"Spawner.pre_spawn_hook": override})
    user = await hub.user("key", {"access_token": "1"})
    await hub.spawn(user)
    state, text = seen[0]
    assert text == "narrow-1"
    assert state["tokens_started"] == user.spawners[""].orm_spawner.state["tokens_started"]
