"""What servers on Kubernetes hold while their token is renewed, at the pace of the kubelet.

``KUBECONFIG=… python -m benchmarks.kubelet [--patch] [--lifetime 400] [--lifetimes 2]``, from the
folder above. The Hub has the rights of Zero to JupyterHub's chart; with ``--patch``, it may patch.
A user has two servers: one that only has what the kubelet shows, and one that runs the server's
extension, with ``tokens_pull``. The cluster has to reach the Hub at 127.0.0.1.

One run shows two providers. Where the old token ends by itself, no look is dead if each token is
replaced before its end. Where it ends at the refresh, it is dead until the new one is there.
"""

import argparse
import asyncio
import base64
import io
import logging
import os
import tempfile
import time
import zipfile
from itertools import pairwise
from pathlib import Path

import spawner_tokens
from spawner_tokens import TokenKubeSpawner
from tests.support.cluster import (
    PATCH_RULES,
    SERVER,
    Z2JH_RULES,
    Cluster,
    Namespace,
    clean,
    stop_clients,
)
from tests.support.hub import launch
from tests.support.pulling import PULL
from tests.support.scripted import Provider, login, tokens

NAMES = {"": "without the extension", "extension": "with the extension"}
# As in an image in which the package is installed.
EXTENSION = """
import base64, logging, sys
with open("/tmp/spawner_tokens.zip", "wb") as file:
    file.write(base64.b64decode({!r}))
sys.path.insert(0, file.name)
from spawner_tokens.singleuser.keeper import keep
keep(logging.getLogger())
"""


def make_command():
    """The command of a server that runs the extension, in any image that has a Python."""
    root, archive = Path(spawner_tokens.__file__).parent, io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in [root / "__init__.py", root / "_version.py", *root.glob("singleuser/*.py")]:
            file.write(path, path.relative_to(root.parent))
    begin = EXTENSION.format(base64.b64encode(archive.getvalue()).decode())
    return [*SERVER[:-1], begin + SERVER[-1]]


def choose_command(spawner):
    if spawner.name:
        spawner.cmd = make_command()


class Watch:
    """A server whose file is looked at ten times a second."""

    def __init__(self, server, issued, lifetime):
        self.server, self.issued, self.lifetime = server, issued, lifetime
        self.seen = {}  # token → when it was first and last in the file
        self.looks = self.expired = self.replaced = 0

    async def look(self, until):
        while time.time() < until:
            token, now = (await self.server.files())["t"].decode(), time.time()
            first, _ = self.seen.get(token, (now, now))
            self.seen[token] = first, now
            self.looks += 1
            self.expired += now > self.issued[token] + self.lifetime
            self.replaced += token != [*self.issued][-1]
            await asyncio.sleep(0.1)

    def report(self):
        delays = [
            self.seen[token][0] - self.issued[token]
            for token in list(self.issued)[1:]
            if token in self.seen
        ]
        left = [
            self.issued[old] + self.lifetime - self.seen[old][1] for old, _ in pairwise(self.seen)
        ]
        return (
            f"{len(delays)} renewals, {self.looks} looks. If old tokens live on: {self.expired} "
            f"dead looks, the old one had at least {min(left):.0f} s left. If they end at the "
            f"refresh: {self.replaced / self.looks:.2%} of the looks are dead, for "
            f"{', '.join(f'{delay:.1f}' for delay in delays)} s"
        )


async def watch(namespace, folder, lifetime, seconds):
    """Start the Hub and both servers, look at them, and print what was seen."""
    issued = {}  # token → when

    def grant(user, number):
        answer = tokens(user, number, expires_in=lifetime)
        issued[answer["access_token"]] = time.time()
        return answer

    settings = {**Provider(grant=grant).settings(), **namespace.settings(), **PULL}
    settings |= {"JupyterHub.log_level": logging.ERROR, "Spawner.pre_spawn_hook": choose_command}
    hub = await launch(folder, folder, b"k" * 32, TokenKubeSpawner, settings)
    user = await hub.user("alice")
    hub.spawner(user)  # from our first Spawner on, what is saved gets its time
    first = login("alice", left=3600, expires_in=lifetime)  # just issued
    issued[first["access_token"]] = time.time()
    await user.save_auth_state(first)
    watches = [Watch(await hub.spawn(user, name), issued, lifetime) for name in NAMES]
    await asyncio.gather(*(each.look(time.time() + seconds) for each in watches))
    for name, each in zip(NAMES.values(), watches, strict=True):
        print(f"{name}: {each.report()}")
    await hub.close()


async def main(rules, lifetime, lifetimes):
    cluster = Cluster(os.environ["KUBECONFIG"])
    with tempfile.TemporaryDirectory() as folder:
        namespace = Namespace(cluster, folder, rules)
        try:
            await watch(namespace, Path(folder), lifetime, lifetime * lifetimes)
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
