"""Requests of our own by an authenticator's HTTP, TLS and client: part of the adapter.

Of OAuthenticator these are used here: ``httpfetch``, ``build_token_info_request_headers``, and the
traits ``http_client``, ``http_request_kwargs``, ``validate_server_cert``, ``client_id``,
``client_secret`` and ``basic_auth``.
"""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import urlencode

from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from ..tokens.exchange import Exchange

# Places of the HTTP client, which logins need, too; that of the Hub has 10.
_REQUESTS_AT_ONCE = 400
# Seconds for an exchange's request: an answer that comes too late is no loss.
EXCHANGE_TIMEOUT = 10.0
# Bytes of its answer: to read more would keep the event loop.
_LARGEST = 2**18


class AnswerTooLarge(OSError):
    """An answer that is no token's."""


def use_own_client(authenticator: Any) -> None:
    """Have places enough, and leave the Hub's HTTP client to the Hub while a provider hangs."""
    client, hubs = getattr(authenticator, "http_client", None), AsyncHTTPClient()
    if client is not hubs and isinstance(client, SimpleAsyncHTTPClient):
        client.max_clients = max(client.max_clients, _REQUESTS_AT_ONCE)
    elif type(client) is type(hubs) and getattr(client, "max_clients", 0) < _REQUESTS_AT_ONCE:
        # Also GenericOAuthenticator's own one, where JupyterHub prefers curl: it cannot be widened.
        options = {"max_clients": _REQUESTS_AT_ONCE, "defaults": client.defaults}
        authenticator.http_client = own = AsyncHTTPClient(force_instance=True, **options)
        vars(own)["max_clients"] = _REQUESTS_AT_ONCE  # curl's does not say it


async def request_exchange(
    authenticator: Any, url: str, exchange: Exchange, subject_token: str
) -> Any:
    """The JSON of the provider's answer, whatever it is. Raises what the request raises.

    The client authenticates as at OAuthenticator's own requests.
    """
    use_own_client(authenticator)
    client = authenticator if exchange.client_id is None else exchange
    params = exchange.make_params(subject_token)
    headers = authenticator.build_token_info_request_headers()
    if client is exchange:
        headers.pop("Authorization", None)
    if authenticator.basic_auth and client.client_secret:
        pair = f"{client.client_id}:{client.client_secret}".encode()
        headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    else:
        fields = ("client_id", "client_secret")
        params += [(name, getattr(client, name)) for name in fields if getattr(client, name)]
    options = authenticator.http_request_kwargs
    response = await authenticator.httpfetch(
        url,
        method="POST",
        headers=headers,
        body=urlencode(params).encode(),
        validate_cert=authenticator.validate_server_cert,
        request_timeout=options.get("request_timeout", EXCHANGE_TIMEOUT),
        follow_redirects=False,  # they would carry the token elsewhere
        # OAuthenticator would log the text of an error, which may have the token in it.
        **{"raise_error": False, "parse_json": False},
    )
    if not isinstance(response, HTTPResponse):  # of a class with a fetch() of its own
        return response
    if len(response.body) > _LARGEST:
        raise AnswerTooLarge
    response.rethrow()
    return json.loads(response.body.decode("utf8", "replace"))
