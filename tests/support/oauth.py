"""A Hub whose users log in at the provider, and the ways to start their servers."""

import asyncio
import json
import time
from urllib.parse import urlsplit

from jupyterhub import orm
from jupyterhub.proxy import Proxy
from oauthenticator.generic import GenericOAuthenticator

from .provider import request


class NoProxy(Proxy):
    """Tests ask the Hub and the servers themselves."""

    async def add_route(self, routespec, target, data):
        pass

    async def delete_route(self, routespec):
        pass

    async def get_all_routes(self):
        return {}


def hub_settings(provider, url=None, *, callback=0):
    """Settings for ``start_hub``. ``url`` is where the Hub finds the provider, a proxy perhaps.

    ``callback`` is for a second Hub, at the same time.
    """
    url = url or provider.url
    callback_url = provider.callbacks[callback]
    return {
        "JupyterHub.hub_port": urlsplit(callback_url).port,
        "JupyterHub.proxy_class": NoProxy,
        "JupyterHub.authenticator_class": GenericOAuthenticator,
        "GenericOAuthenticator.authorize_url": f"{provider.url}/o/authorize/",
        "GenericOAuthenticator.token_url": f"{url}/o/token/",
        "GenericOAuthenticator.userdata_url": f"{url}/userinfo/",
        "GenericOAuthenticator.oauth_callback_url": callback_url,
        "GenericOAuthenticator.client_id": provider.client_id,
        "GenericOAuthenticator.client_secret": provider.client_secret,
        "GenericOAuthenticator.scope": ["profile", "read"],
    }


def make_auth_state(username, answer):
    """What OAuthenticator makes of the provider's answer to a login or a refresh."""
    return {
        "access_token": answer["access_token"],
        "refresh_token": answer.get("refresh_token"),
        "id_token": answer.get("id_token"),
        "scope": answer.get("scope", "").split(" "),
        "token_response": answer,
        "oauth_user": {"username": username},
    }


async def log_in(hub, browser, provider, username):
    """Through the provider's forms; the user as the Hub then has them."""
    home = f"{hub.url}/hub/home"
    await provider.pass_forms(
        browser, f"{hub.url}/hub/oauth_login?next=/hub/home", username, until=home
    )
    answer = await browser.fetch(home)
    assert answer.effective_url == home, answer.effective_url
    return await hub.user(username)


def make_admin_token(hub):
    """The API token of a service with an admin's rights. It has no login that could expire."""
    service = orm.Service(name="admin", roles=[orm.Role.find(hub.app.db, "admin")])
    hub.app.db.add(service)
    hub.app.db.commit()
    return service.new_api_token()


async def start_by_cookie(hub, browser, username, server=""):
    """Send the spawn page's form. Status, and the page; of a redirect, where it leads."""
    answer = await request(
        f"{hub.url}/hub/spawn/{username}/{server}".rstrip("/"),
        browser,
        {"_xsrf": browser.cookies["_xsrf"]},
    )
    return answer.code, answer.headers.get("Location") or answer.body.decode()


async def start_by_token(hub, token, username, server=""):
    """Ask the Hub's API, as a user or an admin. Status, and the JSON, if there is any."""
    answer = await request(
        f"{hub.url}/hub/api/users/{username}/servers/{server}",
        form={},
        headers={"Authorization": f"token {token}"},
    )
    return answer.code, json.loads(answer.body) if answer.body else None


async def wait_for_server(hub, username, server=""):
    """Whether a server that has been asked for is ready; False if it failed.

    The spawn page answers after a second, whether or not the Hub has begun with the spawn by then.
    """
    user = await hub.user(username)
    idle_since = time.monotonic()
    while time.monotonic() < idle_since + 30:
        spawner = user.spawners.get(server)
        if spawner is not None:
            if spawner.ready or spawner._failed:
                return bool(spawner.ready)
            if spawner.pending:
                idle_since = time.monotonic()
        await asyncio.sleep(0.05)
    return False
