"""Servers that their users share: what they get at the start, lose while they run, and get back."""

import asyncio
import json
from pathlib import Path

import pytest
from jupyterhub import orm
from jupyterhub.spawner import SimpleLocalProcessSpawner

from spawner_tokens import LocalTokenMixin, TokenSimpleLocalProcessSpawner

from ..support.spawners import VariablesOnly
from ..support.waiting import until

SCOPES = ["access:servers"]
BOTH = {"t": {"env": "T"}, "open": {"env": "OPEN", "shared": "deliver"}}


def share(user, name=""):
    bob = orm.User.find(user.db, "bob") or orm.User(name="bob")
    server = user.spawners[name].orm_spawner
    return orm.Share.grant(user.db, server, bob, SCOPES)


def unshare(user, name=""):
    user.db.query(orm.Share).filter_by(spawner_id=user.spawners[name].orm_spawner.id).delete()
    user.db.commit()


async def status(server, name="t"):
    return json.loads(await server.token(f"{name}.json"))["status"]


async def see(server, expected, name="t"):
    """The status is written after the token."""

    async def is_expected():
        return await status(server, name) == expected

    await until(is_expected)


async def test_a_running_server_loses_its_files_while_it_is_shared(start_hub, caplog):
    hub = await start_hub(TokenSimpleLocalProcessSpawner, {"TokenSpawnerMixin.tokens": BOTH})
    user = await hub.user("alice", {"access_token": "1"})
    server, other = await hub.spawn(user), await hub.spawn(user, "other")
    for n in (1, 2):
        share(user)
        await server.until(None)
        await until(lambda n=n: caplog.text.count("may have: t") >= n)
        await see(server, "shared")
        assert await status(server, "open") == "ok" and await server.token("open") == b"%d" % n
        await user.save_auth_state({"access_token": str(n + 1)})  # a renewal meanwhile
        await server.until(b"%d" % (n + 1), "open")
        assert await server.token() is None and await other.token() == b"%d" % (n + 1)
        unshare(user)
        await server.until(b"%d" % (n + 1))
        await see(server, "ok")


async def test_a_server_that_is_shared_when_it_starts_gets_no_token_and_its_files_later(start_hub):
    hub = await start_hub(TokenSimpleLocalProcessSpawner, {"TokenSpawnerMixin.tokens": BOTH})
    user = await hub.user("alice", {"access_token": "1"})
    hub.spawner(user)
    share(user)
    server = await hub.spawn(user)
    env = await server.env()
    assert not {"T", "T_TOKEN_FILE"} & env.keys() and env["OPEN"] == b"1"
    assert await server.token() is None and await server.token("open") == b"1"
    await see(server, "shared")
    unshare(user)
    await server.until(b"1")


async def test_a_share_that_is_made_during_the_start_leaves_no_variable(start_hub):
    class Pulling(SimpleLocalProcessSpawner):
        async def start(self):  # as while an image is pulled
            share(self.user)
            return await super().start()

    class Spawner(LocalTokenMixin, Pulling):
        pass

    hub = await start_hub(Spawner, {"TokenSpawnerMixin.tokens": BOTH})
    server = await hub.spawn(await hub.user("alice", {"access_token": "1"}))
    env = await server.env()
    assert not {"T", "T_TOKEN_FILE"} & env.keys() and env["OPEN"] == b"1"
    await server.until(None)


async def test_under_refuse_a_shared_server_does_not_start(start_hub, caplog):
    settings = {"tokens": {"t": {}}, "tokens_shared": "refuse", "tokens_renew": False}
    settings = {f"TokenSpawnerMixin.{name}": value for name, value in settings.items()}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    user = await hub.user("alice", {"access_token": "1"})
    hub.spawner(user)
    share(user)
    with pytest.raises(Exception, match="stop sharing this one first") as refused:
        await user.spawn("")
    assert refused.value.status_code == 403 and "the server is shared" in caplog.text
    unshare(user)
    server = await hub.spawn(user)  # which runs, and then:
    share(user)
    await server.until(None)
    unshare(user)
    await server.until(b"1")


async def test_a_server_without_files_gets_no_variable_or_is_named(start_hub, caplog):
    hub = await start_hub(VariablesOnly, {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}})
    user = await hub.user("alice", {"access_token": "1"})
    server = await hub.spawn(user)
    assert (await server.env())["T"] == b"1"
    share(user)
    await until(lambda: "cannot be taken back; they may have: t" in caplog.text)
    await user.stop("")
    assert "T" not in await (await hub.spawn(user)).env()


