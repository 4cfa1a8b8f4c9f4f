"""Asking the Hub as a server does."""

import json
from contextlib import asynccontextmanager
from types import SimpleNamespace
from urllib.parse import quote

from tornado.httpclient import AsyncHTTPClient

PULL = {"TokenSpawnerMixin.tokens_pull": True}
# What Python runs in a server to print the answer for the token whose name is its argument.
ASK = """
import os, sys, urllib.request as u
headers = {"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]}
url = os.environ["SPAWNER_TOKENS_URL"] + "/" + sys.argv[1]
print(u.urlopen(u.Request(url, headers=headers)).read().decode())
"""


async def ask(hub, token, name="", /, *, headers=None, method="GET", **query):
    """Ask for a token by its name, or for the list of them. The ``code``, ``body``, ``headers``."""
    words = "&".join(f"{key}={quote(str(value))}" for key, value in query.items())
    path = f"spawner-tokens/{name}" if name else "spawner-tokens"
    given = {"Authorization": f"token {token}"} if token else {}
    answer = await AsyncHTTPClient().fetch(
        f"{hub.api}/{path}?{words}",
        raise_error=False,
        request_timeout=70,
        method=method,
        headers={**given, **(headers or {})},
    )
    is_json = answer.headers.get("Content-Type", "").startswith("application/json")
    body = json.loads(answer.body) if is_json else answer.body.decode()
    return SimpleNamespace(code=answer.code, body=body, headers=answer.headers)


@asynccontextmanager
async def restarted(start_hub, user, spawner_class, settings):
    """Another Hub with the same database, which finds the user's server running."""
    spawner = user.spawners[""]
    spawner.stop_polling()  # the Hub that started it is no more
    try:
        yield await start_hub(spawner_class, settings)
    finally:
        await user.stop("")  # its process is a child of ours, and that Hub waits for it
