"""Each preset against an auth_state that OAuthenticator's own class built."""

import json

import pytest
from pytest import param

from spawner_tokens.tokens.files import make_env
from spawner_tokens.tokens.lifetime import Lifetime
from spawner_tokens.tokens.selection import check, select
from spawner_tokens.tokens.spec import parse_tokens

ACCESS = "the-access-token"
RESPONSE = {
    "access_token": ACCESS,
    "token_type": "bearer",
    "scope": "read",
    "refresh_token": "the-refresh-token",
}


def github():
    from oauthenticator.github import GitHubOAuthenticator

    user = {"login": "octo", "id": 1, "email": None, "name": "Octo Cat"}
    return GitHubOAuthenticator(), {**RESPONSE, "scope": "repo,gist"}, user


def github_with_email():
    authenticator, response, user = github()
    return authenticator, response, {**user, "email": "octo@example.org"}


def gitlab():
    from oauthenticator.gitlab import GitLabOAuthenticator

    user = {"username": "lab", "id": 2, "email": "lab@example.org", "name": "Lab Rat"}
    return GitLabOAuthenticator(), {**RESPONSE, "expires_in": 7200, "created_at": 1_000_000}, user


def bitbucket():
    from oauthenticator.bitbucket import BitbucketOAuthenticator

    response = {**RESPONSE, "scopes": "account"}
    del response["scope"]
    return BitbucketOAuthenticator(), response, {"username": "bucket", "display_name": "Bit Bucket"}


def google():
    from oauthenticator.google import GoogleOAuthenticator

    user = {"email": "goo@example.org", "name": "Goo Gle", "domain": "example.org"}
    return GoogleOAuthenticator(), {**RESPONSE, "id_token": "e.y.j"}, user


def azuread():
    from oauthenticator.azuread import AzureAdOAuthenticator

    user = {"unique_name": "az@example.org", "name": "Az Ure", "oid": "0", "tid": "1"}
    return AzureAdOAuthenticator(), {**RESPONSE, "id_token": "e.y.j"}, user


def generic():
    from oauthenticator.generic import GenericOAuthenticator

    user = {"sub": "0", "preferred_username": "kc", "email": "kc@example.org", "name": "Key Cloak"}
    return GenericOAuthenticator(), {**RESPONSE, "expires_in": 300}, user


def nbgallery():
    authenticator, response, _ = generic()
    del response["refresh_token"]
    return authenticator, response, {"user_name": "nb", "email": "nb@example.org"}


def auth0():
    from oauthenticator.auth0 import Auth0OAuthenticator

    authenticator = Auth0OAuthenticator(auth0_domain="x.auth0.com")
    user = {"sub": "0", "nickname": "zero", "email": "zero@example.org", "name": "Zero"}
    return authenticator, RESPONSE, user


def cilogon():
    from oauthenticator.cilogon import CILogonOAuthenticator

    authenticator = CILogonOAuthenticator(
        allowed_idps={
            "https://github.com/login/oauth/authorize": {
                "username_derivation": {"username_claim": "email"}
            }
        }
    )
    user = {"eppn": "ci@example.org", "email": "ci@example.org", "name": "Ci Logon"}
    return authenticator, RESPONSE, user


def globus():
    from oauthenticator.globus import GlobusOAuthenticator

    other = {**RESPONSE, "resource_server": "transfer.api.globus.org", "expires_in": 172800}
    response = {
        **RESPONSE,
        "access_token": "auth-only",
        "resource_server": "auth.globus.org",
        "other_tokens": [other],
    }
    user = {"preferred_username": "glo@globusid.org", "email": "glo@example.org", "name": "Glo Bus"}
    return GlobusOAuthenticator(), response, user


def mediawiki():
    pytest.importorskip("mwoauth")
    from mwoauth import AccessToken, ConsumerToken
    from oauthenticator.mediawiki import MWOAuthenticator

    response = {
        "access_token": AccessToken("the-key", ACCESS),
        "consumer_token": ConsumerToken("c", "s"),
    }
    return MWOAuthenticator(), response, {"username": "Wiki Pedia", "sub": 1}


FILE = {"SPAWNER_TOKENS_DIR": "/d", "T_TOKEN_FILE": "/d/t"}

