"""The demo's Hub: a stock authenticator with auth_state, and a spawner that delivers the token.

``spawner-tokens demo`` sets DEMO_PROVIDER_URL, JUPYTERHUB_CRYPT_KEY, which encrypts the auth_state,
and for OAuthenticator OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET and OAUTH_CALLBACK_URL. Ports and homes
are on its command line. A file for ``spawner-tokens demo --config`` may begin with this one::

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

# What the users' servers get.
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

# The first page, and the consent to a server that runs as root.
c.Spawner.default_url = "/lab/tree/tokens.ipynb"
if os.geteuid() == 0:
    c.Spawner.args = ["--allow-root"]

# When the Hub ends, so do the servers.
c.JupyterHub.cleanup_servers = True
