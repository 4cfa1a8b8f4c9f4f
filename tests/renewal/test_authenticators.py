"""The renewal by OAuthenticator's own classes, each at a provider of its kind, and by others."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

import jwt
import pytest
from jupyterhub.auth import Authenticator
from oauthenticator.azuread import AzureAdOAuthenticator
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.github import GitHubOAuthenticator
from oauthenticator.gitlab import GitLabOAuthenticator
from oauthenticator.globus import GlobusOAuthenticator
from oauthenticator.google import GoogleOAuthenticator
from pytest import param
from tornado.httpserver import HTTPServer
from tornado.httputil import url_concat
from tornado.testing import bind_unused_port
from tornado.web import Application, RequestHandler

from spawner_tokens import TokenSimpleLocalProcessSpawner

from ..support.browser import Browser
from ..support.hub import Server
from ..support.oauth import NoProxy, start_by_cookie, start_by_token, wait_for_server
from ..support.ports import random_port
from ..support.waiting import until

pytestmark = pytest.mark.timeout(30)

CLIENT = {"client_id": "the-client", "client_secret": "the-client-secret-of-32-characters"}


@dataclass(frozen=True)
class Kind:
    """A provider as its documentation has it, and the class for it.

    ``shape(answer, provider, is_login)`` makes its own answer of RFC 6749's, ``ends`` is what a
    refresh ends,
    ``refusals`` are its status and error for a spent refresh token and for a wrong client.
    """

    authenticator: type
    token: str  # path
    user: dict
    settings: Callable  # of its base URL
    shape: Callable
    preset: dict
    userinfo: str = "/unused"  # path
    ends: tuple = ("refresh_token",)
    refusals: tuple = ((400, "invalid_grant"), (401, "invalid_client"))


def without(answer, *names):
    return {name: value for name, value in answer.items() if name not in names}


def with_id_token(answer, provider, is_login):
    return answer | {"id_token": provider.make_id_token()}


def as_gitlab(answer, provider, is_login):
    return answer | {"created_at": int(time.time())}


def as_google(answer, provider, is_login):
    answer = with_id_token(answer, provider, is_login)
    return answer if is_login else without(answer, "refresh_token")


def as_azure(answer, provider, is_login):
    return with_id_token(answer, provider, is_login) | {
        "expires_in": str(answer["expires_in"]),
        "resource": "r",
    }


def as_globus(answer, provider, is_login):
    transfer = answer | {
        "access_token": "the-transfer-token",
        "resource_server": "transfer.api.globus.org",
    }
    login = without(answer, "refresh_token") | {"resource_server": "auth.globus.org"}
    return login | {"other_tokens": [without(transfer, "refresh_token")]}


GENERIC = Kind(
    GenericOAuthenticator,
    token="/token",
    userinfo="/userinfo",
    user={"preferred_username": "alice", "groups": ["staff"]},
    settings=lambda url: {
        "token_url": f"{url}/token",
        "userdata_url": f"{url}/userinfo",
        "username_claim": "preferred_username",
    },
    shape=with_id_token,
    preset={"preset": "oidc"},
)
GITLAB = Kind(
    GitLabOAuthenticator,
    token="/oauth/token",
    userinfo="/api/v4/user",
    user={"username": "alice", "id": 2},
    settings=lambda url: {"gitlab_url": url},
    shape=as_gitlab,
    ends=("refresh_token", "access_token"),
    preset={"preset": "gitlab"},
)
GOOGLE = Kind(
    GoogleOAuthenticator,
    token="/oauth2/v4/token",
    userinfo="/oauth2/v1/userinfo",
    user={"email": "alice@example.org", "verified_email": True, "hd": "example.org"},
    settings=lambda url: {"google_api_url": url, "hosted_domain": ["example.org"]},
    shape=as_google,
    ends=(),
    preset={"preset": "google"},
)
AZURE = Kind(
    AzureAdOAuthenticator,
    token="/the-tenant/oauth2/token",
    user={"name": "alice", "oid": "0", "tid": "the-tenant"},
    settings=lambda url: {"tenant_id": "the-tenant", "token_url": f"{url}/the-tenant/oauth2/token"},
    shape=as_azure,
    ends=(),
    preset={"preset": "azuread"},
)
GITHUB = Kind(
    GitHubOAuthenticator,
    token="/login/oauth/access_token",
    userinfo="/api/v3/user",
    user={"login": "alice", "id": 1, "email": None},
    settings=lambda url: {"github_url": url},
    shape=lambda answer, provider, is_login: without(answer, "refresh_token", "expires_in"),
    preset={"preset": "github"},
)
GITHUB_APP = replace(
    GITHUB,
    shape=lambda answer, provider, is_login: (
        answer | {"scope": "", "refresh_token_expires_in": 15_897_600}
    ),
    ends=("refresh_token", "access_token"),
    refusals=((200, "bad_refresh_token"), (200, "incorrect_client_credentials")),
)
GLOBUS = Kind(
    GlobusOAuthenticator,
    token="/v2/oauth2/token",
    userinfo="/v2/oauth2/userinfo",
    user={"preferred_username": "alice@globusid.org"},
    settings=lambda url: {
        "token_url": f"{url}/v2/oauth2/token",
        "userdata_url": f"{url}/v2/oauth2/userinfo",
    },
    shape=as_globus,
    preset={"preset": "globus"},
)

RENEWING = [
    param(GENERIC, id="generic"),
    param(GITLAB, id="gitlab"),
    param(GOOGLE, id="google"),
    param(AZURE, id="azuread"),
    param(GITHUB_APP, id="github-app"),
]


class Provider:
    """A provider with one user, who is logged in. What is set here is for its next answers."""

    def __init__(self, kind, lifetime):
        self.kind = kind
        self.lifetime = lifetime
        self.user = dict(kind.user)
        self.shape = kind.shape
        self.refreshes = []  # the error of each answer, or None
        self.refresh_tokens = {}  # those that can be used → the access token that came with it
        self.issued = []  # tokens of both kinds
        self._ends = {}  # access token → when it ends
        socket, port = bind_unused_port(address="127.0.0.1")
        self.url = f"http://127.0.0.1:{port}"
        routes = [("/authorize", _Authorize), (kind.token, _Token), (kind.userinfo, _UserInfo)]
        self._server = HTTPServer(
            Application([(path, handler, {"provider": self}) for path, handler in routes])
        )
        self._server.add_socket(socket)

    async def close(self):
        self._server.stop()
        await self._server.close_all_connections()

    def end_access_tokens(self):
        self._ends.clear()

    def is_live(self, access_token):
        return self._ends.get(access_token, 0) > time.time()

    def make_id_token(self):
        claims = {"aud": CLIENT["client_id"], "exp": int(time.time() + self.lifetime)}
        return jwt.encode(claims | self.user, CLIENT["client_secret"])

    def issue(self, is_login):
        token, refresh_token = secrets.token_hex(16), secrets.token_hex(16)
        answer = {
            "access_token": token,
            "token_type": "Bearer",
            "expires_in": self.lifetime,
            "scope": "openid email",
        }
        answer = self.shape(answer | {"refresh_token": refresh_token}, self, is_login)
        self.issued += [token, refresh_token]
        self._ends[token] = time.time() + self.lifetime
        if "refresh_token" in answer:
            self.refresh_tokens[refresh_token] = token
        return answer

    def refresh(self, spent, client_secret):
        """Status and answer."""
        rejected, wrong_client = self.kind.refusals
        if client_secret != CLIENT["client_secret"]:
            return self._refuse(*wrong_client)
        if spent not in self.refresh_tokens:
            return self._refuse(*rejected)
        if "access_token" in self.kind.ends:
            self._ends.pop(self.refresh_tokens[spent], None)
        if "refresh_token" in self.kind.ends:
            del self.refresh_tokens[spent]
        self.refreshes.append(None)
        return 200, self.issue(is_login=False)

    def _refuse(self, status, error):
        self.refreshes.append(error)
        return status, {"error": error, "error_description": "in words"}


class _Endpoint(RequestHandler):
    def initialize(self, provider):
        self.provider = provider


class _Authorize(_Endpoint):
    def get(self):
        answer = {"code": "the-code", "state": self.get_query_argument("state")}
        self.redirect(url_concat(self.get_query_argument("redirect_uri"), answer))


class _Token(_Endpoint):
    def post(self):
        if self.get_body_argument("grant_type") == "authorization_code":
            self.finish(self.provider.issue(is_login=True))
        else:
            field = self.get_body_argument
            status, answer = self.provider.refresh(field("refresh_token"), field("client_secret"))
            self.set_status(status)
            self.finish(answer)


class _UserInfo(_Endpoint):
    def get(self):
        scheme, _, token = self.request.headers["Authorization"].partition(" ")
        if scheme == "Bearer" and self.provider.is_live(token):
            self.finish(self.provider.user)
        else:
            self.set_status(401)


@pytest.fixture
async def log_in(start_hub, caplog):
    """``hub, provider, alice, browser = await log_in(kind, …)``: through the provider."""
    providers = []

    async def log_in(kind, settings=None, *, tokens=None, lifetime=600):
        provider = Provider(kind, lifetime)
        providers.append(provider)
        port = random_port()
        own = {
            **CLIENT,
            "oauth_callback_url": f"http://127.0.0.1:{port}/hub/oauth_callback",
            "authorize_url": f"{provider.url}/authorize",
            **kind.settings(provider.url),
            **(settings or {}),
        }
        hub = await start_hub(
            TokenSimpleLocalProcessSpawner,
            {
                "JupyterHub.hub_port": port,
                "JupyterHub.proxy_class": NoProxy,
                "JupyterHub.authenticator_class": kind.authenticator,
                "TokenSpawnerMixin.tokens": tokens or {"t": kind.preset},
                **{f"{kind.authenticator.__name__}.{name}": value for name, value in own.items()},
            },
        )
        hub.spawner(
            await hub.user("somebody")
        )  # the Hub's first Spawner: from now on, renewals are ours
        browser = Browser(hub.url)
        await browser.fetch("/hub/oauth_login?next=/hub/home")
        assert await is_logged_in(browser)
        return hub, provider, await hub.user("alice"), browser

    yield log_in
    for provider in providers:
        await provider.close()
        log = "\n".join(record.getMessage() for record in caplog.get_records("call"))
        assert "User logged in: alice" in log
        assert not [token for token in provider.issued if token in log]


async def is_logged_in(browser):
    return (await browser.fetch("/hub/home")).effective_url == f"{browser.url}/hub/home"


async def see(server, name="t"):
    """A token as the server has it, and what its ``.json`` says."""
    files = await server.files()
    return files[name].decode(), json.loads(files[f"{name}.json"])


async def see_change(server, token, before=None, is_live=bool):
    """Both files are new: each is written in one piece, but one after the other."""

    async def changed():
        now, status = await see(server)
        return now != token and status != before and is_live(now) and (now, status)

    return await until(changed)


async def see_status(server, status):
    async def is_said():
        return (await see(server))[1]["status"] == status

    await until(is_said)


async def access_token(user):
    return (await user.get_auth_state())["access_token"]


async def outlive(provider, user):
    """What the user's auth_state was, a login whose access token has ended meanwhile."""
    auth_state = await user.get_auth_state()
    auth_state["token_response"]["created_at"] -= provider.lifetime
    await user.save_auth_state(auth_state)
    provider.end_access_tokens()
    make_due(user)
    return auth_state