CASES = [
    param(
        github,
        {"preset": "github"},
        {
            "GITHUB_TOKEN": ACCESS,
            "GITHUB_USER": "octo",
            "GITHUB_NAME": "Octo Cat",
            "GITHUB_HOST": "github.com",
        },
        id="github",
    ),
    param(
        github_with_email,
        {"preset": "github", "url": "https://ghe.example.org"},
        {
            "GITHUB_TOKEN": ACCESS,
            "GITHUB_USER": "octo",
            "GITHUB_NAME": "Octo Cat",
            "GITHUB_EMAIL": "octo@example.org",
            "GITHUB_HOST": "ghe.example.org",
        },
        id="github-enterprise",
    ),
    param(
        gitlab,
        {"preset": "gitlab"},
        {
            "GITLAB_TOKEN": ACCESS,
            "GITLAB_ACCESS_TOKEN": ACCESS,
            "GITLAB_USER": "lab",
            "GITLAB_EMAIL": "lab@example.org",
            "GITLAB_NAME": "Lab Rat",
            "GITLAB_HOST": "gitlab.com",
        },
        id="gitlab",
    ),
    param(
        bitbucket,
        {"preset": "bitbucket"},
        {
            "BITBUCKET_TOKEN": ACCESS,
            "BITBUCKET_USER": "bucket",
            "BITBUCKET_NAME": "Bit Bucket",
            "BITBUCKET_HOST": "bitbucket.org",
        },
        id="bitbucket",
    ),
    param(
        google,
        {"preset": "google"},
        {
            "GOOGLE_ACCESS_TOKEN": ACCESS,
            "GOOGLE_USER": "goo@example.org",
            "GOOGLE_EMAIL": "goo@example.org",
            "GOOGLE_NAME": "Goo Gle",
        },
        id="google",
    ),
    param(
        azuread,
        {"preset": "azuread"},
        {
            "AZUREAD_ACCESS_TOKEN": ACCESS,
            "AZUREAD_USER": "az@example.org",
            "AZUREAD_NAME": "Az Ure",
        },
        id="azuread",
    ),
    param(
        nbgallery,
        {"preset": "nbgallery", "url": "https://nb.example.org/"},
        {
            "NBGALLERY_TOKEN": ACCESS,
            "NBGALLERY_USER": "nb",
            "NBGALLERY_EMAIL": "nb@example.org",
            "NBGALLERY_URL": "https://nb.example.org",
        },
        id="nbgallery",
    ),
    param(
        generic,
        {"preset": "oidc"},
        {
            "OIDC_ACCESS_TOKEN": ACCESS,
            "OIDC_USER": "kc",
            "OIDC_EMAIL": "kc@example.org",
            "OIDC_NAME": "Key Cloak",
        },
        id="oidc-keycloak",
    ),
    param(
        auth0,
        {"preset": "oidc"},
        {
            "OIDC_ACCESS_TOKEN": ACCESS,
            "OIDC_USER": "zero",
            "OIDC_EMAIL": "zero@example.org",
            "OIDC_NAME": "Zero",
        },
        id="oidc-auth0",
    ),
    param(
        cilogon,
        {"preset": "oidc"},
        {
            "OIDC_ACCESS_TOKEN": ACCESS,
            "OIDC_USER": "ci@example.org",
            "OIDC_EMAIL": "ci@example.org",
            "OIDC_NAME": "Ci Logon",
        },
        id="oidc-cilogon",
    ),
    param(
        globus,
        {"preset": "globus"},
        {
            "GLOBUS_ACCESS_TOKEN": ACCESS,
            "GLOBUS_USER": "glo@globusid.org",
            "GLOBUS_EMAIL": "glo@example.org",
            "GLOBUS_NAME": "Glo Bus",
        },
        id="globus",
    ),
    param(
        mediawiki,
        {"preset": "mediawiki"},
        {
            "MEDIAWIKI_ACCESS_SECRET": ACCESS,
            "MEDIAWIKI_ACCESS_KEY": "the-key",
            "MEDIAWIKI_USER": "Wiki Pedia",
        },
        id="mediawiki",
    ),
]


@pytest.mark.parametrize("provider, fields, expected", CASES)
def test_a_preset_reads_what_oauthenticators_class_stores(provider, fields, expected):
    authenticator, response, user_info = provider()
    auth_state = authenticator.build_auth_state_dict(response, user_info)
    auth_state = json.loads(json.dumps(auth_state))  # as the Hub's database gives it back
    (spec,) = parse_tokens({"t": fields}, files=True)
    token = check(select(spec, auth_state, authenticator.scope), 0, 300)
    assert token.reason is None, token.detail
    assert make_env([token], "/d") == {**expected, **FILE}


def test_gitlabs_answer_tells_when_the_token_ends():
    authenticator, response, user_info = gitlab()
    (spec,) = parse_tokens({"t": {"preset": "gitlab"}}, files=True)
    token = select(spec, authenticator.build_auth_state_dict(response, user_info))
    assert token.lifetime == Lifetime(issued_at=1_000_000, expires_at=1_007_200, total=7200)


def test_bitbucket_names_its_scopes_in_its_own_way():
    authenticator, response, user_info = bitbucket()
    (spec,) = parse_tokens({"t": {"preset": "bitbucket"}}, files=True)
    assert select(
        spec, authenticator.build_auth_state_dict(response, user_info), ["repository"]
    ).scopes == ("account",)


def test_githubs_scopes_are_separated_by_commas():
    authenticator, response, user_info = github()
    (spec,) = parse_tokens({"t": {"preset": "github"}}, files=True)
    assert select(spec, authenticator.build_auth_state_dict(response, user_info)).scopes == (
        "repo",
        "gist",
    )
