"""The Docker Engine: what it shares with the Hub, and programs in its containers that are told secrets."""

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

from ..hostfiles import open_hub_directory

Call = Callable[
    ..., Awaitable[Any]
]  # of DockerSpawner.docker: a method of docker.APIClient, in a thread

# Seconds for all that a container is told at once, and bytes that it may answer: its user may be hostile.
_TIMEOUT, _LONGEST_ANSWER = 10.0, 4096

# One file a line: name, mode, contents in base64, or `-` for a file that has to go. An empty line ends them, since the
# end of a connection cannot be told to an engine that is reached by TLS. `printf` is a part of the shell: what it is
# given is no process argument. The programs are the system's, wherever the user has others.
_WRITE = """
PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
umask 077
[ "$(command -v printf)" = printf ] && cd "$1" || exit 1
while read -r name mode contents && [ -n "$name" ]; do
    if [ "$contents" = - ]; then
        rm -f "$name" || exit 1
    else
        new=$(mktemp ./.XXXXXXXX) || exit 1
        printf %s "$contents" | base64 -d >"$new" && chmod "$mode" "$new" && [ ! -d "$name" ] && mv -f "$new" "$name" ||
            { rm -f "$new"; exit 1; }
    fi
done
"""


@dataclass(frozen=True)
class Engine:
    """``shares_directory``: it sees the Hub's. ``first_uid`` is its host's uid for root in a container; ``None`` where
    that is not known."""

    shares_directory: bool
    first_uid: int | None


async def examine(
    call: Call, root: str, hub: str, find_host_path: Callable[[str], str], log: logging.Logger
) -> Engine:
    """What the engine sees of a Hub's directory in ``root``: ``find_host_path`` gives the path there of a name in it.

    Raises :exc:`OSError` if the engine does not answer.
    """
    try:
        first_uid = find_first_uid(await call("info"))
    except APIError as error:
        if error.status_code != HTTPStatus.FORBIDDEN:  # by a proxy
            raise
        first_uid = None
    name = f".probe-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(open_hub_directory(root, hub, create=True, closed=True))
            os.mkdir(name, dir_fd=directory)
        except OSError as error:
            log.info("The Docker Engine cannot be shown %s: %s", root, error)
            return Engine(False, first_uid)
        stack.callback(os.rmdir, name, dir_fd=directory)
        return Engine(await sees(call, find_host_path(name)), first_uid)


def find_first_uid(info: Mapping[str, Any]) -> int | None:
    """By what the engine says of itself (``GET /info``)."""
    options = {option.partition(",")[0] for option in info.get("SecurityOptions") or ()}
    if "name=rootless" in options:
        return None
    if (
        "name=userns" in options
    ):  # its data then are in a directory that is named after the first uid and gid
        named = re.search(r"/(\d+)\.\d+$", info.get("DockerRootDir", ""))
        return int(named[1]) if named else None
    return 0


async def sees(call: Call, directory: str) -> bool:
    """Whether the engine sees this directory, which nobody else can have. Raises :exc:`OSError` if it does not say."""
    # An engine looks for what is to be mounted before it looks for the image. Some others do not look at all.
    return await _would_mount(call, directory) and not await _would_mount(
        call, f"{directory}-{secrets.token_hex(8)}"
    )


async def _would_mount(call: Call, directory: str) -> bool:
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
    """Write files in a running container as one of its users. Each is whole at any time.

    ``client`` is a :class:`docker.APIClient`, ``files`` name → mode and contents, ``None`` for a file that has to go.
    Raises :exc:`OSError`, as docker's own errors are.
    """
    lines = [
        f"{name} {mode:o} {'-' if contents is None else base64.b64encode(contents).decode()}\n"
        for name, (mode, contents) in files.items()
    ]
    command = ["/bin/sh", "-c", _WRITE, "spawner-tokens", directory]
    code = await _in_thread(lambda: _tell(client, container, user, command, "".join(lines) + "\n"))
    if code != 0:  # what it says may be anything
        raise OSError(f"/bin/sh could not write them in the container (exit code {code})")


def _tell(client: Any, container: str, user: str, command: list[str], text: str) -> int | None:
    """Run a command, and give it a text to read. Its exit code; ``None`` if it has not ended."""
    deadline = time.monotonic() + _TIMEOUT
    created = client.exec_create(container, command, stdin=True, user=user)["Id"]
    stream = client.exec_start(created, socket=True)
    with closing(getattr(stream, "_sock", stream)) as connection, closing(stream):

        def left() -> float:
            return max(deadline - time.monotonic(), 0.001)

        connection.settimeout(left())
        connection.sendall(text.encode())
        answer, more = 0, True
        while more and answer < _LONGEST_ANSWER and time.monotonic() < deadline:
            connection.settimeout(left())
            more = connection.recv(_LONGEST_ANSWER)
            answer += len(more)
    code: int | None = client.exec_inspect(created)["ExitCode"]
    return code


async def _in_thread(function: Callable[[], Any]) -> Any:
    """Call a function in a thread of its own: a pool is soon full of containers that do not answer, and the Hub could
    not end before they do."""
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
