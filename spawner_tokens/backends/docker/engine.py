"""The Docker Engine: what it shares with the Hub, and how files are written in its containers."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from docker.errors import APIError
from docker.types import HostConfig, Mount

from .shared import SharedDirectory

# As DockerSpawner.docker: calls a method of docker.APIClient, by its name, in a thread.
Call = Callable[..., Awaitable[Any]]

# Seconds for a program in a container, and bytes of its output, since its user may be hostile.
_TIMEOUT, _MAX_OUTPUT = 10.0, 4096

# Reads one file a line: name, mode, contents in base64, or `-` for a file that is to be removed. An
# empty line is the end, since a connection by TLS cannot be closed in one direction. `printf` is a
# part of the shell, so that its arguments are not in the list of processes. The system's programs
# come before the user's.
_WRITE = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
umask 077
[ "$(command -v printf)" = printf ] && cd "$1" || exit 1
while read -r name mode contents && [ -n "$name" ]; do
    if [ "$contents" = - ]; then
        rm -rf "$name" || exit 1
    else
        new=$(mktemp ./.XXXXXXXX) || exit 1
        printf %s "$contents" | base64 -d >"$new" && chmod "$mode" "$new" &&
            { [ ! -d "$name" ] || rm -rf "$name"; } && mv -f "$new" "$name" ||
            { rm -f "$new"; exit 1; }
    fi
done
"""


@dataclass(frozen=True)
class Engine:
    """What the Hub knows of its engine.

    ``shares_directory``: whether the engine can mount the Hub's directory. ``first_uid``: see
    :func:`find_first_uid`.
    """

    shares_directory: bool
    first_uid: int | None


async def examine_engine(call: Call, shared: SharedDirectory, log: logging.Logger) -> Engine:
    """Find out whether the engine can mount what is in this directory, and how it maps uids.

    Raises :exc:`OSError` if the engine does not answer.
    """
    try:
        first_uid = find_first_uid(await call("info"))
    except APIError as error:
        if error.status_code != HTTPStatus.FORBIDDEN:  # as a proxy before the engine may answer
            raise
        first_uid = None
    name = f".probe-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(shared.here.open(create=True))
            os.mkdir(name, dir_fd=directory)
        except OSError as error:
            log.info("Cannot share %s with the Docker Engine: %s", shared.root, error)
            return Engine(False, first_uid)
        stack.callback(os.rmdir, name, dir_fd=directory)
        return Engine(await shares_directory(call, shared.get_host_path(name)), first_uid)


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


async def shares_directory(call: Call, directory: str) -> bool:
    """Whether the engine can mount this directory, whose name no other host has.

    Raises :exc:`OSError` if the engine does not answer.
    """
    # An engine that does not check the source of a mount accepts a missing directory, too.
    missing = f"{directory}-{secrets.token_hex(8)}"
    return await _can_mount(call, directory) and not await _can_mount(call, missing)


async def _can_mount(call: Call, directory: str) -> bool:
    # An engine checks the sources of mounts before it looks for the image, which does not exist.
    mounts = [Mount("/mnt", directory, type="bind")]
    image = f"spawner-tokens.invalid/{secrets.token_hex(8)}"
    try:
        await call("create_container", image, host_config=HostConfig(version="1.30", mounts=mounts))
    except APIError as error:
        if error.status_code == HTTPStatus.BAD_REQUEST:
            return False
        if error.status_code != HTTPStatus.NOT_FOUND:
            raise
        return True
    return False


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
    lines = [
        f"{name} {mode:o} {'-' if contents is None else base64.b64encode(contents).decode()}\n"
        for name, (mode, contents) in files.items()
    ]
    command = ["/bin/sh", "-c", _WRITE, "spawner-tokens", directory]
    text = "".join(lines) + "\n"
    code = await _run_in_thread(lambda: _run_program(client, container, user, command, text))
    if code != 0:  # the output may hold a token
        raise OSError(f"/bin/sh could not write them in the container (exit code {code})")


def _run_program(
    client: Any, container: str, user: str, command: list[str], text: str
) -> int | None:
    """Run a command with this input. Returns its exit code; ``None`` if it has not ended."""
    deadline = time.monotonic() + _TIMEOUT
    created = client.exec_create(container, command, stdin=True, user=user)["Id"]
    stream = client.exec_start(created, socket=True)
    with closing(getattr(stream, "_sock", stream)) as connection, closing(stream):

        def left() -> float:
            return max(deadline - time.monotonic(), 0.001)

        connection.settimeout(left())
        connection.sendall(text.encode())
        received = 0
        while received < _MAX_OUTPUT and time.monotonic() < deadline:
            connection.settimeout(left())
            if not (output := connection.recv(_MAX_OUTPUT)):
                break
            received += len(output)
    code: int | None = client.exec_inspect(created)["ExitCode"]
    return code


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
