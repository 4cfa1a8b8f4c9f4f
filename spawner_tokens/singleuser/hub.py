"""The Hub, as a server asks it for its own tokens: ``SPAWNER_TOKENS_URL``."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Mapping
from contextlib import closing
from typing import Any
from urllib.parse import SplitResult, quote, urlencode, urlsplit

LONGEST_WAIT = 60  # seconds, that the Hub grants
_PATIENCE = 10.0  # seconds for a connection, and for an answer that nothing is waited for


class HubError(Exception):
    """The Hub gave no token. ``code`` is HTTP's, ``retry_after`` in seconds; the text is its own.

    ``reason``: why a token is not given, as the Hub says it; ``is_withheld``: it has to be removed.
    """

    def __init__(self, code: int, body: Mapping[str, Any], retry_after: float = 0.0) -> None:
        super().__init__(body.get("message") or f"the Hub answered with the status {code}")
        self.code, self.reason, self.retry_after = code, str(body.get("reason", "")), retry_after

    @property
    def is_withheld(self) -> bool:
        """The server must not have the token, and not only does not get it now."""
        # A Hub that does not know this address says no reason.
        return (self.code == 404 and bool(self.reason)) or self.reason == "shared"


def is_there(env: Mapping[str, str] = os.environ) -> bool:
    """Whether this server may ask its Hub."""
    return bool(env.get("SPAWNER_TOKENS_URL") and env.get("JUPYTERHUB_API_TOKEN"))


def ask(
    name: str = "",
    *,
    known: Mapping[str, Any] | None = None,
    wait: int = 0,
    seconds: float = _PATIENCE,
) -> dict[str, Any]:
    """A token with what is known of it; without a name, what is known of each token.

    ``known`` is the last answer, if there was one: this one comes when there is another token, or
    after ``wait`` seconds. ``seconds``: how long the Hub may take beside that. Raises
    :exc:`HubError`, and :exc:`OSError` if the Hub cannot be reached.
    """
    query = {each: known.get(each) or "" for each in ("renewed_at", "version")} if known else {}
    query["wait"] = str(wait)
    headers = {"Authorization": f"token {os.environ['JUPYTERHUB_API_TOKEN']}"}
    try:
        url = urlsplit(os.environ["SPAWNER_TOKENS_URL"])
        path = "/".join([url.path, *([quote(name, safe="")] if name else [])])
        # No proxy, and no redirect: the Hub's address is that of the Hub.
        with closing(_connect(url, seconds + wait)) as connection:
            connection.request("GET", f"{path}?{urlencode(query)}", headers=headers)
            answer = connection.getresponse()
            body = json.loads(answer.read())
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"the Hub does not answer as it should: {type(error).__name__}") from None
    if answer.status == 200:
        found: dict[str, Any] = body
        return found
    given = answer.headers.get("Retry-After", "")
    raise HubError(
        answer.status,
        body if isinstance(body, dict) else {},
        float(given) if given.isdecimal() else 0.0,
    )


def _connect(url: SplitResult, seconds: float) -> http.client.HTTPConnection:
    host, port = url.hostname or "", url.port
    if url.scheme != "https":
        return http.client.HTTPConnection(host, port, timeout=seconds)
    env = os.environ.get
    context = ssl.create_default_context(cafile=env("JUPYTERHUB_SSL_CLIENT_CA") or None)
    if key := env("JUPYTERHUB_SSL_KEYFILE"):
        context.load_cert_chain(env("JUPYTERHUB_SSL_CERTFILE") or key, key)
    return http.client.HTTPSConnection(host, port, timeout=seconds, context=context)