def make_due(user):
    """The Hub's next request refreshes, as it does when ``auth_refresh_age`` has passed."""
    user._auth_refreshed = None


# -- OAuthenticator's classes ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", RENEWING)
async def test_the_hubs_own_refreshes_and_a_spawn_renew_a_stale_token_by_one_request(log_in, kind):
    hub, provider, alice, browser = await log_in(kind)
    first = await outlive(provider, alice)
    assert await is_logged_in(browser)
    assert provider.refreshes == [None]
    verdict = await hub.app.authenticator.refresh_user(alice)
    assert verdict is True or "auth_state" not in verdict
    assert (await start_by_cookie(hub, browser, "alice"))[0] == 302
    assert await wait_for_server(hub, "alice")
    token, status = await see(Server(alice.spawners[""]))
    assert provider.is_live(token) and status["status"] == "ok"
    assert provider.refreshes == [None]
    auth_state = await alice.get_auth_state()
    assert auth_state["access_token"] == token
    assert auth_state["refresh_token"] in provider.refresh_tokens
    assert (auth_state["refresh_token"] == first["refresh_token"]) == (kind is GOOGLE)


@pytest.mark.parametrize("kind", [param(GITLAB, id="gitlab"), param(GOOGLE, id="google")])
async def test_a_running_server_gets_each_new_token_in_time_without_a_browser(log_in, kind):
    hub, provider, alice, _ = await log_in(kind, lifetime=2)
    server = await hub.spawn(alice)
    token, status = await see(server)
    for _ in range(2):
        before = status
        token, status = await see_change(server, token, before, provider.is_live)
        assert before["expires_at"] < status["expires_at"]

    async def is_stored():
        return (await see(server))[0] == await access_token(alice)

    await until(is_stored)
    assert set(provider.refreshes) == {None}


