"""The examples of OAuthenticator's documentation and of ours have no false finding."""

import re

import pytest
from pytest import param

from ..project.test_pages import elsewhere, values_files  # noqa: F401
from ..support.examining import KEY, of
from ..support.pages import blocks

ADDRESSES = """
c.GenericOAuthenticator.authorize_url = "https://accounts.example.org/oauth2/authorize"
c.GenericOAuthenticator.token_url = "https://accounts.example.org/oauth2/token"
c.GenericOAuthenticator.userdata_url = "https://accounts.example.org/userinfo"
c.GenericOAuthenticator.scope = ["openid", "email", "groups"]
c.GenericOAuthenticator.username_claim = "email"
c.GenericOAuthenticator.manage_groups = True
c.GenericOAuthenticator.auth_state_groups_key = "oauth_user.groups"
c.GenericOAuthenticator.admin_groups = {"administrator"}
"""
TENANT = """
c.AzureAdOAuthenticator.tenant_id = "tenant"
c.AzureAdOAuthenticator.scope = ["openid", "profile", "email"]
"""
IDPS = """
derivation = {"username_derivation": {"username_claim": "email"}}
c.CILogonOAuthenticator.allowed_idps = {"https://github.com/login/oauth/authorize": derivation}
"""
NOT_ASKED = ["refresh-token-not-asked"]
# After the pages "GitHub Setup" and so on of OAuthenticator's documentation.
DOCUMENTED = [
    param("github", "", "github", [], id="github"),
    param("gitlab", "", "gitlab", ["scopes-too-powerful"], id="gitlab"),
    param("google", "", "google", NOT_ASKED, id="google"),
    param("azuread", TENANT, "azuread", NOT_ASKED, id="azuread"),
    param("generic-oauth", ADDRESSES, "oidc", [], id="generic"),
    param("cilogon", IDPS, "oidc", NOT_ASKED, id="cilogon"),
    param("globus", "", "globus", [], id="globus"),
    param("bitbucket", "", "bitbucket", [], id="bitbucket"),
]


@pytest.mark.parametrize("entry_point, more, preset, warnings", DOCUMENTED)
def test_oauthenticators_own_examples_have_no_error(examine, entry_point, more, preset, warnings):
    config = f"""
c.JupyterHub.authenticator_class = "{entry_point}"
c.OAuthenticator.oauth_callback_url = "https://hub.example.org/hub/oauth_callback"
c.OAuthenticator.client_id = "[your oauth2 application id]"
c.OAuthenticator.client_secret = "[your oauth2 application secret]"
c.OAuthenticator.allow_all = True
{more}
c.Authenticator.enable_auth_state = True
c.JupyterHub.spawner_class = "tokens-simple"
c.TokenSpawnerMixin.tokens = {{"login": {{"preset": "{preset}"}}}}
"""
    status, findings = examine(config)
    assert status == 0 and of(findings, "error") == []
    assert of(findings, "warning") == warnings


@pytest.mark.parametrize("code", list(blocks("python")))
def test_the_documentations_examples_have_no_false_error(examine, cluster, code):
    if "authenticator_class" not in code:
        cls = re.search(r'"preset": "(github|gitlab|google|azuread)"|$', code)[1] or "gitlab"
        if re.search('oauth_user|exchanged?[".]|id_token|aws|azure"|gcp|storage|HF_', code):
            cls = "generic-oauth"
        if "AzureAd" in code:
            cls = "azuread"
        code = f"c.JupyterHub.authenticator_class = '{cls}'\n{code}"
        code += '\nc.GenericOAuthenticator.scope = ["openid", "offline_access"]\n'
    if "enable_auth_state" not in code:
        code += "\nc.Authenticator.enable_auth_state = True\n"
    status, findings = examine(code)
    expected = set()
    # of the admin's own authenticator, and of the doctor's own sample
    if re.search("exchanged_tokens|teams_token|acces_token", code):
        expected.add("key-never-stored")
    if "spawner_class" not in code:
        expected.add("mixin-missing")
    assert set(of(findings, "error")) <= expected, findings
    writes = re.search(r"spawner\.environment(\[| =)", code) is not None
    assert ("hook-writes-tokens" in of(findings, "warning")) == writes


@pytest.mark.parametrize("text", values_files())
def test_the_documentations_values_have_no_finding(examine, text, cluster, monkeypatch):
    monkeypatch.delenv(KEY)  # the chart makes one
    status, findings = examine(text, "--values")
    assert status == 0 and of(findings, "error", "warning") == [], findings
    assert "auth-state" in of(findings, "ok")
