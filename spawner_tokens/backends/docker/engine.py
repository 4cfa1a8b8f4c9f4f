"""The Docker Engine: what it shares with the Hub, and how files are written in its containers."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
import os
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Hashable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from errno import errorcode
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import HostConfig, Mount

from ...backend import REFUSED_FOR
from ..filethreads import FileThreads
from .shared import SharedDirectory

# As DockerSpawner.docker: calls a method of docker.APIClient, by its name, in a thread.
Call = Callable[..., Awaitable[Any]]

# Seconds for a program in a container, and bytes of its output, since its user may be hostile.
_TIMEOUT, _MAX_OUTPUT = 10.0, 4096
_NO_ECHO = 3  # the exit code

# Reads one file a line: name, mode, contents in base64, or `-` for a file that is to be removed. An
# empty line is the end, since a connection by TLS cannot be closed in one direction. `echo` is a
# part of the shell, so that its arguments are not in the list of processes, and base64 has nothing
# that it could take for an option. The system's programs come before the user's.
WRITE = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH LC_ALL=C
export LC_ALL
umask 077
[ "$(command -v echo)" = echo ] || exit 3
cd "$1" || exit 1
while read -r name mode contents && [ -n "$name" ]; do
    if [ "$contents" = - ]; then
        rm -rf "$name" || exit 1
    else
        new=$(mktemp ./.XXXXXXXX) || exit 1
        echo "$contents" | base64 -d >"$new" && chmod "$mode" "$new" &&
            { [ ! -d "$name" ] || rm -rf "$name"; } && mv -f "$new" "$name" ||
            { rm -f "$new"; exit 1; }
    fi
done
"""


@dataclass(frozen=True)
class Engine:
    """What is found out of an engine. It is asked once; after a refusal again, but rarely.

    ``name``: a key of its own in ``known``, where the answers are kept. The methods raise
    :exc:`OSError` if the engine does not answer.
    """

    call: Call
    name: Any
    known: dict[Any, Any]
    log: logging.Logger

    async def find_first_uid(self) -> int | None:
        """See :func:`find_first_uid`; ``None`` also if it, or a proxy before it, refuses."""

        async def ask() -> int | None:
            try:
                return find_first_uid(await self.call("info"))
            except APIError:
                return None

        uid: int | None = await self._ask_once("first uid", ask)
        return uid

    async def shares(self, shared: SharedDirectory) -> bool | None:
        """Whether it can mount what is in this directory; ``None`` if it does not say."""

        async def ask() -> bool | None:
            name = f".probe-{secrets.token_hex(8)}"
            owner, threads = (os.geteuid(), os.getegid()), FileThreads.from_hub(self)
            try:
                await threads.run(name, shared.here.write, name, {}, owner)
            except OSError as error:
                words = "Cannot share %s with the Docker Engine: %s"
                self.log.info(words, shared.root, error)
                return False
            try:
                return await shares_directory(self.call, shared.get_host_path(name))
            finally:
                with suppress(OSError):  # the next sweep removes it
                    await threads.run(name, shared.remove, [name])

        answer: bool | None = await self._ask_once(shared, ask)
        return answer

    async def _ask_once(self, question: Hashable, ask: Callable[[], Awaitable[Any]]) -> Any:
        key = self.name, question
        asking, ends_at = self.known.get(key, (None, -math.inf))
        if time.monotonic() >= ends_at:  # all who want to know meanwhile wait for the same answer
            asking = asyncio.ensure_future(self._ask(key, ask))
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            self.known[key] = asking, math.inf
        return await asyncio.shield(asking)

    async def _ask(self, key: Any, ask: Callable[[], Awaitable[Any]]) -> Any:
        answer, ends_at = None, -math.inf
        try:
            answer = await ask()
            ends_at = time.monotonic() + REFUSED_FOR if answer is None else math.inf
        finally:
            self.known[key] = self.known[key][0], ends_at
        return answer


def find_first_uid(info: Mapping[str, Any]) -> int | None:
    """The uid on the engine's host that root in a container has; ``None`` if it is not known.

    ``info``: the engine's answer to ``GET /info``.
    """
    options = {option.partition(",")[0] for option in info.get("SecurityOptions") or ()}
    if "name=rootless" in options:
        return None
    if "name=userns" in options:
        # The name of the engine's own directory then ends in the first uid and gid.
        named = re.search(r"/(\d+)\.\d+$", info.get("DockerRootDir", ""))
        return int(named[1]) if named else None
    return 0


async def shares_directory(call: Call, directory: str) -> bool | None:
    """Whether the engine can mount this directory, whose name no other host has.

    ``None`` if it does not say. Raises :exc:`OSError` if the engine does not answer.
    """
    found = await _can_mount(call, directory)
    if not found:
        return found
    # An engine that does not check the source of a mount accepts a missing directory, too.
    missing = await _can_mount(call, f"{directory}-{secrets.token_hex(8)}")
    return None if missing is None else not missing