@pytest.mark.parametrize("trouble", ["hook", "login", "platform"])
async def test_what_is_shared_is_withheld_whatever_fails(start_hub, trouble):
    """And comes back when it works again."""
    works = asyncio.Event()
    works.set()

    class Spawner(TokenSimpleLocalProcessSpawner):
        async def deliver_files(self, files):
            if trouble == "platform" and not works.is_set() and files.get("t.json"):
                works.set()
                raise OSError
            await super().deliver_files(files)

    async def hook(spawner, auth_state, tokens):
        await works.wait()
        return tokens

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}}
    if trouble == "hook":
        settings |= {"TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(Spawner, settings)
    user = await hub.user("alice", {"access_token": "1"})
    server = await hub.spawn(user)
    works.clear()
    if trouble == "login":
        stored, user.orm_user.encrypted_auth_state = user.encrypted_auth_state, b"garbage"
        hub.app.db.commit()
    share(user)
    await server.until(None)
    await see(server, "shared")
    works.set()
    if trouble == "login":
        user.orm_user.encrypted_auth_state = stored
        hub.app.db.commit()
    unshare(user)
    await server.until(b"1")


async def test_a_share_that_is_made_in_the_moment_of_a_delivery_wins(start_hub):
    goes_on, prepared, delivered = asyncio.Event(), [], []

    class Spawner(TokenSimpleLocalProcessSpawner):
        async def deliver_files(self, files):
            await super().deliver_files(files)
            delivered.append(files["t"])

    async def hook(spawner, auth_state, tokens):
        prepared.append(auth_state["access_token"])
        if len(prepared) > 1:
            await goes_on.wait()
        return tokens

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}, "TokenSpawnerMixin.tokens_hook": hook}
    hub = await start_hub(Spawner, settings)
    user = await hub.user("alice", {"access_token": "1"})
    server = await hub.spawn(user)
    await user.save_auth_state({"access_token": "2"})
    await until(lambda: prepared[1:])  # for a server that nobody shares
    share(user)
    await server.until(None)
    goes_on.set()
    await until(lambda: prepared[2:])  # again
    await until(lambda: user.spawners[""]._tokens_delivery._delivered_from)
    assert delivered[0] == b"1" and {*delivered[1:]} == {None}


@pytest.mark.parametrize("value", ["1", "2"], ids=["start", "renewal"])
async def test_a_share_that_is_made_while_files_are_written_has_them_withdrawn(start_hub, value):
    class Spawner(TokenSimpleLocalProcessSpawner):
        async def deliver_files(self, files):
            await super().deliver_files(files)
            if files["t"] == value.encode():  # they are there, and the Hub does not know it yet
                written.append(Path(self.tokens_directory, "t").read_text())
                share(self.user)

    written = []
    hub = await start_hub(Spawner, {"TokenSpawnerMixin.tokens": {"t": {}}})
    user = await hub.user("alice", {"access_token": "1"})
    server = await hub.spawn(user)
    await user.save_auth_state({"access_token": value})
    await until(lambda: written == [value])
    await server.until(None)
    await see(server, "shared")


async def test_a_hub_that_starts_again_withholds_what_was_shared_meanwhile(start_hub):
    def narrow(spawner):
        spawner.tokens["lost"] = {"key": lambda auth_state: auth_state["access_token"]}

    settings = {"TokenSpawnerMixin.tokens": {"t": {}}}
    hub = await start_hub(
        TokenSimpleLocalProcessSpawner, settings | {"Spawner.pre_spawn_hook": narrow}
    )
    user = await hub.user("alice", {"access_token": "1"})
    server = await hub.spawn(user)
    assert (await server.token(), await server.token("lost")) == (b"1", b"1")
    hub.http.stop()
    user.spawners[""].stop_polling()  # this Hub is no more
    share(user)
    try:
        again = await start_hub(TokenSimpleLocalProcessSpawner, settings)
        await server.until(None)
        await server.until(None, "lost")
        await see(server, "shared", "lost")
        unshare(again.app.users["alice"])
        await server.until(b"1")
        assert await server.token("lost") is None  # it is not known what it may have
    finally:
        await user.stop("")
