"""What a server on Kubernetes holds while its token is renewed, at the pace of the kubelet.

``KUBECONFIG=… python -m benchmarks.kubelet [--patch] [--lifetime 400] [--lifetimes 2]``, from the
folder above. The Hub has the rights of Zero to JupyterHub's chart; with ``--patch``, it may patch.
One run shows two providers. Where the old token ends by itself, no look is dead if each token is
replaced before its end. Where it ends at the refresh, it is dead until the kubelet looks.
"""

import argparse
import asyncio
import logging
import os
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from spawner_tokens import TokenKubeSpawner
from tests.support.cluster import PATCH_RULES, Z2JH_RULES, Cluster, Namespace, clean, stop_clients
from tests.support.hub import launch
from tests.support.scripted import Provider, login, tokens


class Watch:
    """A server whose file is looked at twice a second."""

    def __init__(self, namespace, folder, lifetime):
        self.namespace, self.folder, self.lifetime = namespace, folder, lifetime
        self.issued = {}  # token → when
        self.seen = {}  # token → when it was first and last in the file
        self.looks = self.expired = 0

    def grant(self, user, number):
        answer = tokens(user, number, expires_in=self.lifetime)
        self.issued[answer["access_token"]] = time.time()
        return answer

    async def begin(self):
        settings = {**Provider(grant=self.grant).settings(), **self.namespace.settings()}
        settings["JupyterHub.log_level"] = logging.ERROR
        self.hub = await launch(self.folder, self.folder, b"k" * 32, TokenKubeSpawner, settings)
        user = await self.hub.user("alice")
        self.hub.spawner(user)  # from our first Spawner on, what is saved gets its time
        first = login("alice", left=3600, expires_in=self.lifetime)  # just issued
        self.issued[first["access_token"]] = time.time()
        await user.save_auth_state(first)
        self.server = await self.hub.spawn(user)

    async def look(self, until):
        while time.time() < until:
            token, now = (await self.server.files())["t"].decode(), time.time()
            first, _ = self.seen.get(token, (now, now))
            self.seen[token] = first, now
            self.looks += 1
            self.expired += now > self.issued[token] + self.lifetime
            await asyncio.sleep(0.5)

    def report(self):
        delays = [
            self.seen[token][0] - self.issued[token]
            for token in list(self.issued)[1:]
            if token in self.seen
        ]
        left = [
            self.issued[old] + self.lifetime - self.seen[old][1] for old, _ in pairwise(self.seen)
        ]
        print(
            f"{len(delays)} renewals, {self.looks} looks. If old tokens live on: {self.expired} "
            f"dead looks, the old one had at least {min(left):.0f} s left. If they end at the "
            f"refresh: dead for {', '.join(f'{delay:.0f}' for delay in delays)} s"
        )


async def main(rules, lifetime, lifetimes):
    cluster = Cluster(os.environ["KUBECONFIG"])
    with tempfile.TemporaryDirectory() as folder:
        namespace = Namespace(cluster, folder, rules)
        watch = Watch(namespace, Path(folder), lifetime)
        try:
            await watch.begin()
            await watch.look(time.time() + lifetime * lifetimes)
            watch.report()
            await watch.hub.close()
        finally:
            await stop_clients()
            clean(cluster, [namespace.name])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kubelet", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--patch", action="store_true", help="the Hub may patch Secrets and pods")
    parser.add_argument("--lifetime", type=int, default=400, metavar="SECONDS", help="of a token")
    parser.add_argument("--lifetimes", type=int, default=2, metavar="N", help="how long to look")
    options = parser.parse_args()
    logging.getLogger("asyncio").setLevel(
        logging.CRITICAL
    )  # JupyterHub leaves its HTTP sessions to the collector
    rules = PATCH_RULES if options.patch else Z2JH_RULES
    asyncio.run(main(rules, options.lifetime, options.lifetimes))
