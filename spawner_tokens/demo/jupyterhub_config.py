"""The demo's Hub: a stock authenticator that keeps its auth_state, and a spawner that hands the token on.

``spawner-tokens demo`` sets DEMO_PROVIDER_URL, and for OAuthenticator, which reads them itself, OAUTH_CLIENT_ID,
OAUTH_CLIENT_SECRET and OAUTH_CALLBACK_URL; JUPYTERHUB_CRYPT_KEY encrypts the auth_state. Ports and homes it gives on
the command line. A file of your own for ``spawner-tokens demo --config`` may begin with this one::

    from spawner_tokens.demo import CONFIG

    load_subconfig(str(CONFIG))
    c.TokenSpawnerMixin.tokens_missing = "refuse"
"""

import os

provider = os.environ["DEMO_PROVIDER_URL"]

c = get_config()  # type: ignore[name-defined]  # noqa: F821

# Who may log in, and where: the authenticator of your provider, as it is.
c.JupyterHub.authenticator_class = "generic-oauth"
c.GenericOAuthenticator.authorize_url = f"{provider}/o/authorize/"
c.GenericOAuthenticator.token_url = f"{provider}/o/token/"
c.GenericOAuthenticator.userdata_url = f"{provider}/userinfo/"
c.GenericOAuthenticator.scope = ["profile", "read"]
c.GenericOAuthenticator.login_service = "the demo's provider"
c.GenericOAuthenticator.allow_all = True
c.GenericOAuthenticator.enable_auth_state = True

# What their servers get of it.
c.JupyterHub.spawner_class = "spawner_tokens.TokenSimpleLocalProcessSpawner"
c.TokenSpawnerMixin.tokens = {
    "demo": {
        "env": "DEMO_TOKEN",
        "variables": {"DEMO_USER": "oauth_user.username", "DEMO_EMAIL": "oauth_user.email"},
        "settings": {"DEMO_URL": provider},
        "git": f"{provider}/git",
        "git_identity": {"name": "oauth_user.name", "email": "oauth_user.email"},
    }
}

# Where a browser lands, and that a server of root's is meant.
c.Spawner.default_url = "/lab/tree/tokens.ipynb"
if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]

# When the Hub ends, so do the servers.
c.JupyterHub.cleanup_servers = True