@pytest.mark.parametrize(
    "kind, ends", [param(GLOBUS, True, id="globus"), param(GITHUB, False, id="github")]
)
async def test_a_token_that_nothing_renews_is_delivered_with_its_end_and_the_log_says_so_once(
    log_in, caplog, kind, ends
):
    hub, provider, alice, browser = await log_in(kind)
    assert (await start_by_cookie(hub, browser, "alice"))[0] == 302
    assert await wait_for_server(hub, "alice")
    auth_state = await alice.get_auth_state()
    token, status = await see(Server(alice.spawners[""]))
    assert token == (auth_state.get("access_token") or "the-transfer-token")
    assert status["status"] == "ok"
    if ends:
        end = datetime.strptime(status["expires_at"], "%Y-%m-%dT%H:%M:%S%z").timestamp()
        assert 500 < end - time.time() < 601
    else:
        assert status["expires_at"] is None
    await alice.save_auth_state(auth_state | {"seen": "again"})
    await hub.spawn(alice, "another")
    assert caplog.text.count("Nothing renews these tokens of alice, which have an end: t") == ends
    assert provider.refreshes == []


async def test_a_user_of_mediawiki_can_start_a_server(start_hub, caplog):
    pytest.importorskip("mwoauth")
    from mwoauth import AccessToken
    from oauthenticator.mediawiki import MWOAuthenticator

    settings = {
        "JupyterHub.authenticator_class": MWOAuthenticator,
        "JupyterHub.proxy_class": NoProxy,
        "TokenSpawnerMixin.tokens": {"t": {"preset": "mediawiki"}},
    }
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    hub.spawner(await hub.user("somebody"))
    authenticator = hub.app.authenticator
    answer = {"access_token": AccessToken("the-key", "the-secret")}
    alice = await hub.user(
        "alice", authenticator.build_auth_state_dict(answer, {"username": "alice"})
    )
    with pytest.raises(TypeError):
        await MWOAuthenticator.refresh_user(authenticator, alice)
    assert authenticator.refresh_pre_spawn
    assert await start_by_token(hub, alice.new_api_token(), "alice") in [(201, None), (202, None)]
    assert await wait_for_server(hub, "alice")
    token, status = await see(Server(alice.spawners[""]))
    assert (token, status["expires_at"], status["status"]) == ("the-secret", None, "ok")
    assert "Nothing renews" not in caplog.text


