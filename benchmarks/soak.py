"""Short-lived tokens, no browser: what the provider says each second of the servers' tokens.

``python -m benchmarks.soak [--lifetime 20] [--lifetimes 20] [--kills 3]``, from the folder above.
Two runs at the same time, each with a Hub, a provider that ends the old token at a refresh, and its
own users: alice with two servers, bob with one. In the second run the Hub is killed (-9) several
times, and started again; the servers run on.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass, make_dataclass
from datetime import datetime, timezone
from pathlib import Path

from spawner_tokens.demo.processes import end_processes, find_processes
from spawner_tokens.demo.provider import DATABASE
from tests.support.crashing import HubProcess, log_in, look, start_forkserver
from tests.support.oauth import hub_settings
from tests.support.provider import start_provider

SERVERS = {"alice": ["", "b"], "bob": [""]}
# Seconds for which a dead token may stay in a file: see tests.support.crashing.Look.
DELIVERY = 0.25
# Seconds in which a Hub that has found its servers again has new tokens in their files.
SOON = 2.0

LABELS = {
    "looks": "looks",
    "dead_up": "dead looks while the Hub was up",
    "dead_down": "dead looks from a kill to 2 s after the Hub was back",
    "passing": "looks while a new token was on its way",
    "passing_ms": "  the longest until it was in the file, ms",
    "down": "from each kill until the Hub was back, s",
    "gap": "from each kill to the end of the last dead look, s",
    "renewals": "renewals",
    "requests": "token requests × status",
    "per_life": "token requests per user and lifetime",
    "to_file_ms": "longest from the provider's renewal to the file, ms",
}
Run = make_dataclass("Run", LABELS)


@dataclass
class Watch:
    """Looks at one file, each second."""

    provider: object
    database: Path
    file: Path

    def __post_init__(self):
        self.looks = []
        self.delays = {}  # by token

    async def run(self):
        while True:
            self.looks.append(await look(self.provider, self.file))
            self._measure_delay()
            await asyncio.sleep(max(0.0, self.looks[-1].at + 1 - time.monotonic()))

    def _measure_delay(self):
        token, written = self.file.read_text(), self.file.stat().st_mtime
        if token in self.delays:  # a Hub that is started again writes the same one once more
            return
        query = (
            "SELECT created FROM oauth2_provider_accesstoken"
            " WHERE token = ? AND source_refresh_token_id NOT NULL"
        )
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            for [created] in database.execute(query, [token]):
                self.delays[token] = (
                    written
                    - datetime.fromisoformat(created).replace(tzinfo=timezone.utc).timestamp()
                )


async def run(lifetime, lifetimes, kills):
    with (
        tempfile.TemporaryDirectory() as name,
        tempfile.TemporaryDirectory(dir="/dev/shm") as memory,
    ):
        folder = Path(name)
        (folder / "hub").mkdir()
        Path(memory).chmod(0o711)
        options = ["--token-lifetime", str(lifetime), "--reuse-protection"]
        async with start_provider(folder, *options) as provider:
            hubs = []
            try:
                return await soak(provider, folder, memory, hubs, lifetime, lifetimes, kills)
            finally:
                for hub in hubs:
                    hub.kill()
                    await hub.died()
                end_processes(find_processes(folder / "hub"))


async def soak(provider, folder, memory, hubs, lifetime, lifetimes, kills):
    def start(logins=()):
        settings = hub_settings(provider) | {"TokenSpawnerMixin.tokens": {"t": {}}}
        hubs.append(HubProcess(folder / "hub", memory, settings, logins))
        return hubs[-1].ready()

    files = await start(
        {
            username: (await log_in(provider, username), servers)
            for username, servers in SERVERS.items()
        }
    )
    watches = [Watch(provider, folder / DATABASE, file) for file in files]
    looking = asyncio.gather(*(watch.run() for watch in watches))
    began, seconds = time.monotonic(), lifetime * lifetimes
    requests, grants = await provider.token_requests(), provider.grants()
    outages = []
    for number in range(kills):
        await wait_until(began + seconds * (number + 1) / (kills + 1), looking)
        hubs[-1].kill()
        killed = time.monotonic()
        await hubs[-1].died()
        await start()
        outages.append((killed, time.monotonic()))
    await wait_until(began + seconds, looking)
    looking.cancel()
    with suppress(asyncio.CancelledError):
        await looking
    hubs[-1].kill()
    await hubs[-1].died()
    asked = await provider.token_requests() - requests

    def is_down(each):
        return any(killed <= each.at <= found + SOON for killed, found in outages)

    def gap(watch, killed, found):
        dead = [
            each.at + each.dead
            for each in watch.looks
            if killed <= each.at <= found + SOON and each.dead
        ]
        return max(dead, default=killed) - killed

    looks = [each for watch in watches for each in watch.looks]
    dead = [each for each in looks if each.dead > DELIVERY]
    passing = [each.dead for each in looks if 0 < each.dead <= DELIVERY]
    return Run(
        looks=len(looks),
        dead_up=sum(not is_down(each) for each in dead),
        dead_down=sum(map(is_down, dead)),
        passing=len(passing),
        passing_ms=round(1000 * max(passing, default=0)),
        down=words(found - killed for killed, found in outages),
        gap=words(max(gap(watch, *outage) for watch in watches) for outage in outages),
        renewals=provider.grants() - grants,
        requests=", ".join(f"{count} × {status}" for status, count in sorted(asked.items())),
        per_life=round(sum(asked.values()) / len(SERVERS) / lifetimes, 2),
        to_file_ms=round(
            1000 * max((delay for watch in watches for delay in watch.delays.values()), default=0)
        ),
    )


async def wait_until(moment, looking):
    """As long as nothing goes wrong with the looks."""
    await asyncio.wait({looking}, timeout=max(0.0, moment - time.monotonic()))
    if looking.done():
        looking.result()


def words(numbers):
    return ", ".join(f"{number:.1f}" for number in numbers) or "–"


async def main(options):
    start_forkserver()
    runs = await asyncio.gather(
        *(run(options.lifetime, options.lifetimes, kills) for kills in (0, options.kills))
    )
    row = "{:58}{:>24}{:>24}"
    print(row.format("", "no kills", f"{options.kills} kills"))
    for field, label in LABELS.items():
        print(row.format(label, *(str(getattr(each, field)) for each in runs)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.soak", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--lifetime", type=int, default=20, metavar="SECONDS", help="of a token")
    parser.add_argument("--lifetimes", type=int, default=20, metavar="N", help="how long to look")
    parser.add_argument(
        "--kills", type=int, default=3, metavar="N", help="of the Hub, in the second run"
    )
    asyncio.run(main(parser.parse_args()))
