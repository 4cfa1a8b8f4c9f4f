"""npm's oidc-provider, which grants exchanges of tokens (RFC 8693); nobody here wrote it."""

import asyncio
import json
import os
import secrets
import shutil
import subprocess
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path

from .oauth import hub_settings
from .ports import random_port
from .provider import Client, request
from .waiting import until

_SCRIPT = Path(__file__).with_name("oidc_provider.mjs")


@cache
def find_oidc_provider():
    """Its module in npm's global folder; ``None`` without it, or without a Node.js that runs it."""
    if not (shutil.which("npm") and shutil.which("node")):
        return None
    version, root = (
        subprocess.run(command, capture_output=True, text=True).stdout.strip()
        for command in (["node", "--version"], ["npm", "root", "--global"])
    )
    module = Path(root, "oidc-provider", "lib", "index.js")
    return module if module.exists() and int(version[1:].split(".")[0]) >= 20 else None


@asynccontextmanager
async def start_oidc_provider(module, folder, login_lifetime, exchanged_lifetime):
    """An :class:`OidcProvider` with its log in ``folder``. Lifetimes are in seconds."""
    provider, log = OidcProvider(), folder / "oidc.log"
    arguments = (module, provider.port, login_lifetime, exchanged_lifetime)
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *("node", _SCRIPT, *map(str, arguments)),
            env=os.environ | {"CLIENT_SECRET": provider.client_secret},
            stdout=output,
            stderr=output,
        )
    try:
        await until(lambda: "ready" in log.read_text() or process.returncode, 60)
        assert process.returncode is None, log.read_text()
        yield provider
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def oidc_settings(provider, url=None):
    """Settings for ``start_hub``: see :func:`.hub_settings`."""
    return hub_settings(provider, url) | {
        "GenericOAuthenticator.basic_auth": True,
        "GenericOAuthenticator.username_claim": "sub",
    }


class OidcProvider(Client):
    """With its own words for what it is asked: RFC 6749, 7009, 7662 and 8693."""

    client_id = "hub"

    def __init__(self):
        self.port = random_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.client_secret = secrets.token_urlsafe(16)
        self.callbacks = [f"http://127.0.0.1:{random_port()}/hub/oauth_callback"]

    async def log_in(self, username):
        """The provider's answer to this user's first refresh token."""
        refresh_token = (await request(f"{self.url}/log-in/{username}", form={})).body.decode()
        return json.loads((await self.refresh(refresh_token)).body)

    async def grants(self):
        """User, and what the token is for after a space → how often there was one."""
        return json.loads((await request(f"{self.url}/grants")).body)
