"""Providers are known by the addresses of GenericOAuthenticator; own classes may store more."""

import pytest
from pytest import param

from ..support.examining import find_one, login, of

GITLAB = ("https://gitlab.com/oauth/authorize", "https://gitlab.com/oauth/token", "")
OWN_GITLAB = ("https://code.example.org/a", "https://code.example.org/t")
GITHUB = ("https://github.com/login/oauth/authorize", "", "")
OWN_GITHUB = ("https://git.example.org/a", "", "https://git.example.org/api/v3/user")
BITBUCKET = ("https://bitbucket.org/site/oauth2/authorize", "", "")
GOOGLE = ("https://accounts.google.com/o/oauth2/v2/auth", "https://oauth2.googleapis.com/token", "")
AZURE = ("", "https://login.microsoftonline.com/tenant/oauth2/v2.0/token", "")
KEYCLOAK = ("", "https://sso.example.org/realms/r/protocol/openid-connect/token", "")
OKTA = ("https://dev-1.okta.com/oauth2/v1/authorize", "", "")
COGNITO = ("", "https://x.auth.eu-west-1.amazoncognito.com/oauth2/token", "")


@pytest.mark.parametrize(
    "urls, scope, found",
    [
        param(GITLAB, ["api"], "scopes-too-powerful", id="gitlab"),
        param(GITLAB, [], "scopes-too-powerful", id="gitlab-default"),
        param((*OWN_GITLAB, "https://code.example.org/api/v4/user"), [], "scopes-too-powerful"),
        param(GITHUB, ["repo"], "scopes-too-powerful", id="github"),
        param(OWN_GITHUB, ["repo"], "scopes-too-powerful", id="github-enterprise"),
        param(BITBUCKET, ["repository:admin"], "scopes-too-powerful", id="bitbucket"),
        param(GOOGLE, ["openid"], "refresh-token-not-asked", id="google"),
        param(AZURE, ["User.Read"], "refresh-token-not-asked", id="azure"),
        param(("", "", ""), ["openid"], None, id="unknown"),
        param(("https://[sso", "", ""), ["email"], None, id="unknown-of-plain-oauth"),
        param(OKTA, ["openid"], "refresh-token-not-asked", id="okta"),
        param(GITLAB, ["openid", "read_user"], None, id="gitlab-refreshes-unasked"),
        param(BITBUCKET, [], None, id="bitbucket-grants-what-the-consumer-has"),
        param(KEYCLOAK, ["openid"], None, id="keycloak-refreshes-unasked"),
        param(COGNITO, ["openid"], None, id="cognito-refreshes-unasked"),
        param((GOOGLE[0] + "?access_type=offline", *GOOGLE[1:]), [], None, id="google-asked"),
    ],
)
def test_a_provider_is_known_by_its_addresses(examine, urls, scope, found):
    lines = [
        f"c.GenericOAuthenticator.{name} = {url!r}"
        for name, url in zip(("authorize_url", "token_url", "userdata_url"), urls, strict=True)
    ]
    _, findings = examine(
        "\n".join(
            [
                'c.JupyterHub.authenticator_class = "local-generic-oauth"',
                *lines,
                f"c.GenericOAuthenticator.scope = {scope!r}",
                'c.GenericOAuthenticator.client_id = "Iv1.0123456789abcdef"',
                "c.Authenticator.enable_auth_state = True",
                'c.JupyterHub.spawner_class = "tokens-simple"',
                'c.TokenSpawnerMixin.tokens = {"t": {"preset": "oidc"}}',
            ]
        )
    )
    assert of(findings, "error", "warning") == [found] * (found is not None)


OWN = """
from oauthenticator.github import GitHubOAuthenticator
class Mine(GitHubOAuthenticator):
    def {name}(self, *arguments, **given):
        return super().{name}(*arguments, **given)
c.JupyterHub.authenticator_class = Mine
"""


@pytest.mark.parametrize(
    "more",
    [
        *(
            OWN.format(name=name)
            for name in (
                *("build_access_tokens_request_params", "get_token_info", "token_to_user"),
                *("httpfetch", "build_auth_state_dict", "update_auth_model", "authenticate"),
            )
        ),
        "c.OAuthenticator.modify_auth_state_hook = lambda authenticator, auth_state: auth_state",
        "c.TokenSpawnerMixin.tokens_hook = lambda spawner, auth_state, tokens: tokens",
    ],
)
def test_of_a_login_that_may_bring_more_no_key_is_called_missing(examine, more):
    config = login("github", {"key": "id_token"})
    assert of(examine(config)[1], "error") == ["key-never-stored"]
    _, findings = examine(config + more)
    assert of(findings, "error") == []
    assert "may store more" in find_one(findings, "keys")["what"] and "keys" in of(findings, "note")
