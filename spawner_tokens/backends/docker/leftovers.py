"""What containers that do not run any more left behind: their directories and volumes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from http import HTTPStatus

from docker.errors import APIError

from ...sweep import Leftover
from ..filethreads import FileThreads
from .engine import Call
from .shared import SHARED, SharedDirectory

LABEL = "spawner_tokens"
_LIVE = ["running", "paused", "restarting"]  # the states of containers that may read files


async def find_directories(
    call: Call, threads: FileThreads, shared: SharedDirectory
) -> AsyncIterator[Leftover]:
    """Those of containers that do not run."""
    if not (times := await threads.run(shared, shared.here.find_times)):
        return
    # The Hub's database is not asked: two Hubs in containers may have the same URL.
    live = await call("containers", all=True, filters={"status": _LIVE})
    names = {name.removeprefix("/") for container in live for name in container["Names"]}
    place = {name: getattr(shared, name) for name in SHARED}
    for name in times.keys() - names:
        remove = partial(threads.run, (shared, name), shared.remove, [name])
        yield Leftover({**place, "server": name}, remove, times[name])


async def find_volumes(call: Call, hub: str, *labels: str) -> AsyncIterator[Leftover]:
    """The volumes of the Hub of this name, with these labels, that no container uses."""
    filters = {"label": [f"{LABEL}.hub={hub}", *labels], "dangling": ["true"]}
    try:
        volumes = (await call("volumes", filters=filters))["Volumes"] or ()
    except APIError as error:
        if error.status_code != HTTPStatus.FORBIDDEN:
            raise
        volumes = ()  # a proxy before the engine forbids volumes, so there are none
    for volume in volumes:
        location = {"hub": hub, "server": (volume["Labels"] or {}).get(f"{LABEL}.server")}
        yield Leftover(location, partial(_remove_volume, call, volume["Name"]))


async def _remove_volume(call: Call, name: str) -> None:
    try:
        await call("remove_volume", name)
    except APIError as error:
        if error.status_code not in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
            raise