async def _can_mount(call: Call, directory: str) -> bool | None:
    # An engine checks the sources of mounts before it looks for the image, which does not exist.
    mounts = [Mount("/mnt", directory, type="bind")]
    image = f"spawner-tokens.invalid/{secrets.token_hex(8)}"
    try:
        await call("create_container", image, host_config=HostConfig(version="1.30", mounts=mounts))
    except APIError as error:
        answers = {HTTPStatus.BAD_REQUEST: False, HTTPStatus.NOT_FOUND: True}
        return answers.get(error.status_code)
    return False


class CannotWrite(OSError):
    """The files did not get to the server. The text says why, and has nothing secret."""

    discreet = True  # see describe_error()


async def find_mount(
    client: Any,
    container: str,
    path: str,
    shared: SharedDirectory,
    run: Call,
    owner: tuple[int, int] | None,
) -> list[int]:
    """The server's directory, if it is what a running container has mounted at ``path``.

    See :meth:`.SharedDirectory.find` and :meth:`.SharedDirectory.write`, which ``run`` calls for
    the server. The container is asked: it may have been started again since, and have what is there
    now. Raises :exc:`OSError`.
    """
    mark = f".{secrets.token_hex(8)}"
    command = ["/bin/sh", "-c", '[ -e "$1" ]', "spawner-tokens", f"{path}/{mark}"]
    found: list[int] | None = await run(shared.find)
    if found:
        await run(shared.write, {mark: b""}, owner, False)
        try:
            ended = _run_in_thread(lambda: _run_program(client, container, "", command, ""))
            code, _ = await ended
        finally:
            await run(shared.write, {mark: None}, owner, False)
        if code == 0:
            return found
    words = "what its container has mounted is not in the Hub's directory"
    raise CannotWrite(f"{words} {shared.root}/{shared.hub} any more; restart the server")


async def write_inside(
    client: Any,
    container: str,
    user: str,
    directory: str,
    files: Mapping[str, tuple[int, bytes | None]],
) -> None:
    """Write files in a directory of a running container. A reader never sees a part of a file.

    ``client``: a :class:`docker.APIClient`. ``user``: the container's user who writes, ``""`` for
    its own. ``files``: name → mode and contents, or ``None`` for a file that is to be removed.
    Raises :exc:`OSError`; docker's errors are such.
    """
    command = ["/bin/sh", "-c", WRITE, "spawner-tokens", directory]
    text = make_lines(files)
    ended = _run_in_thread(lambda: _run_program(client, container, user, command, text))
    code, output = await ended
    if code != 0:
        raise CannotWrite(
            f"/bin/sh could not write them in the container ({explain(code, output)})"
        )


def make_lines(files: Mapping[str, tuple[int, bytes | None]]) -> str:
    """The input of :data:`WRITE`."""
    lines = [
        f"{name} {mode:o} {'-' if contents is None else base64.b64encode(contents).decode()}\n"
        for name, (mode, contents) in files.items()
    ]
    return "".join(lines) + "\n"


def explain(code: int | None, output: str) -> str:
    """Why a program failed, by the system's words: all else in its output may hold a token."""
    if code is None:
        return f"it has not ended after {_TIMEOUT:.0f} seconds"
    if code == _NO_ECHO:
        return "it has no echo of its own"
    words = [words for words in map(os.strerror, errorcode) if words in output]
    return ": ".join([f"exit code {code}", *words[:1]])


def _run_program(
    client: Any, container: str, user: str, command: list[str], text: str
) -> tuple[int | None, str]:
    """Run a command with this input. Returns its exit code, ``None`` if it has not ended, and its
    output.
    """
    deadline = time.monotonic() + _TIMEOUT
    created = client.exec_create(container, command, stdin=True, user=user)["Id"]
    stream = client.exec_start(created, socket=True)
    with closing(getattr(stream, "_sock", stream)) as connection, closing(stream):

        def left() -> float:
            return max(deadline - time.monotonic(), 0.001)

        connection.settimeout(left())
        connection.sendall(text.encode())
        received = b""
        with suppress(TimeoutError):
            while len(received) < _MAX_OUTPUT and time.monotonic() < deadline:
                connection.settimeout(left())
                if not (output := connection.recv(_MAX_OUTPUT)):
                    break
                received += output
    # A connection may end before the process does, which would write older files afterwards.
    while (found := client.exec_inspect(created))["Running"] and time.monotonic() < deadline:
        time.sleep(0.05)
    return None if found["Running"] else found["ExitCode"], received.decode(errors="replace")


async def _run_in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own.

    A pool would be full when a few containers do not answer, and would keep the Hub from ending.
    """
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def settle(result: Any, error: Exception | None) -> None:
        if not future.done():
            future.set_exception(error) if error else future.set_result(result)

    def run() -> None:
        try:
            settled: tuple[Any, Exception | None] = function(), None
        except Exception as error:
            settled = None, error
        with suppress(RuntimeError):  # the Hub has ended since
            loop.call_soon_threadsafe(settle, *settled)

    threading.Thread(target=run, name="spawner-tokens-docker", daemon=True).start()
    return await future
