"""Servers of Spawners by others: what the provider says at each look of their user's token.

``python -m benchmarks.walk [--lifetime 15] [--lifetimes 5] [--only NAME …]``, from the folder
above, as root, with git; Swarm's with dockerd. A terminal in a server of each clones with its
token, and pushes with the same environment after each token life. Meanwhile the file that its
``LAB_TOKEN_FILE`` names is looked at five times a second. The provider ends the old token at a
renewal. In the middle, just after one, the Hub is killed (-9) and started again.

*files* are those of the Hub, *pull* is ``tokens_pull`` with the package's part in the server, and
*both* is that in a server which has files that are never renewed.
"""

import argparse
import asyncio
import logging
import shlex
import tempfile
import time
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path

from tests.support.crashing import KEY, HubProcess
from tests.support.gitserver import start_git_server
from tests.support.hub import Server, launch
from tests.support.oauth import hub_settings
from tests.support.provider import start_provider
from tests.support.pulling import PULL
from tests.support.waiting import until

from .walkers import WAYS

PAUSE = 0.2  # seconds between two looks
# Seconds for which a token that the provider ended at the renewal may be in a file: see Look.
DELIVERY = 0.25
AWAY = 2.0  # seconds from the Hub's end to its next start
GIT = "git -C repo -c user.name=Alice -c user.email=alice@example.org"


@dataclass(frozen=True)
class Look:
    """The provider's word on a file's token: see :class:`tests.support.crashing.Look`."""

    at: float
    token: str = field(repr=False)
    dead: float


class Terminal:
    """A shell in a server, which keeps the environment that it was started with."""

    START = """
        cd "$(mktemp -d -p "$HOME")" && mkfifo orders && pwd || exit 1
        while read -r order <orders; do eval "$order"; echo $? >done; done >log 2>&1 &
    """

    def __init__(self, server):
        self._server = server

    async def _tell(self, command):
        return (await self._server.run("sh", "-c", command)).out.strip()

    async def __aenter__(self):
        self._folder = await self._tell(self.START)
        return self

    async def __aexit__(self, *error):
        await self._tell(f"echo exit >{self._folder}/orders")

    async def run(self, command):
        """Whether it succeeds."""
        there = f"cd {self._folder} && "
        await self._tell(f"{there} rm -f done && echo {shlex.quote(command)} >orders")
        return await until(lambda: self._tell(f"{there} cat done"), 60) == "0"


class Watch:
    """Looks at the file that a server's ``LAB_TOKEN_FILE`` names."""

    def __init__(self, server, provider):
        self.server, self._provider = server, provider
        self.path, self.looks = "", []

    async def find(self, pull):
        """Find the file, with a live token in it; of a server that pulls, its own."""
        path = (await self.server.texts()).get("LAB_TOKEN_FILE", "")
        if path and (not pull or "spawner-tokens-server-" in path):
            self.path = path
            return not (await self._look()).dead
        return False

    async def _read(self):
        return (await self.server.run("cat", self.path)).out

    async def _look(self):
        at, token = time.monotonic(), await self._read()
        if token and await self._provider.is_live(token):
            return Look(at, token, 0.0)
        answered = time.monotonic()
        while await self._read() == token and time.monotonic() < answered + 60:
            await asyncio.sleep(0.005)
        return Look(at, token, time.monotonic() - answered)

    async def run(self):
        while True:
            self.looks.append(await self._look())
            await asyncio.sleep(max(0.0, self.looks[-1].at + PAUSE - time.monotonic()))

    async def see_another(self):
        """Wait until the file has another token than now."""
        token = self.looks[-1].token
        await until(lambda: self.looks[-1].token != token, 60)


LABELS = {
    "looks": "looks",
    "dead": "dead looks",
    "passing": "new on its way",
    "longest": "longest dead, ms",
    "gap": "between looks, s",
    "tokens": "tokens",
    "cloned": "cloned",
    "pushed": "pushed",
    "down": "no Hub, s",
}
Walk = make_dataclass("Walk", LABELS)


def find_address(spawner):
    return spawner.server.host


