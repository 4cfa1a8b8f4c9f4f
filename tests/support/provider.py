"""The demo's provider for tests: its requests, its tokens, and logins without a Hub."""

import asyncio
import base64
import hashlib
import json
import re
import secrets
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager, closing
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import psutil
from tornado.simple_httpclient import SimpleAsyncHTTPClient

from spawner_tokens.demo import run_provider
from spawner_tokens.demo.browser import Fields
from spawner_tokens.demo.provider import DATABASE

from .browser import Browser
from .ports import random_port


@asynccontextmanager
async def start_provider(folder, *options):
    """A :class:`Provider` with its state in ``folder``: with the same folder, it is the same one.

    ``options`` are its own: ``--token-lifetime N``, ``--reuse-protection``, ``--single-threaded``.
    Two Hubs can be its clients, each with one of its ``callbacks``.
    """
    callbacks = [f"http://127.0.0.1:{random_port()}/hub/oauth_callback" for _ in range(2)]
    running = run_provider(folder, " ".join(callbacks), *options)
    described = await asyncio.to_thread(running.__enter__)
    try:
        yield Provider(described, folder)
    finally:
        await asyncio.to_thread(running.__exit__, None, None, None)


class Client:
    """What a client can ask of a provider with these paths, by its ``url`` and credentials."""

    async def is_live(self, access_token):
        """What the provider itself says of the token (RFC 7662)."""
        return (await self.introspect(access_token))["active"]

    async def introspect(self, access_token):
        return json.loads((await self.post("/o/introspect/", token=access_token)).body)

    async def revoke(self, token):
        assert (await self.post("/o/revoke_token/", token=token)).code == 200

    async def refresh(self, refresh_token):
        """The answer, with its ``code`` and ``body``."""
        return await self.post("/o/token/", grant_type="refresh_token", refresh_token=refresh_token)

    async def post(self, path, **fields):
        """What the client gets that sends these fields, with its credentials."""
        return await request(
            self.url + path,
            form=fields,
            auth_username=self.client_id,
            auth_password=self.client_secret,
        )


class Provider(Client):
    def __init__(self, described, folder):
        self.described = described
        self.url = described.url
        self.client_id = described.client_id
        self.client_secret = described.client_secret
        self.passwords = described.passwords
        self._database = folder / DATABASE
        [uris] = self._select("SELECT redirect_uris FROM oauth2_provider_application")[0]
        self.callbacks = uris.split()

    def grants(self):
        """How often a refresh token has been exchanged for a new pair of tokens.

        Whoever exchanges the same one at the same moment gets the same pair, which counts once.
        """
        [(grants,)] = self._select(
            "SELECT count(*) - count(DISTINCT token_family) FROM oauth2_provider_refreshtoken"
        )
        return grants

    def knows_refresh_token(self, token):
        """Whether this is a refresh token with which the next tokens can be had."""
        return bool(
            self._select(
                "SELECT 1 FROM oauth2_provider_refreshtoken WHERE token = ? AND revoked IS NULL",
                token,
            )
        )

    def _select(self, query, *values):
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            return database.execute(query, values).fetchall()

    async def token_requests(self):
        """Status → number of its answers to requests for tokens, those of logins included."""
        return await self._count("POST /o/token/")

    async def userinfo_requests(self):
        return await self._count("GET /userinfo/")

    async def _count(self, request):
        process = psutil.Process(self.described.child.process.pid)
        # It writes its log after its answer, and closes the connection after that.
        while any(
            connection.status != psutil.CONN_LISTEN for connection in process.net_connections("tcp")
        ):
            await asyncio.sleep(0.01)
        return Counter(
            map(
                int,
                re.findall(
                    rf"{request} (\d+)$", self.described.child.log.read_text(), re.MULTILINE
                ),
            )
        )

    async def log_in(self, username, scope="profile read"):
        """The provider's answer to this user's authorization code (RFC 6749, section 5.1)."""
        verifier = secrets.token_urlsafe(32)
        challenge = (
            base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest())
            .rstrip(b"=")
            .decode()
        )
        callback = self.callbacks[0]
        query = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": callback,
            "scope": scope,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        reached = await self.pass_forms(
            Browser(self.url),
            f"{self.url}/o/authorize/?{urlencode(query)}",
            username,
            until=callback,
        )
        [code] = parse_qs(urlsplit(reached).query)["code"]
        answer = await self.post(
            "/o/token/",
            grant_type="authorization_code",
            code=code,
            redirect_uri=callback,
            code_verifier=verifier,
        )
        return json.loads(answer.body)

    async def pass_forms(self, browser, url, username, until):
        """Follow redirects and the forms for login and consent to an address below ``until``."""
        form = None
        for _ in range(20):
            answer = await request(url, browser, form)
            if "Location" in answer.headers:
                url, form = urljoin(url, answer.headers["Location"]), None
            else:
                assert answer.code == 200, answer.body
                form = Fields(answer.body.decode()).values
                if "password" in form:
                    form |= {"username": username, "password": self.passwords[username]}
            if url.startswith(until):
                return url
        raise AssertionError(f"{urlsplit(url).path} does not lead on")


async def request(url, browser=None, form=None, headers=None, **options):
    """One answer, which may be a redirect; to a POST of the form, if there is one."""
    if browser:
        cookies = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
        headers = {"Cookie": cookies, "Sec-Fetch-Mode": "navigate", **(headers or {})}
    client = SimpleAsyncHTTPClient(
        force_instance=True
    )  # the shared one has ten places, and they are the Hub's
    try:
        answer = await client.fetch(
            url,
            method="GET" if form is None else "POST",
            body=None if form is None else urlencode(form),
            headers=headers,
            follow_redirects=False,
            request_timeout=60,
            raise_error=False,
            **options,
        )
    finally:
        client.close()
    if browser:
        for header in answer.headers.get_list("Set-Cookie"):
            browser.cookies.update(
                (name, cookie.value) for name, cookie in SimpleCookie(header).items()
            )
    return answer
