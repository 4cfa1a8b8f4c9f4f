"""Whose word counts: the provider's, the authenticator's, and which login is the last."""

import asyncio
import copy
import json
import logging
import time
from itertools import pairwise

import pytest
from jupyterhub.auth import DummyAuthenticator
from oauthenticator.generic import GenericOAuthenticator
from pytest import param
from tornado.httpclient import HTTPRequest

from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.tokens.lifetime import jwt_claims

from ..support.browser import Browser
from ..support.faults import Answer
from ..support.oauth import NoProxy
from ..support.ports import random_port
from ..support.scripted import Provider, login, shown, tokens
from ..support.waiting import until
from ..tokens.test_selection import jwt
from .test_authenticators import CLIENT, GENERIC, outlive
from .test_authenticators import Provider as OwnProvider

SIMPLE = TokenSimpleLocalProcessSpawner
UNAVAILABLE = Answer(503, b"{}")


def status(user):
    return json.loads(shown(user, file="t.json"))["status"]


async def begin(start_hub, provider, base=GenericOAuthenticator, *, auth_state=None, **traits):
    """A Hub with a server of alice, and what its ``refresh_user`` returns for her."""
    hub = await start_hub(SIMPLE, provider.settings(base, **traits))
    alice = await hub.user("alice", auth_state or login("alice"))
    await hub.spawn(alice)
    return hub, alice, lambda: hub.app.authenticator.refresh_user(alice)


async def age(user, left=-10):
    """The token of a user lives for ``left`` more seconds."""
    auth_state = await user.get_auth_state()
    auth_state["token_response"]["created_at"] = time.time() + left - 3600
    await user.save_auth_state(auth_state)


class CatchesAll(GenericOAuthenticator):
    """Asks in its own way, which nobody sees, and takes each error for a no."""

    is_up = False

    async def refresh_user(self, user, handler=None, **kwargs):
        return self.is_up


async def test_a_false_of_what_catches_all_errors_is_asked_of_the_provider(start_hub, caplog):
    caplog.set_level(logging.INFO)
    provider = Provider(lambda user, n: UNAVAILABLE if n < 3 else tokens(user, n))
    hub, alice, refresh = await begin(start_hub, provider, CatchesAll)
    assert await refresh() is True
    await age(alice)
    await until(lambda: "Renewed the tokens of alice" in caplog.text)
    await until(lambda: shown(alice) == "alice-a3" and status(alice) == "ok")
    assert len(provider.grants["alice"]) == 3
    for is_up in (True, False):
        hub.app.authenticator.is_up = is_up
        assert await refresh() is True
    assert len(provider.grants["alice"]) == 3


async def test_a_false_of_a_rejected_login_is_final(start_hub):
    rejected = Answer(400, b'{"error": "invalid_grant"}')
    provider = Provider(lambda user, n: rejected)
    _, alice, refresh = await begin(start_hub, provider, CatchesAll)
    for _ in range(3):
        assert await refresh() is False
    await until(lambda: status(alice) == "login_ended")
    await age(alice)
    assert await refresh() is False
    assert len(provider.grants["alice"]) == 1


@pytest.mark.parametrize("options", [{}, {"raise_error": False, "parse_json": False}])
async def test_a_false_after_a_failed_fetch_says_nothing(start_hub, options):
    class Fetches(GenericOAuthenticator):
        async def refresh_user(self, user, handler=None, **kwargs):
            try:
                answer = await self.fetch(HTTPRequest(self.userdata_url, headers=BEARER), **options)
            except Exception:
                return False
            return not options or answer.code == 200

    provider = Provider(userinfo=lambda user, n: UNAVAILABLE)
    if options:  # as tornado's client with these options
        provider = WithoutErrors(userinfo=lambda user, n: UNAVAILABLE)
    auth_state = login("alice", refresh_token=None)
    _, alice, refresh = await begin(start_hub, provider, Fetches, auth_state=auth_state)
    assert await refresh() is True
    assert status(alice) == "ok" and provider.checks["alice"]


BEARER = {"Authorization": "Bearer alice-a0"}


class WithoutErrors(Provider):
    async def _answer(self, request):
        try:
            return await super()._answer(request)
        except Exception as error:
            return error.response


class Own(DummyAuthenticator):
    """Says ``found`` of everybody, and logs everybody in with the same tokens."""

    auth_state = {"access_token": "a0", "refresh_token": "r0"}
    found = True
    asked = ()  # when

    async def authenticate(self, handler, data):
        return {"name": data["username"], "auth_state": copy.deepcopy(self.auth_state)}

    async def refresh_user(self, user, handler=None, **kwargs):
        self.asked += (time.monotonic(),)
        return copy.deepcopy(self.found)


