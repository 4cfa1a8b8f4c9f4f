"""N servers of one user, started at once just after their token has expired: without and with us.

``python -m benchmarks.spawns [--servers 10 50] [--rounds 3]``, from the folder above. Without us
means OAuthenticator and the usual ``pre_spawn_hook``. Each run has its own Hub, provider and login;
the Hubs take turns.
"""

import argparse
import asyncio
import logging
import secrets
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

from jupyterhub.spawner import SimpleLocalProcessSpawner

from spawner_tokens import TokenSimpleLocalProcessSpawner
from tests.support.browser import Browser
from tests.support.hub import Server, launch
from tests.support.oauth import (
    hub_settings,
    log_in,
    make_admin_token,
    start_by_cookie,
    start_by_token,
    wait_for_server,
)
from tests.support.provider import start_provider


async def pre_spawn_hook(spawner):
    auth_state = await spawner.user.get_auth_state()
    spawner.environment["T"] = auth_state["access_token"]


HUBS = {
    "stock": (SimpleLocalProcessSpawner, {"Spawner.pre_spawn_hook": pre_spawn_hook}),
    "spawner_tokens": (
        TokenSimpleLocalProcessSpawner,
        {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}},
    ),
}
PROVIDERS = {
    "threaded": [],
    "one at a time, reuse protection": ["--single-threaded", "--reuse-protection"],
}
WAYS = ("cookie", "user's API token", "admin's API token")


@dataclass(frozen=True)
class Run:
    """What came of one start of N servers."""

    failed: int  # servers that did not start
    stale: int  # requests for which the Hub took the login to have expired
    requests: int  # to the provider's token endpoint
    grants: int  # new pairs of tokens
    tokens: int  # different ones in the servers
    live: int  # servers whose token the provider accepts
    renewable: int  # whether the Hub's refresh token is still good
    seconds: float  # until the last server was ready


class Watched:
    """The authenticator as the Hub's pages see it; counts how often it asks for a new login."""

    def __init__(self, authenticator):
        self._authenticator = authenticator
        self.stale = 0

    def __getattr__(self, name):
        return getattr(self._authenticator, name)

    async def refresh_user(self, user, handler=None):
        refreshed = await self._authenticator.refresh_user(user, handler)
        self.stale += not refreshed
        return refreshed


async def run(hub_name, provider_options, way, servers):
    spawner_class, settings = HUBS[hub_name]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with start_provider(folder, "--token-lifetime", "2") as provider:
            settings = {
                **hub_settings(provider),
                "JupyterHub.log_level": logging.WARNING,
                **settings,
            }
            hub = await launch(
                folder, folder / "tokens", secrets.token_bytes(32), spawner_class, settings
            )
            hub.app.log.handlers[:] = [logging.NullHandler()]
            hub.app.log.propagate = False
            watched = Watched(hub.app.authenticator)
            hub.app.tornado_application.settings["authenticator"] = watched
            try:
                browser = Browser(hub.url)
                alice = await log_in(hub, browser, provider, "alice")
                token = (await alice.get_auth_state())["access_token"]
                while await provider.is_live(token):
                    await asyncio.sleep(0.05)
                requests = sum((await provider.token_requests()).values())
            except BaseException:
                await hub.close()
                raise
        # The same provider again, whose tokens now live until all has been measured.
        async with start_provider(folder, *provider_options) as provider:
            try:
                return await measure(hub, provider, watched, alice, browser, way, servers, requests)
            finally:
                await asyncio.gather(
                    *(
                        alice.stop(name)
                        for name, each in list(alice.spawners.items())
                        if each.server
                    )
                )
                await hub.close()


async def measure(hub, provider, watched, alice, browser, way, servers, requests):
    names = [f"s{number}" for number in range(servers)]
    api_token = make_admin_token(hub) if way == "admin's API token" else alice.new_api_token()

    async def start(name):
        if way == "cookie":
            status, _ = await start_by_cookie(hub, browser, "alice", name)
        else:
            status, _ = await start_by_token(hub, api_token, "alice", name)
        if status < 400 and await wait_for_server(hub, "alice", name):
            return time.perf_counter() - began
        return None

    began = time.perf_counter()
    ready = dict(zip(names, await asyncio.gather(*map(start, names)), strict=True))
    seconds = max((each for each in ready.values() if each is not None), default=0)

    running = [name for name in names if ready[name] is not None]
    tokens = [(await Server(alice.spawners[name]).env()).get("T", b"").decode() for name in running]
    live = {token: bool(token) and await provider.is_live(token) for token in set(tokens)}
    auth_state = await alice.get_auth_state() or {}
    return Run(
        failed=servers - len(running),
        stale=watched.stale,
        requests=sum((await provider.token_requests()).values()) - requests,
        grants=provider.grants(),
        tokens=len(live.keys() - {""}),
        live=sum(live[token] for token in tokens),
        renewable=int(provider.knows_refresh_token(auth_state.get("refresh_token"))),
        seconds=seconds,
    )


def summarize(runs):
    """Of each count the smallest and the largest in these rounds, and the median of the seconds."""
    for field in fields(Run):
        values = [asdict(each)[field.name] for each in runs]
        if field.name == "seconds":
            yield f"{statistics.median(values):.1f}"
        else:
            yield "–".join(str(value) for value in sorted({min(values), max(values)}))


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.spawns", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--servers", type=int, nargs="+", default=[10, 50], metavar="N")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(
        logging.CRITICAL
    )  # JupyterHub leaves its HTTP sessions to the collector

    row = "{:>2}  {:32}{:19}{:15}" + "{:>10}" * len(fields(Run))
    print(row.format("N", "provider", "started by", "Hub", *(field.name for field in fields(Run))))
    for servers, (provider, provider_options), way in product(
        options.servers, PROVIDERS.items(), WAYS
    ):
        runs = {hub: [] for hub in HUBS}
        for _ in range(options.rounds):
            for hub in HUBS:
                runs[hub].append(asyncio.run(run(hub, provider_options, way, servers)))
        for hub in HUBS:
            print(row.format(servers, provider, way, hub, *summarize(runs[hub])), flush=True)


if __name__ == "__main__":
    main()
