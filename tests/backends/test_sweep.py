"""The sweep of what a killed Hub left behind: beside all that starts, and nobody waits for it."""

import asyncio
import logging
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from jupyterhub import orm
from sqlalchemy import event, insert

from spawner_tokens import TokenSimpleLocalProcessSpawner, sweep
from spawner_tokens.sweep import Leftover, Sweeps, find_each, parse_time

from ..support.waiting import until
from .test_local import AUTH_STATE, SIMPLE, TOKENS


def finds(*lefts, failing=False):
    async def sweep_files():
        for left in lefts:
            yield left
        if failing:
            raise OSError("403")

    return SimpleNamespace(sweep_files=sweep_files, log=logging.getLogger("sweep"))


async def fail():
    raise OSError("it cannot be removed")


def left(server, gone, **more):
    async def remove():
        gone.append(server)

    return Leftover({"server": server}, remove, **more)


async def test_each_removal_stands_alone_and_what_starts_or_is_younger_is_spared(caplog):
    sweeps, gone = Sweeps(), []
    await sweeps.keep(1, {"hub": "h", "server": "starts", "owner": [1, 1]})
    spawner = finds(
        Leftover({"server": "stuck"}, fail),
        Leftover({"server": "of a backend that is wrong"}, lambda: None),
        left("starts", gone),
        left("younger", gone, made_at=sweeps.started_at),
        left("older", gone, made_at=sweeps.started_at - 1),
        left("unknown", gone),
        failing=True,
    )
    assert not await sweeps.run_once(spawner) and not await sweeps.run_once(spawner)
    assert gone == ["older", "unknown"] * 2
    assert len([each for each in caplog.records if each.levelno == logging.ERROR]) == 3


async def test_a_few_removals_at_a_time_and_a_start_waits_for_its_own_alone():
    sweeps, running, most, over = Sweeps(), set(), 0, asyncio.Event()

    async def remove(number):
        nonlocal most
        running.add(number)
        most = max(most, len(running))
        await over.wait()
        running.remove(number)

    lefts = [Leftover({"server": number}, partial(remove, number)) for number in range(20)]
    sweeping = asyncio.ensure_future(sweeps.run_once(finds(*lefts)))
    await until(lambda: len(running) == 8)
    await asyncio.wait_for(sweeps.keep(19, {"server": 19}), 30)  # it is not being removed yet
    own = asyncio.ensure_future(sweeps.keep(0, {"server": 0}))
    await asyncio.sleep(0)
    assert not own.done() and most == len(running) == 8
    over.set()
    await own
    assert await sweeping and most == 8


async def test_a_removal_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(sweep, "_PATIENCE", 0.1)
    lefts = [Leftover({"server": number}, asyncio.Event().wait) for number in range(20)]
    assert not await asyncio.wait_for(Sweeps().run_once(finds(*lefts)), 30)


async def test_a_source_that_fails_keeps_no_other_waiting():
    gone = []
    sources = [finds(left(name, gone), failing=name == "a").sweep_files() for name in "abc"]
    with pytest.raises(OSError, match="403"):
        async for each in find_each(*sources):
            await each.remove()
    assert gone == ["a", "b", "c"]


@pytest.mark.parametrize("text", ["1970-01-02T00:00:01Z", "1970-01-02T00:00:01.123456789Z"])
def test_times_of_engines(text):
    assert parse_time(text) == 24 * 3600 + 1


# -- with local processes ------------------------------------------------------------------------


class Stuck(TokenSimpleLocalProcessSpawner):
    """One namespace answers 403, and the removal of orphans fails, or hangs."""

    async def sweep_files(self):
        async for each in super().sweep_files():
            yield each
        for number in range(100):
            yield Leftover({"server": f"orphan-{number}"}, fail if number < 4 else self.hang)
        raise OSError("403")

    async def hang(self):
        await asyncio.Event().wait()


async def test_users_start_while_the_sweep_fails_and_the_removal_of_orphans_hangs(start_hub):
    hub = await start_hub(Stuck, TOKENS)
    users = [await hub.user(f"user{number}", AUTH_STATE) for number in range(8)]
    servers = await asyncio.gather(*(hub.spawn(user) for user in users))
    assert [await server.token() for server in servers] == [b"the-token"] * 8


async def test_a_root_that_cannot_be_opened_keeps_no_other_and_goes_when_it_can(
    start_hub, tmp_path, caplog
):
    roots = [tmp_path / name for name in ("closed", "open")]
    hub = await start_hub(SIMPLE, TOKENS)
    for number, root in enumerate(roots):
        user = await hub.user(f"user{number}")
        spawner = hub.spawner(user)
        spawner.tokens_mount_path = str(root)
        await spawner.keep_location()
        await spawner.deliver_files({"t": b"left"})
    roots[0].chmod(0o777)
    hub = await start_hub(SIMPLE, TOKENS)
    hub.spawner(await hub.user("bob"))
    await until(lambda: not list(roots[1].iterdir()))
    await until(lambda: "Could not remove the token files that servers left" in caplog.text)
    assert len(list(roots[0].iterdir())) == 1
    roots[0].chmod(0o711)
    await hub.swept()
    assert not list(roots[0].iterdir())


async def test_recorded_locations_are_found_without_an_object_for_each_server(start_hub):
    hub = await start_hub(SIMPLE, TOKENS)
    spawner, loaded = hub.spawner(await hub.user("alice")), []
    states = [{spawner.location_key: [{"hub": "then", "mount_path": "/then"}]}, {}, None]
    rows = [{"name": f"{number}", "state": state} for number, state in enumerate(states)]
    hub.app.db.execute(insert(orm.Spawner), rows)
    event.listen(orm.Spawner, "load", note := lambda row, _: loaded.append(row))
    try:
        found = spawner.list_locations("hub", "mount_path")
    finally:
        event.remove(orm.Spawner, "load", note)
    assert len(found) == 2 and ("then", "/then") in found and not loaded


async def test_a_server_that_starts_keeps_its_files_whatever_the_record_says(start_hub, memory):
    """Its row has no server yet, as while a container is made."""
    hub = await start_hub(SIMPLE, TOKENS)
    await hub.swept()
    spawner = hub.spawner(await hub.user("alice"))
    await spawner.keep_location()
    await spawner.deliver_files({"t": b"new"})
    sweeps = spawner.tokens_hub.sweeps
    sweeps.started_at += 3600  # so that no age protects them
    assert await sweeps.run_once(spawner)
    assert Path(spawner.tokens_directory, "t").read_bytes() == b"new"
    await spawner.withdraw_locations()
    assert list(memory.iterdir()) == []


class NamedByUser(TokenSimpleLocalProcessSpawner):
    """Its files have a place that is named by the user, as a container is."""

    stuck = False

    def make_location(self):
        return {**super().make_location(), "server": self.user.name}

    async def withdraw_files(self):
        if self.stuck:
            await fail()
        await super().withdraw_files()


async def test_what_a_renamed_user_left_does_not_go_under_the_new_user_of_the_name(start_hub):
    hub = await start_hub(NamedByUser, TOKENS)
    first = await hub.user("alice", AUTH_STATE)
    await hub.spawn(first)
    first.spawners[""].stuck = True
    await first.stop("")
    first.orm_user.name = "carol"
    hub.app.db.commit()
    second = await hub.user("alice", {"access_token": "another"})
    server = await hub.spawn(second)
    await hub.spawn(first)
    await first.stop("")
    assert await server.token() == b"another"