@pytest.fixture
async def own(start_hub):
    settings = {
        "JupyterHub.authenticator_class": Own,
        "JupyterHub.proxy_class": NoProxy,
        "TokenSpawnerMixin.tokens": {"t": {}},
    }
    hub = await start_hub(SIMPLE, settings)
    hub.spawner(await hub.user("somebody"))
    alice = await hub.user("alice")
    await hub.browser(alice)
    await hub.spawn(alice)
    return hub, alice, hub.app.authenticator


async def test_where_the_provider_did_not_reject_the_user_is_tried_again(own, caplog):
    hub, alice, authenticator = own
    authenticator.found = False
    await alice.save_auth_state({"access_token": "a1", "expires_at": time.time() + 600})
    await until(lambda: shown(alice) == "a1")
    assert await authenticator.refresh_user(alice) is False
    await until(lambda: status(alice) == "login_ended")
    await until(lambda: len(authenticator.asked) > 3)
    assert all(later - earlier > 0.45 for earlier, later in pairwise(authenticator.asked))
    authenticator.found = True
    await until(lambda: status(alice) == "ok")
    assert caplog.text.count("the user has to log in again") == 1


async def test_a_login_wins_that_brings_tokens_which_were_there_before(own):
    hub, alice, authenticator = own
    model = {"name": "alice", "auth_state": {"access_token": "a1", "refresh_token": "r1"}}
    authenticator.found = model
    await authenticator.refresh_user(alice)
    await until(lambda: shown(alice) == "a1")
    await alice.save_auth_state(authenticator.auth_state | {"note": "what a service had read"})
    assert (await alice.get_auth_state())["access_token"] == "a1"
    await hub.browser(alice)
    assert await alice.get_auth_state() == authenticator.auth_state
    await until(lambda: shown(alice) == "a0")


async def test_a_login_with_rejected_tokens_is_a_login(own):
    hub, alice, authenticator = own
    authenticator.auth_state = authenticator.auth_state | {"expires_at": time.time() + 600}
    await hub.browser(alice)
    authenticator.found = False
    assert await authenticator.refresh_user(alice) is False
    await until(lambda: status(alice) == "login_ended")
    await hub.browser(alice)
    await until(lambda: status(alice) == "ok")  # without a word of the authenticator's


async def test_who_logs_in_with_an_auth_state_of_another_form_is_logged_in(own):
    hub, alice, authenticator = own
    for authenticator.auth_state in (["text"], "text"):
        await hub.browser(alice)
        assert await alice.get_auth_state() == authenticator.auth_state


async def test_what_a_login_added_survives_a_refresh(own):
    _, alice, authenticator = own
    auth_state = {"access_token": "a0", "refresh_token": "r0", "expires_at": 1, "site": {"id": 7}}
    await alice.save_auth_state(auth_state)
    authenticator.found = {"name": "alice", "auth_state": {"access_token": "a1"}}
    await authenticator.refresh_user(alice)
    assert await alice.get_auth_state() == {"access_token": "a1", "site": {"id": 7}}


async def test_what_is_taken_away_is_withdrawn(own):
    _, alice, _ = own
    await alice.save_auth_state(None)
    await until(lambda: status(alice) == "never_stored")
    with pytest.raises(FileNotFoundError):
        shown(alice)


async def test_a_hub_that_keeps_no_auth_state_renews_none(start_hub):
    provider = Provider()
    hub, alice, _ = await begin(start_hub, provider)
    hub.app.authenticator.enable_auth_state = False
    await age(alice)
    await hub.spawn(alice, "another")
    assert not provider.grants


async def test_a_refresh_token_goes_only_where_it_is_from(start_hub, caplog):
    provider = Provider(userinfo=lambda user, n: Answer(401, b"{}"))
    auth_state = login("alice", issued_by="http://another/token")
    _, alice, refresh = await begin(start_hub, provider, auth_state=auth_state)
    await age(alice)
    await until(lambda: status(alice) == "login_ended")
    for _ in range(2):
        assert await refresh() is False
    assert not provider.grants
    told = "another token_url issued the login): the user has to log in again"
    assert caplog.text.count(told) == 1


async def test_what_the_admin_adds_to_a_login_goes_with_a_grant(start_hub):
    asked = []

    class Base(GenericOAuthenticator):
        async def get_token_info(self, handler, params):
            asked.append(params)
            return await super().get_token_info(handler, params)

    added = {"resource": "https://storage", "client_secret": "of now", "grant_type": "another"}
    auth_state = login("alice", issued_by="HTTP://Provider:80/token/")  # as it was spelled then
    _, alice, _ = await begin(
        start_hub, Provider(), Base, auth_state=auth_state, token_params=added
    )
    await age(alice)
    await until(lambda: shown(alice) == "alice-a1")
    [params] = asked
    assert params == added | {
        "grant_type": "refresh_token",
        "refresh_token": "alice-r0",
        "client_id": "id",
    }
    assert (await alice.get_auth_state())["token_response"]["issued_by"] == "http://provider/token"