# -- the answers -----------------------------------------------------------------------------------


async def test_what_an_answer_leaves_out_stays_as_it_was(log_in):
    hub, provider, alice, _ = await log_in(GOOGLE)
    before = await outlive(provider, alice)
    provider.shape = lambda answer, *_: without(answer, "token_type", "scope", "refresh_token")
    assert await hub.app.authenticator.refresh_user(alice)
    after = await alice.get_auth_state()
    assert provider.is_live(after["access_token"])
    names = ("scope", "refresh_token", "id_token")
    assert [after[name] for name in names] == [before[name] for name in names]
    assert after["token_response"]["token_type"] == "Bearer"
    assert provider.refreshes == [None]


@pytest.mark.parametrize("kind", [param(AZURE, id="azuread"), param(GITHUB_APP, id="github-app")])
async def test_a_rejected_refresh_token_ends_the_login_which_is_said_once(log_in, caplog, kind):
    hub, provider, alice, browser = await log_in(kind)
    server = await hub.spawn(alice)
    provider.refresh_tokens.clear()
    await outlive(provider, alice)
    await see_status(server, "login_ended")
    assert provider.refreshes == [kind.refusals[0][1]]
    assert await hub.app.authenticator.refresh_user(alice) is False
    assert not await is_logged_in(browser)
    assert caplog.text.count("Could not renew the tokens of alice") == 1
    assert f"({kind.refusals[0][1]}): the user has to log in again" in caplog.text


