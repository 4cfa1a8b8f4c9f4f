"""The event loop goes on: with a large auth_state, and with a database that is locked."""

import asyncio
import sqlite3
import threading
from contextlib import contextmanager
from itertools import pairwise

import pytest
from jupyterhub.crypto import CryptKeeper, encrypt

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.tokens import selection

from ..support.scripted import Provider, login, shown, tokens
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner
TEAMS = [{"name": f"team{number}", "slug": "x" * 100} for number in range(1000)]


class Counting:
    """The keeper's cipher, and in which threads it was used."""

    def __init__(self, cipher):
        self._cipher = cipher
        self.decrypted, self.encrypted = [], []

    def decrypt(self, text):
        self.decrypted.append(threading.current_thread())
        return self._cipher.decrypt(text)

    def encrypt(self, text):
        self.encrypted.append(threading.current_thread())
        return self._cipher.encrypt(text)


@contextmanager
def counted():
    keeper = CryptKeeper.instance()
    counting = keeper.fernet = Counting(keeper.fernet)
    try:
        yield counting
    finally:
        keeper.fernet = counting._cipher


async def watch_servers(hub, user, names):
    """Running servers of a user, without processes of theirs."""
    for name in names:
        hub.spawner(user, name).start_polling()
    await until(lambda: all(has(user, name) for name in names))


def has(user, name=""):
    try:
        return shown(user, name)
    except FileNotFoundError:
        return None


async def test_a_large_auth_state_is_read_and_walked_once_and_not_in_the_event_loop(
    start_hub, monkeypatch
):
    names, walks = ["", *"abcde"], []

    def examine(auth_state):
        walks.append(threading.current_thread())
        return walk(auth_state)

    provider = Provider()
    hub = await start_hub(SIMPLE, provider.settings())
    alice = await hub.user("alice", login("alice") | {"teams": TEAMS})
    await watch_servers(hub, alice, names)
    walk = selection.examine
    monkeypatch.setattr(selection, "examine", examine)
    saved = login("alice", -10, n=5) | {"teams": TEAMS}
    with counted() as cipher:
        await alice.save_auth_state(saved)
        await until(lambda: {has(alice, name) for name in names} == {"alice-a1"})
    assert not {*cipher.encrypted, *cipher.decrypted, *walks} & {threading.main_thread()}
    # What the renewal has stored is known.
    assert len(cipher.decrypted) <= 2 and 1 <= len(walks) <= 4


@pytest.mark.parametrize("is_known", [True, False], ids=["seen-before", "since-the-Hubs-start"])
async def test_a_large_save_of_older_tokens_takes_none_away(start_hub, is_known):
    hub = await start_hub(SIMPLE, Provider().settings())
    old = login("alice", -10) | {"teams": TEAMS}
    alice = await hub.user("alice", old)
    with counted() as cipher:
        if is_known:
            await watch_servers(hub, alice, [""])
            await until(lambda: has(alice) == "alice-a1")
        else:
            hub.spawner(alice)
            await alice.save_auth_state(login("alice", n=1) | {"teams": TEAMS})
            await until(has_looked)
        await alice.save_auth_state(old | {"note": "by a hook"})
        assert (await alice.get_auth_state())["refresh_token"] == "alice-r1"

        async def has_note():
            return "note" in await alice.get_auth_state()

        await until(has_note)
    assert (await alice.get_auth_state())["refresh_token"] == "alice-r1"
    assert cipher.decrypted
    assert not {*cipher.encrypted, *cipher.decrypted} & {threading.main_thread()}


async def test_a_large_save_of_older_tokens_does_not_undo_a_later_save(start_hub):
    hub = await start_hub(SIMPLE, Provider().settings())
    old = login("alice", -10) | {"teams": TEAMS, "note": "earlier"}
    alice = await hub.user("alice", old)
    await watch_servers(hub, alice, [""])
    await until(lambda: has(alice) == "alice-a1")
    new = await alice.get_auth_state() | {"note": "later"}
    for encrypted in [await encrypt(old), await encrypt(new)]:
        alice.orm_user.encrypted_auth_state = encrypted
    await until(has_looked)
    assert await alice.get_auth_state() == new


def has_looked():
    """Whether nothing of what was saved, or stored when the Hub started, is still looked at."""
    names = {task.get_coro().__qualname__ for task in asyncio.all_tasks()}
    return names.isdisjoint({"ForeignSaves._look_at", "ForeignSaves._add"})


@contextmanager
def locked(hub):
    """Another process is in the middle of a write."""
    path = hub.app.db.get_bind().url.database
    other = sqlite3.connect(path, isolation_level=None, timeout=0)
    other.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


@contextmanager
def traced(hub):
    """The statements that SQLite gets from the Hub."""
    statements = []
    connection = hub.app.db.connection().connection.dbapi_connection
    connection.set_trace_callback(statements.append)
    try:
        yield statements
    finally:
        connection.set_trace_callback(None)


@pytest.mark.parametrize("more", [{}, {"teams": TEAMS}], ids=["small", "large"])
async def test_new_tokens_reach_the_files_while_the_database_is_locked(start_hub, caplog, more):
    names, gate = ["alice", "bob", "carol"], asyncio.Event()

    async def grant(user, n):
        await gate.wait()
        return tokens(user, n)

    provider = Provider(grant)
    hub = await start_hub(SIMPLE, provider.settings())
    users = [await hub.user(name, login(name, -10) | more) for name in names]
    for user in users:
        await watch_servers(hub, user, [""])
    await until(lambda: len(provider.grants) == 3)
    with traced(hub) as statements:
        with locked(hub):
            gate.set()
            await until(lambda: [has(user) for user in users] == [f"{name}-a1" for name in names])
        stored = [f"{name}-r1" for name in names]

        async def is_stored():
            return [(await user.get_auth_state())["refresh_token"] for user in users] == stored

        await until(is_stored)
    waits = [text for text in statements if text.startswith("PRAGMA busy_timeout =")]
    assert set(waits[::2]) == {"PRAGMA busy_timeout = 10"}
    assert set(waits[1::2]) == {"PRAGMA busy_timeout = 5000"}
    refused = [each.created for each in caplog.records if each.msg.startswith("Could not store")]
    pauses = [later - earlier for earlier, later in pairwise(refused)]
    assert refused and all(pause > 0.09 for pause in pauses)  # one asks for all
    assert all(len(provider.grants[name]) == 1 for name in names)