async def test_what_a_hook_puts_in_place_of_the_access_token_stays_in_its_place(start_hub):
    delivered = []

    class Spawner(SIMPLE):
        async def deliver_files(self, files):
            delivered.append(files["t"].decode())
            await super().deliver_files(files)

    def hook(authenticator, auth_state):
        token, now = auth_state["access_token"], time.time()
        life = 3 if token == "alice-a0" else 3600
        return auth_state | {"access_token": jwt(narrow=token, iat=now, exp=now + life)}

    provider = Provider()
    hub = await start_hub(Spawner, provider.settings(modify_auth_state_hook=hook))
    alice = await hub.user("alice", hook(None, login("alice")))
    await hub.spawn(alice)
    await until(lambda: jwt_claims(delivered[-1]).get("narrow") == "alice-a1")
    assert all(map(jwt_claims, delivered))  # never what the provider gave
    stored = await alice.get_auth_state()
    assert stored["token_response"]["access_token"] == "alice-a1"
    assert stored["refresh_token"] == "alice-r1" and stored["access_token"] == delivered[-1]
    assert len(provider.grants["alice"]) == 1


async def test_the_scopes_that_a_login_asks_for_are_kept_with_it(start_hub):
    class Base(GenericOAuthenticator):
        async def get_token_info(self, handler, params):
            return tokens("alice", 0)

    hub, _, _ = await begin(start_hub, Provider(), Base, scope=["api", "read"])
    for grant_type, asked in (("authorization_code", "api read"), ("refresh_token", None)):
        params = {"grant_type": grant_type}
        answer = await hub.app.authenticator.get_token_info(None, params)
        assert answer.get("asked_scope") == asked


async def test_another_kind_of_token_is_told_once(start_hub, caplog):
    caplog.set_level(logging.WARNING)
    auth_state = login("alice", access_token=jwt(aud="storage"), scope="a")
    _, alice, _ = await begin(start_hub, Provider(), auth_state=auth_state)
    assert status(alice) == "ok"
    await age(alice)
    await until(lambda: shown(alice) == "alice-a1" and status(alice) == "kind_changed")
    await alice.save_auth_state(login("alice", n=7))
    await until(lambda: shown(alice) == "alice-a7" and status(alice) == "ok")
    assert caplog.text.count("of another kind (it was a JWT, and is none now)") == 1


@pytest.mark.parametrize("prefix", [param(None, id="prefixes"), param("", id="none")])
async def test_multiauthenticators_login_is_renewed_by_the_one_that_made_it(start_hub, prefix):
    multi = pytest.importorskip("multiauthenticator").MultiAuthenticator
    port, providers = random_port(), {name: OwnProvider(GENERIC, 600) for name in ("one", "two")}
    hub = await start_hub(
        SIMPLE,
        {
            "JupyterHub.hub_port": port,
            "JupyterHub.proxy_class": NoProxy,
            "JupyterHub.authenticator_class": multi,
            "TokenSpawnerMixin.tokens": {"t": {}},
            "MultiAuthenticator.username_prefix": prefix,
            "MultiAuthenticator.authenticators": [
                {
                    "authenticator_class": GenericOAuthenticator,
                    "url_prefix": f"/{name}",
                    "config": {
                        **CLIENT,
                        **GENERIC.settings(provider.url),
                        "login_service": name,
                        "authorize_url": f"{provider.url}/authorize",
                        "oauth_callback_url": f"http://127.0.0.1:{port}/hub/{name}/oauth_callback",
                    },
                }
                for name, provider in providers.items()
            ],
        },
    )
    hub.spawner(await hub.user("somebody"))
    browser = Browser(hub.url)
    await browser.fetch("/hub/two/oauth_login?next=/hub/home")
    alice = await hub.user("alice" if prefix == "" else "two:alice")
    await hub.spawn(alice)
    dead = await outlive(providers["two"], alice)
    assert (await browser.fetch("/hub/home")).effective_url == f"{hub.url}/hub/home"
    await until(lambda: shown(alice) != dead["access_token"])
    assert providers["two"].is_live(shown(alice))
    assert [providers[name].refreshes for name in ("one", "two")] == [[], [None]]
    await asyncio.gather(*(provider.close() for provider in providers.values()))


async def test_an_authenticator_with_its_own_provider_renews_though_it_holds_another(start_hub):
    class Holds(GenericOAuthenticator):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.fallback = DummyAuthenticator(parent=self)

    _, alice, refresh = await begin(start_hub, Provider(), Holds)
    await age(alice)
    assert await refresh() is True
    await until(lambda: shown(alice) == "alice-a1")