async def test_a_wrong_client_secret_is_the_admins_matter_and_the_user_stays_logged_in(
    log_in, caplog
):
    hub, provider, alice, browser = await log_in(GENERIC)
    server = await hub.spawn(alice)
    hub.app.authenticator.client_secret = "another"
    await outlive(provider, alice)
    await until(lambda: provider.refreshes == ["invalid_client"] * 2)
    await see_status(server, "expired")
    assert await hub.app.authenticator.refresh_user(alice)
    assert await is_logged_in(browser)
    [record] = [
        record
        for record in caplog.records
        if "Could not renew the tokens of alice" in record.getMessage()
    ]
    assert record.levelno == logging.ERROR
    assert "(invalid_client): keeping the current tokens; an admin has" in record.getMessage()


@pytest.mark.parametrize("brings_id_token", [True, False])
async def test_with_the_user_in_the_id_token_the_login_stays_whether_or_not_there_is_a_new_one(
    log_in, brings_id_token
):
    settings = {"userdata_from_id_token": True, "userdata_url": ""}
    hub, provider, alice, browser = await log_in(GENERIC, settings, lifetime=3)
    dead = await access_token(alice)
    await until(lambda: not provider.is_live(dead))
    make_due(alice)
    provider.lifetime = 600
    provider.user["groups"] = ["changed"]
    if not brings_id_token:
        provider.shape = lambda answer, *_: answer
    assert await is_logged_in(browser)
    for _ in range(2):
        assert await hub.app.authenticator.refresh_user(alice)
    auth_state = await alice.get_auth_state()
    assert provider.is_live(auth_state["access_token"]) and provider.refreshes == [None]
    assert auth_state["oauth_user"]["groups"] == (["changed"] if brings_id_token else ["staff"])


# -- the admin's hooks -----------------------------------------------------------------------------


async def test_what_modify_auth_state_hook_derives_is_renewed_with_the_token(log_in):
    def derive(authenticator, auth_state):
        return auth_state | {"derived": f"from {auth_state['access_token']}"}

    tokens = {"t": {}, "d": {"key": "derived"}}
    hub, provider, alice, _ = await log_in(
        GENERIC, {"modify_auth_state_hook": derive}, tokens=tokens, lifetime=2
    )
    server = await hub.spawn(alice)
    first, _ = await see(server)

    async def has_derived():
        files = {name: text.decode() for name, text in (await server.files()).items()}
        is_new = files["t"] != first and provider.is_live(files["t"])
        return is_new and files["d"] == f"from {files['t']}"

    await until(has_derived)


async def test_a_refresh_by_the_hub_applies_groups_and_leaves_the_newest_token(log_in):
    settings = {"manage_groups": True, "auth_state_groups_key": "oauth_user.groups"}
    _, provider, alice, browser = await log_in(GENERIC, settings)
    assert [group.name for group in alice.groups] == ["staff"]
    await outlive(provider, alice)
    provider.user["groups"] = ["staff", "physics"]
    assert await is_logged_in(browser)
    assert sorted(group.name for group in alice.groups) == ["physics", "staff"]
    auth_state = await alice.get_auth_state()
    assert provider.is_live(auth_state["access_token"]) and provider.refreshes == [None]
    assert auth_state["oauth_user"]["groups"] == ["staff", "physics"]


async def test_false_from_refresh_user_hook_ends_the_login_to_the_hub_and_not_the_providers(log_in):
    hub, provider, alice, browser = await log_in(GENERIC, {"refresh_user_hook": lambda *_: False})
    server = await hub.spawn(alice)
    first, _ = await see(server)
    assert await hub.app.authenticator.refresh_user(alice) is False
    token, status = await see_change(server, first)
    assert provider.is_live(token) and status["status"] == "ok"
    make_due(alice)
    assert not await is_logged_in(browser)
    assert provider.refreshes == [None]


