"""The event loop goes on: with a large auth_state, and with a database that is locked."""

import asyncio
import sqlite3
import threading
from contextlib import contextmanager
from itertools import pairwise

import pytest
from jupyterhub.crypto import CryptKeeper

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
    keeper = CryptKeeper.instance()
    saved = keeper._encrypt(login("alice", -10, n=5) | {"teams": TEAMS})
    counting = keeper.fernet = Counting(keeper.fernet)
    try:
        alice.encrypted_auth_state = saved
        hub.app.db.commit()
        await until(lambda: {has(alice, name) for name in names} == {"alice-a1"})
    finally:
        keeper.fernet = counting._cipher
    assert threading.main_thread() not in {*counting.encrypted, *walks} and walks
    # The login and what was stored before it are compared at once: see the test below.
    assert 1 <= counting.decrypted.count(threading.main_thread()) <= 2
    # What the renewal has stored is known.
    assert len(counting.decrypted) <= 4 and len(walks) <= 4


async def test_an_older_save_is_repaired_at_once_however_large_it_is(start_hub):
    hub = await start_hub(SIMPLE, Provider().settings())
    old = login("alice", -10) | {"teams": TEAMS}
    alice = await hub.user("alice", old)
    await watch_servers(hub, alice, [""])
    await until(lambda: has(alice) == "alice-a1")
    keeper = CryptKeeper.instance()
    alice.encrypted_auth_state = keeper._encrypt(old | {"note": "by a hook"})
    auth_state = keeper._decrypt(alice.encrypted_auth_state)
    assert auth_state["refresh_token"] == "alice-r1" and auth_state["note"] == "by a hook"


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
