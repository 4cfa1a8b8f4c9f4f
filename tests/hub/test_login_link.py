"""The link of a refusal, with a real provider: it logs in anew and returns to the spawn."""

import re
from html import unescape

from spawner_tokens.demo import run_demo
from spawner_tokens.demo.browser import Browser

CONFIG = """
from spawner_tokens.demo import CONFIG
load_subconfig(str(CONFIG))
c.TokenSpawnerMixin.tokens_missing = "refuse"
c.Authenticator.admin_users = {"bob"}
c.Authenticator.refresh_pre_spawn = False  # else the Hub itself finds out first, and answers 500
"""


def test_the_link_of_a_refusal_leads_through_the_provider_to_the_users_server(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(CONFIG)
    with run_demo(config=config) as demo:
        alice, bob = (Browser(demo.hub.url, name) for name in ("alice", "bob"))
        for browser in (alice, bob):
            browser.log_in(demo.provider.passwords[browser.username])
        bob.request("PATCH", "/hub/api/users/alice", json={"auth_state": {}})

        refused = alice.session.get(f"{demo.hub.url}/hub/spawn/alice")
        assert refused.status_code == 403
        assert "it needs the token demo of alice: your login did not give it" in refused.text
        link = unescape(re.search(r'<a href="([^"]+)">Log in again</a>', refused.text)[1])
        assert link == "/hub/oauth_login?next=%2Fhub%2Fspawn%2Falice"

        alice.get(link)
        alice.enter_server()
        with alice.kernel() as kernel:
            assert kernel.run("import os; print('DEMO_TOKEN' in os.environ)") == "True\n"
