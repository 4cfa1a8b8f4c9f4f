"""A file system that hangs: the Hub goes on, and nothing late overwrites what is newer."""

import asyncio
import os
import threading

import pytest

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.backends import filethreads
from spawner_tokens.backends.filethreads import FileSystemHangs, FileThreads

from ..support.scripted import login, shown
from ..support.waiting import until

SIMPLE = TokenSimpleLocalProcessSpawner


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(filethreads, "_TIMEOUT", 0.5)


def open_fifo(path):
    """Waits for a reader, as long as it takes."""
    os.close(os.open(path, os.O_WRONLY))


async def test_what_hangs_is_one_thread_and_the_last_work_is_done_when_it_ends(impatient, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    threads, done = FileThreads(), []
    before = threading.active_count()
    with pytest.raises(FileSystemHangs, match="hangs"):
        await threads.run("a", open_fifo, tmp_path / "fifo")
    with pytest.raises(FileSystemHangs, match="hangs"):
        await threads.run("a", done.append, "a write")
    with pytest.raises(FileSystemHangs, match="hangs"):
        await threads.run("a", done.append, "a withdrawal", at_last=True)
    assert threading.active_count() == before + 1
    assert await threads.run("b", len, "abc") == 3  # another server's
    os.close(os.open(tmp_path / "fifo", os.O_RDONLY))
    await until(lambda: done == ["a withdrawal"])
    await threads.run("a", done.append, "a later write")
    assert done == ["a withdrawal", "a later write"]


async def test_a_hub_with_too_many_hanging_threads_begins_no_more(impatient, monkeypatch, tmp_path):
    monkeypatch.setattr(filethreads, "_MOST_HANGING", 2)
    os.mkfifo(tmp_path / "fifo")
    threads = FileThreads()
    hanging = [threads.run(name, open_fifo, tmp_path / "fifo") for name in "ab"]
    results = await asyncio.gather(*hanging, return_exceptions=True)
    assert [type(each) for each in results] == [FileSystemHangs, FileSystemHangs]
    with pytest.raises(FileSystemHangs, match="too many"):
        await threads.run("c", len, "abc")
    os.close(os.open(tmp_path / "fifo", os.O_RDONLY))
    await until(lambda: not threads._running)
    assert await threads.run("c", len, "abc") == 3


@pytest.mark.parametrize("work", [len, int], ids=["TypeError", "ValueError"])
async def test_errors_are_the_works_own(work):
    with pytest.raises((TypeError, ValueError)):
        await FileThreads().run("a", work, None if work is len else "x")


async def test_the_hub_goes_on_while_a_servers_files_hang(
    start_hub, impatient, monkeypatch, caplog
):
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": {"t": {}}})
    alice, bob = [await hub.user(name, login(name)) for name in ("alice", "bob")]
    for user in (alice, bob):
        hub.spawner(user).start_polling()
    tokens = [lambda: shown(alice) == "alice-a0", lambda: shown(bob) == "bob-a0"]
    for is_there in tokens:
        await until(lambda is_there=is_there: _try(is_there))
    ends, replace = threading.Event(), os.replace
    frozen = alice.spawners[""].tokens_directory

    def hang(source, target, **directories):
        if os.readlink(f"/proc/self/fd/{directories['dst_dir_fd']}") == frozen:
            ends.wait(20)
        replace(source, target, **directories)

    monkeypatch.setattr(os, "replace", hang)
    await alice.save_auth_state(login("alice", n=1))
    await until(lambda: "its file system hangs" in caplog.text)
    assert shown(alice) == "alice-a0"
    await alice.save_auth_state(login("alice", n=2))
    await bob.save_auth_state(login("bob", n=1))
    await until(lambda: shown(bob) == "bob-a1")
    ends.set()
    await until(lambda: shown(alice) == "alice-a2")


def _try(is_there):
    try:
        return is_there()
    except FileNotFoundError:
        return False
