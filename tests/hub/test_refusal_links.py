"""The link of a refusal: where it leads, for whom, and how it is written."""

from jupyterhub.auth import DummyAuthenticator

from spawner_tokens.refusal import Problem, make_refusal
from spawner_tokens.tokens.selection import Reason

from .test_refusals import SIMPLE, shown


class OAuthLike(DummyAuthenticator):
    """An authenticator with a login page of its own."""

    def login_url(self, base_url):
        return f"{base_url}oauth_login"


async def refusal(start_hub, name="alice", server="", **settings):
    hub = await start_hub(SIMPLE, {"JupyterHub.authenticator_class": OAuthLike, **settings})
    user = await hub.user(name)
    return make_refusal(hub.spawner(user, server), [Problem("t", Reason.EXPIRED)])


async def test_the_link_of_an_oauthenticator_logs_in_anew_and_returns_to_the_spawn(start_hub):
    error = await refusal(start_hub, server="work")
    assert error.jupyterhub_message.endswith(
        "Log in again: /hub/oauth_login?next=%2Fhub%2Fspawn%2Falice%2Fwork"
    )
    assert (
        '<a href="/hub/oauth_login?next=%2Fhub%2Fspawn%2Falice%2Fwork">Log in again</a>'
        in error.jupyterhub_html_message
    )


async def test_where_a_login_cannot_help_the_link_tries_again(start_hub):
    hub = await start_hub(SIMPLE, {"JupyterHub.authenticator_class": OAuthLike})
    spawner = hub.spawner(await hub.user("alice"))
    error = make_refusal(spawner, [Problem("t", Reason.MISCONFIGURED)])
    assert error.jupyterhub_message.endswith("when that is settled: Try again: /hub/spawn/alice")


async def test_the_link_is_absolute_where_the_public_url_is_known(start_hub):
    error = await refusal(start_hub, **{"JupyterHub.public_url": "https://hub.example.org/"})
    assert (
        "https://hub.example.org/hub/oauth_login?next=%2Fhub%2Fspawn%2Falice"
        in error.jupyterhub_message
    )


async def test_a_hostile_user_name_is_text_and_percent_signs_stay(start_hub):
    name = "<b>%s&\"'"
    error = await refusal(start_hub, name=name)
    assert "<b>" not in error.jupyterhub_html_message
    assert f"of {name}: it has expired" in error.jupyterhub_message
    assert "%2Fhub%2Fspawn%2F%253Cb%253E" in error.jupyterhub_message
    assert "\n" not in error.jupyterhub_message


async def test_somebody_elses_server_is_not_the_viewers_to_mend(start_hub):
    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
        "TokenSpawnerMixin.tokens_missing": "refuse",
    }
    hub = await start_hub(SIMPLE, {**settings, "Authenticator.admin_users": {"admin"}})
    await hub.user("alice")
    browser = await hub.browser(await hub.user("admin"))
    answer = await browser.fetch("/hub/spawn/alice")
    assert "alice has to follow this link" in shown(answer)