# -- other authenticators --------------------------------------------------------------------------


async def test_a_static_token_of_an_authenticator_that_never_renews_is_delivered_with_its_end(
    start_hub, caplog
):
    hub = await start_hub(TokenSimpleLocalProcessSpawner, {"TokenSpawnerMixin.tokens": {"t": {}}})
    auth_state = {"access_token": "the-token", "expires_at": time.time() + 600}
    alice = await hub.user("alice", auth_state)
    server = await hub.spawn(alice)
    token, status = await see(server)
    assert (token, status["status"]) == ("the-token", "ok")
    assert status["expires_at"] == time.strftime(
        "%Y-%m-%dT%H:%M:%SZ", time.gmtime(auth_state["expires_at"])
    )
    assert await hub.app.authenticator.refresh_user(alice) is True
    assert caplog.text.count("Nothing renews these tokens of alice, which have an end: t") == 1


class Vault(Authenticator):
    """Has tokens of its own kind, and a way of its own to renew them."""

    lifetime = 600
    serial = refreshes = 0
    found = None  # in place of a model: what refresh_user returns or raises

    def make(self):
        self.serial += 1
        lease = {"access_token": f"the-token-{self.serial}", "expires_in": self.lifetime}
        return {"vault": lease, "renewable": f"secret-{self.serial}"}

    async def authenticate(self, handler, data):
        return {"name": data["username"], "auth_state": self.make()}

    async def refresh_user(self, user, handler=None):
        self.refreshes += 1
        await asyncio.sleep(0)
        if isinstance(self.found, Exception):
            raise self.found
        return {"name": user.name, "auth_state": self.make()} if self.found is None else self.found


@pytest.fixture
async def vault(start_hub):
    hub = await start_hub(
        TokenSimpleLocalProcessSpawner,
        {
            "JupyterHub.authenticator_class": Vault,
            "JupyterHub.proxy_class": NoProxy,
            "TokenSpawnerMixin.tokens": {"t": {"key": "vault.access_token"}},
        },
    )
    hub.spawner(await hub.user("somebody"))
    return hub


async def test_a_running_server_gets_each_new_token_of_an_authenticator_with_its_own_ways(vault):
    vault.app.authenticator.lifetime, began = 2, time.monotonic()
    alice = await vault.user("alice")
    await vault.browser(alice)
    server = await vault.spawn(alice)
    token, _ = await see(server)
    for _ in range(2):
        token, status = await see_change(server, token)
        assert status["status"] == "ok" and status["expires_at"] is not None
    assert vault.app.authenticator.serial < 4 + time.monotonic() - began


async def test_concurrent_refreshes_ask_once_and_its_auth_state_is_stored_before_they_return(vault):
    alice = await vault.user("alice")
    await vault.browser(alice)
    authenticator = vault.app.authenticator

    async def refresh():
        return await authenticator.refresh_user(alice), await alice.get_auth_state()

    for verdict, auth_state in await asyncio.gather(*(refresh() for _ in range(20))):
        assert verdict is True or "auth_state" not in verdict
        assert (
            auth_state["vault"]["access_token"] == "the-token-2"
            and auth_state["renewable"] == "secret-2"
        )
    assert authenticator.refreshes == 1


async def test_a_refused_connection_logs_nobody_out_and_false_ends_the_login(vault):
    alice = await vault.user("alice")
    browser = await vault.browser(alice)
    server = await vault.spawn(alice)
    vault.app.authenticator.found = ConnectionRefusedError()
    assert await vault.app.authenticator.refresh_user(alice) is True
    make_due(alice)
    refreshes = vault.app.authenticator.refreshes
    assert await is_logged_in(browser)
    assert vault.app.authenticator.refreshes > refreshes
    assert (await see(server))[1]["status"] == "ok"
    vault.app.authenticator.found = False
    assert await vault.app.authenticator.refresh_user(alice) is False
    await see_status(server, "login_ended")
    make_due(alice)
    assert not await is_logged_in(browser)