@asynccontextmanager
async def start_hubs(folder, settings, login):
    """Yields the server's address, and what kills the Hub and starts it again.

    At the end, a Hub in this process stops the server.
    """
    memory = folder / "memory"
    hubs = [HubProcess(folder / "hub", memory, settings, login, find=find_address)]

    async def restart():
        """Returns for how many seconds there was no Hub."""
        hubs[-1].kill()
        began = time.monotonic()
        await hubs[-1].died()
        await asyncio.sleep(AWAY)
        hubs.append(HubProcess(folder / "hub", memory, settings))
        await hubs[-1].ready()
        return time.monotonic() - began

    try:
        [address] = await hubs[0].ready()
        yield address, restart
    finally:
        hubs[-1].kill()
        await hubs[-1].died()
        quiet = {"JupyterHub.log_level": logging.ERROR}
        last = await launch(folder / "hub", memory, KEY, None, settings | quiet)
        [user] = [last.app.users[name] for name in login]
        await user.stop("")
        await last.close()


async def walk(way, lifetime, lifetimes):
    """A :class:`Walk` on this way. ``lifetime`` is a token's, in seconds."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        for name in ("hub", "git", "memory"):
            (folder / name).mkdir()
        username, home, settings = stack.enter_context(way.be(folder))
        ip = settings.get("JupyterHub.hub_ip", "127.0.0.1")
        async with (
            start_provider(folder, "--token-lifetime", str(lifetime)) as provider,
            start_git_server(folder / "git", provider, ip) as git,
        ):
            tokens = {"lab": {"preset": "gitlab", "url": git.url, "env": "LAB_TOKEN"}}
            settings = hub_settings(provider) | settings | way.settings
            settings |= {
                "JupyterHub.spawner_class": way.spawner_class,
                "TokenSpawnerMixin.tokens": tokens,
                "Spawner.environment": {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)},
                **(PULL if way.pull else {}),
            }
            answer = await provider.log_in("alice", "profile read write")
            login = {username: (answer | {"created_at": time.time()}, [""])}
            async with start_hubs(folder, settings, login) as (address, restart):
                watch = Watch(Server(None, address), provider)
                await until(lambda: watch.find(way.pull), 60)
                return await _walk(watch, git, restart, lifetime, lifetimes)


async def _walk(watch, git, restart, lifetime, lifetimes):
    git.create("repo")
    looking, began = asyncio.ensure_future(watch.run()), time.monotonic()
    down, pushed = 0.0, 0
    try:
        async with Terminal(watch.server) as terminal:
            cloned = await terminal.run(f"git clone --quiet {git.url}/repo.git")
            for number in range(1, lifetimes + 1):
                if number == lifetimes // 2 + 1:
                    await watch.see_another()
                    down = await restart()
                await asyncio.sleep(max(0.0, began + number * lifetime - time.monotonic()))
                before = git.head("repo")
                commit = f"{GIT} commit --quiet --allow-empty --message={number}"
                succeeds = await terminal.run(f"{commit} && {GIT} push --quiet")
                pushed += succeeds and git.head("repo") != before
    finally:
        looking.cancel()
        await asyncio.wait({looking})
    return _count(watch.looks, cloned, f"{pushed} of {lifetimes}", down)


def _count(looks, cloned, pushed, down):
    dead = [look.dead for look in looks if look.dead]
    return Walk(
        looks=len(looks),
        dead=sum(seconds > DELIVERY for seconds in dead),
        passing=sum(seconds <= DELIVERY for seconds in dead),
        longest=round(1000 * max(dead, default=0)),
        gap=round(max(b.at - a.at for a, b in zip(looks, looks[1:], strict=False)), 2),
        tokens=len({look.token for look in looks}),
        cloned="yes" if cloned else "no",
        pushed=pushed,
        down=round(down, 1),
    )


async def main(lifetime, lifetimes, only):
    row = "{:24}" + "{:>18}" * len(LABELS)
    print(row.format("", *LABELS.values()))
    for name in only or WAYS:
        found = await walk(WAYS[name], lifetime, lifetimes)
        print(row.format(name, *(str(getattr(found, label)) for label in LABELS)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.walk", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--lifetime", type=int, default=15, metavar="SECONDS", help="of a token")
    parser.add_argument("--lifetimes", type=int, default=5, metavar="N", help="how long to look")
    parser.add_argument("--only", nargs="+", choices=WAYS, metavar="NAME", help=", ".join(WAYS))
    logging.getLogger("tornado.access").setLevel(logging.ERROR)  # git asks without a token first
    logging.getLogger("asyncio").setLevel(
        logging.CRITICAL
    )  # JupyterHub leaves its HTTP sessions to the collector
    options = vars(parser.parse_args())
    asyncio.run(main(**options))
