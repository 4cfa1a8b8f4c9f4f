"""A provider in simulated time that rotates refresh tokens, and detects their reuse."""

import asyncio
import io
import json
import random
from collections import Counter
from urllib.parse import parse_qs

from tornado.httpclient import HTTPClientError, HTTPResponse


class Login:
    """The tokens of one login of a user."""

    def __init__(self, user):
        self.user, self.refresh_token, self.access_token = user, None, None
        self.ended = self.lost = False  # by the provider; by the network


class Rotating:
    """OAuthenticator's HTTP client, whose requests this answers as RFC 6749 has it."""

    def __init__(self, world):
        self._world = world
        self._number = 0
        self._logins = {}  # by refresh tokens, also the spent ones
        self.logins = {}  # user → the last one
        self.ends = {}  # access token → when it ends, by the provider's clock
        self.asking = Counter()  # user → grants on their way

    def log_in(self, user):
        login = self.logins[user] = Login(user)
        return self._issue(login)

    def revoke(self, user):
        if (login := self.logins.get(user)) is not None:
            self._end(login)

    def is_live(self, token):
        return self._world.clocks.provider() < self.ends[token]

    def _end(self, login):
        login.ended = True
        self._kill(login.access_token)

    def _kill(self, token):
        self.ends[token] = min(self.ends[token], self._world.clocks.provider())

    def _issue(self, login):
        self._number += 1
        life = self._world.setting.life
        login.access_token = f"secret-{login.user}-{self._number}"
        login.refresh_token = f"secret-refresh-{login.user}-{self._number}"
        self._logins[login.refresh_token] = login
        self.ends[login.access_token] = self._world.clocks.provider() + life
        return {
            **{"access_token": login.access_token, "refresh_token": login.refresh_token},
            **{"token_type": "Bearer", "scope": "read", "expires_in": life},
        }

    async def fetch(self, request, **kwargs):
        await asyncio.sleep(random.uniform(0.05, 0.2))
        world, login = self._world, None
        if request.url.endswith("/token"):
            login = self._logins[parse_qs(request.body.decode())["refresh_token"][0]]
            world.promises.see_request(login.user)
        failure = 599 if world.has("hang", "all") else 503
        if failure == 599:
            await asyncio.sleep(request.request_timeout or 20)
        if failure == 599 or world.has("down", "all"):
            if login is not None:
                world.promises.see_failure(login.user)
            raise HTTPClientError(failure)
        if login is not None:
            return await self._grant(request, login)
        token = request.headers["Authorization"].split()[1]
        if not self.is_live(token):
            raise HTTPClientError(401)
        return self._answer(request, 200, {"username": token.split("-")[1]})

    async def _grant(self, request, login):
        spent = parse_qs(request.body.decode())["refresh_token"][0]
        if spent != login.refresh_token and not login.ended:
            if not login.lost:
                self._world.promises.find(3, login.user, "a spent refresh token was sent again")
            self._end(login)
        if login.ended:
            body = {"error": "invalid_grant"}
            raise HTTPClientError(400, response=self._answer(request, 400, body))
        self.asking[login.user] += 1
        if self.asking[login.user] > 1:
            self._world.promises.find(3, login.user, "two grants at once")
        try:
            if self._world.setting.kills:
                self._kill(login.access_token)
            answer = self._issue(login)
            self._world.promises.see_grant(login.user)
            if self._world.has("lost", "all"):
                login.lost = True
                await asyncio.sleep(request.request_timeout or 20)
                raise HTTPClientError(599)
            await asyncio.sleep(random.uniform(0.05, 0.2))
        finally:
            self.asking[login.user] -= 1
        return self._answer(request, 200, answer)

    def _answer(self, request, code, body):
        return HTTPResponse(request, code, buffer=io.BytesIO(json.dumps(body).encode()))
