"""Servers in Kubernetes: KubeSpawner alone, with the usual snippet, and with us.

``KUBECONFIG=… KUBE_AUDIT_LOG=… python -m benchmarks.kubernetes [--rounds 15]``, from the folder
above. It also counts what we ask of the API server. Each Hub has a namespace and an account of its
own; the Hubs take turns.
"""

import argparse
import asyncio
import logging
import os
import secrets
import statistics
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from kubespawner import KubeSpawner, clients

from spawner_tokens import TokenKubeSpawner
from tests.support.cluster import (
    PATCH_RULES,
    Z2JH_RULES,
    Cluster,
    Namespace,
    clean,
    stop_clients,
    use,
)
from tests.support.hub import Server, launch

from .spawns import pre_spawn_hook

TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}
HUBS = {
    "KubeSpawner": (KubeSpawner, {}, Z2JH_RULES),
    "KubeSpawner and a snippet": (
        KubeSpawner,
        {"Spawner.pre_spawn_hook": pre_spawn_hook},
        Z2JH_RULES,
    ),
    "TokenKubeSpawner": (TokenKubeSpawner, TOKENS, Z2JH_RULES),
    "TokenKubeSpawner, may patch": (TokenKubeSpawner, TOKENS, PATCH_RULES),
}
STEPS = ("spawn", "renewal", "stop")


class Run:
    """One Hub: the seconds of its spawns and deliveries, and the requests of each step."""

    def __init__(self, cluster, folder, name):
        self.name = name
        self.spawner_class, self.settings, rules = HUBS[name]
        self.folder = folder / name
        self.folder.mkdir()
        self.namespace = Namespace(cluster, self.folder, rules)
        self.spawns, self.deliveries, self.arrivals = [], [], []
        self.requests = {step: Counter() for step in STEPS}

    async def begin(self):
        """Start the Hub; the first server finds out what the account may do."""
        use(self.namespace.kubeconfig)
        settings = {
            **self.settings,
            **self.namespace.settings(),
            "JupyterHub.log_level": logging.ERROR,
        }
        self.hub = await launch(self.folder, self.folder, b"k" * 32, self.spawner_class, settings)
        self.user = await self.hub.user("alice", {"access_token": secrets.token_hex(20)})
        self.clients = {}
        await self.measure()
        self.spawns, self.deliveries, self.arrivals = [], [], []
        self.requests = {step: Counter() for step in STEPS}

    async def measure(self):
        if self.clients:  # a Hub keeps its own, and there are several in this process
            clients._client_cache.clear()
            clients._client_cache.update(self.clients)
        self.namespace.events()
        began = time.perf_counter()
        await self.user.spawn("")
        self.spawns.append(time.perf_counter() - began)
        await asyncio.sleep(0.5)  # an owner is set meanwhile
        self.count("spawn")
        if self.settings.get("TokenSpawnerMixin.tokens"):
            token, saved = secrets.token_hex(20), time.time()
            await self.user.save_auth_state({"access_token": token})
            while (await Server(self.user.spawners[""]).files())["t"].decode() != token:
                await asyncio.sleep(0.02)
            self.arrivals.append(time.time() - saved)
            last = [
                event
                for event in self.count("renewal")
                if event["objectRef"]["resource"] == "secrets"
            ][-1]
            answered = datetime.fromisoformat(
                last["stageTimestamp"].replace("Z", "+00:00")
            ).timestamp()
            self.deliveries.append(answered - saved)
        await self.user.stop("")
        self.count("stop")
        self.clients = dict(clients._client_cache)

    def count(self, step):
        # KubeSpawner watches pods and events, and lists them each time that a watch ends.
        events = [
            event for event in self.namespace.events() if event["verb"] not in ("watch", "list")
        ]
        self.requests[step].update(
            f"{event['verb']} {event['objectRef']['resource']}" for event in events
        )
        return events


async def run(rounds, folder):
    cluster = Cluster(os.environ["KUBECONFIG"])
    runs = [Run(cluster, folder, name) for name in HUBS]
    try:
        for each in runs:
            await each.begin()
        for _ in range(rounds):
            for each in runs:
                await each.measure()
        return runs
    finally:
        for each in runs:
            await each.hub.close()
            clients._client_cache.update(
                {(each.name, *key): client for key, client in each.clients.items()}
            )
        await stop_clients()
        clean(cluster, [each.namespace.name for each in runs])


def describe(seconds):
    first, *_, last = values = sorted(each * 1000 for each in seconds)
    return f"{statistics.median(values):.0f} ms ({first:.0f}–{last:.0f})"


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kubernetes", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(
        logging.CRITICAL
    )  # JupyterHub leaves its HTTP sessions to the collector
    with tempfile.TemporaryDirectory() as folder:
        runs = asyncio.run(run(options.rounds, Path(folder)))
    print(f"medians of {options.rounds}, and the smallest and largest")
    for each in runs:
        print(f"\n{each.name}: spawn {describe(each.spawns)}")
        if each.deliveries:
            print(f"  from a saved auth_state to the API's answer {describe(each.deliveries)}")
            print(f"  from a saved auth_state to the file in the server {describe(each.arrivals)}")
        for step, requests in each.requests.items():
            text = ", ".join(
                f"{count / options.rounds:g} × {request}"
                for request, count in sorted(requests.items())
            )
            print(f"  requests of a {step}: {text or '–'}")


if __name__ == "__main__":
    main()
