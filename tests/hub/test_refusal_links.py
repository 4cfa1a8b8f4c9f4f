"""The link of a refusal: where it leads, for whom, and how it is written."""

from jupyterhub.auth import DummyAuthenticator

from spawner_tokens.refusal import Problem, make_refusal
from spawner_tokens.tokens.selection import Reason

from .test_refusals import SIMPLE, shown


class OAuthLike(DummyAuthenticator):
    """An authenticator with a login page of its own."""

    def login_url(self, base_url):
        return f"{base_url}oauth_login"


def refuse(hub, user, server="", reason=Reason.EXPIRED):
    return make_refusal(hub.spawner(user, server), [Problem("t", reason)])


async def test_the_link_logs_in_anew_and_returns_to_the_spawn_or_tries_again(start_hub):
    hub = await start_hub(SIMPLE, {"JupyterHub.authenticator_class": OAuthLike})
    alice = await hub.user("alice")
    error = refuse(hub, alice, "work")
    link = "/hub/oauth_login?next=%2Fhub%2Fspawn%2Falice%2Fwork"
    assert error.jupyterhub_message.endswith(f"Log in again: {link}")
    assert f'<a href="{link}">Log in again</a>' in error.jupyterhub_html_message
    for reason in (Reason.MISCONFIGURED, Reason.SCOPE_NOT_REQUESTED):  # a login cannot help
        message = refuse(hub, alice, reason=reason).jupyterhub_message
        assert "Please tell the administrator of this JupyterHub" in message
        assert message.endswith("when that is settled: Try again: /hub/spawn/alice")

    name = "<b>%s&\"'"  # a hostile name is text, and percent signs stay
    error = refuse(hub, await hub.user(name))
    assert "<b>" not in error.jupyterhub_html_message
    assert f"of {name}: it has expired" in error.jupyterhub_message
    assert "%2Fhub%2Fspawn%2F%253Cb%253E" in error.jupyterhub_message
    assert "\n" not in error.jupyterhub_message


async def test_the_link_is_absolute_where_the_public_url_is_known(start_hub):
    public = {"JupyterHub.public_url": "https://hub.example.org/"}
    hub = await start_hub(SIMPLE, {"JupyterHub.authenticator_class": OAuthLike, **public})
    link = "https://hub.example.org/hub/oauth_login?next=%2Fhub%2Fspawn%2Falice"
    assert link in refuse(hub, await hub.user("alice")).jupyterhub_message


async def test_somebody_elses_server_is_not_the_viewers_to_mend(start_hub):
    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
        "TokenSpawnerMixin.tokens_missing": "refuse",
    }
    hub = await start_hub(SIMPLE, {**settings, "Authenticator.admin_users": {"admin"}})
    await hub.user("alice")
    browser = await hub.browser(await hub.user("admin"))
    answer = await browser.spawn("alice")
    assert "alice has to follow this link" in shown(answer)
