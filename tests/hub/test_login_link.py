"""The link of a refusal, with a real provider: it logs in anew and returns to the spawn."""

import re
from html import unescape

from ..support.browser import Browser
from ..support.hub import Server
from ..support.oauth import hub_settings, log_in, wait_for_server
from ..support.provider import start_provider
from .test_refusals import SIMPLE, shown


async def test_the_link_of_a_refusal_leads_through_the_provider_to_the_users_server(
    start_hub, tmp_path
):
    settings = {
        "TokenSpawnerMixin.tokens": {"t": {"env": "T"}},
        "TokenSpawnerMixin.tokens_missing": "refuse",
        # Else the Hub itself finds out first, and answers 500.
        "Authenticator.refresh_pre_spawn": False,
    }
    async with start_provider(tmp_path) as provider:
        hub = await start_hub(SIMPLE, hub_settings(provider) | settings)
        browser = Browser(hub.url)
        alice = await log_in(hub, browser, provider, "alice")
        await alice.save_auth_state({})

        refused = await browser.spawn("alice")
        assert refused.code == 403
        assert "it needs the token t of alice: your login did not give it" in shown(refused)
        pattern = r'<a href="([^"]+)">Log in again</a>'
        link = unescape(re.search(pattern, refused.body.decode())[1])
        assert link == "/hub/oauth_login?next=%2Fhub%2Fspawn%2Falice"

        spawn = f"{hub.url}/hub/spawn/alice"
        assert await provider.pass_forms(browser, hub.url + link, "alice", until=spawn) == spawn
        await browser.fetch("/hub/spawn/alice")
        assert await wait_for_server(hub, "alice")
        assert "T" in await Server(alice.spawners[""]).env()
