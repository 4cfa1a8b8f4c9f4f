"""A provider in this process that answers as a test says, with no network before it."""

import inspect
import json
import math
import time
from collections import defaultdict
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl

from oauthenticator.generic import GenericOAuthenticator
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from tornado.httpclient import HTTPClientError, HTTPResponse

from .faults import Answer
from .oauth import make_auth_state


def tokens(user, n, **more):
    """The answer with a user's tokens of number ``n``: ``alice-a2`` and ``alice-r2``."""
    answer = {
        "access_token": f"{user}-a{n}",
        "refresh_token": f"{user}-r{n}",
        "token_type": "Bearer",
    }
    return answer | {"expires_in": 3600} | more


def exchanged(user, n, **more):
    """The answer with what a user's token was exchanged for: ``alice-x2``."""
    kind = "urn:ietf:params:oauth:token-type:access_token"
    answer = {"access_token": f"{user}-x{n}", "token_type": "Bearer", "issued_token_type": kind}
    return answer | {"expires_in": 3600} | more


def login(user, left=3000, n=0, **more):
    """The auth_state of a login whose access token lives for ``left`` more seconds."""
    return make_auth_state(user, tokens(user, n, created_at=int(time.time()) + left - 3600, **more))


class Provider:
    """``grant``, ``userinfo`` and ``exchange`` get a user's name and the number of such requests.

    It counts from 1. They return an answer's JSON, or an :class:`.Answer` that is an error, and may
    be async.
    """

    def __init__(
        self, grant=tokens, userinfo=lambda user, n: {"username": user}, exchange=exchanged
    ):
        self.grant, self.userinfo, self.exchange = grant, userinfo, exchange
        self.grants = defaultdict(list)  # user → when
        self.checks = defaultdict(list)
        self.exchanges = defaultdict(list)  # user → the requests

    def settings(self, base=GenericOAuthenticator, **traits):
        """For ``start_hub``."""

        class Authenticator(base):
            async def fetch(authenticator, request, *args, **kwargs):
                if b"grant_type=urn" in (request.body or b""):
                    authenticator.http_client = self
                    return await super().fetch(request, *args, **kwargs)
                return await self._answer(request)

        urls = {
            f"{name}_url": f"http://provider/{name}" for name in ("authorize", "token", "userdata")
        }
        traits = {
            "client_id": "id",
            "client_secret": "s",
            "username_claim": "username",
            **urls,
            **traits,
        }
        return {
            "JupyterHub.authenticator_class": Authenticator,
            "TokenSpawnerMixin.tokens": {"t": {}},
            **{f"GenericOAuthenticator.{name}": value for name, value in traits.items()},
        }

    async def fetch(self, request, raise_error=True):
        """As tornado's client, where a token is to be exchanged."""
        fields = parse_qs(request.body.decode())
        [subject] = fields.get("subject_token") or fields["assertion"]
        user = subject.rsplit("-", 1)[0]
        self.exchanges[user].append(request)
        answer = self.exchange(user, len(self.exchanges[user]))
        if inspect.isawaitable(answer):
            answer = await answer
        if not isinstance(answer, Answer):
            answer = Answer(body=json.dumps(answer).encode())
        response = HTTPResponse(request, answer.code, answer.headers, BytesIO(answer.body))
        if raise_error:
            response.rethrow()
        return response

    def subjects(self, user):
        """The tokens of a user that were exchanged, in the order of the requests."""
        fields = [dict(parse_qsl(request.body.decode())) for request in self.exchanges[user]]
        return [each.get("subject_token") or each["assertion"] for each in fields]

    async def _answer(self, request):
        if request.url.endswith("/token"):
            token, asked, answer = (
                parse_qs(request.body.decode())["refresh_token"][0],
                self.grants,
                self.grant,
            )
        else:
            token, asked, answer = (
                request.headers["Authorization"].split()[1],
                self.checks,
                self.userinfo,
            )
        user = token.rsplit("-", 1)[0]
        asked[user].append(time.monotonic())
        found = answer(user, len(asked[user]))
        if inspect.isawaitable(found):
            found = await found
        if isinstance(found, Answer):
            response = HTTPResponse(request, found.code, found.headers, BytesIO(found.body))
            raise HTTPClientError(found.code, "refused", response)
        return found


def shown(user, name="", file="t"):
    """What a file of a user's server holds."""
    return Path(user.spawners[name].tokens_directory, file).read_text()


@contextmanager
def failing(target, name, times=math.inf, having=""):
    """SQLAlchemy events of this name fail, as in a database that cannot be reached; yields those.

    Only where ``having`` is in the statement.
    """
    failures = []

    def raise_error(*args):
        if len(failures) < times and (not having or having in args[2]):
            failures.append(args)
            raise OperationalError("SQL", {}, Exception("database is locked"))

    event.listen(target, name, raise_error)
    try:
        yield failures
    finally:
        event.remove(target, name, raise_error)
