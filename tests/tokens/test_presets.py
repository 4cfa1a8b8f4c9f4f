"""Each preset against an auth_state that OAuthenticator's own class built."""

import json

import pytest

from spawner_tokens.tokens.files import make_env
from spawner_tokens.tokens.lifetime import Lifetime
from spawner_tokens.tokens.selection import Login, check, select
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

    user = {"login": "octo", "id": 1, "email": None, "name": "Octo"}
    return GitHubOAuthenticator(), {**RESPONSE, "scope": "repo,gist"}, user


def github_with_email():
    authenticator, response, user = github()
    return authenticator, response, {**user, "email": "octo@example.org"}


def gitlab():
    from oauthenticator.gitlab import GitLabOAuthenticator

    user = {"username": "lab", "id": 2, "email": "lab@example.org", "name": "Lab"}
    return GitLabOAuthenticator(), {**RESPONSE, "expires_in": 7200, "created_at": 1_000_000}, user


def bitbucket():
    from oauthenticator.bitbucket import BitbucketOAuthenticator

    response = {**RESPONSE, "scopes": "account"}
    del response["scope"]
    return BitbucketOAuthenticator(), response, {"username": "bucket", "display_name": "Bucket"}


def google():
    from oauthenticator.google import GoogleOAuthenticator

    user = {"email": "g@x.org", "name": "Goo", "domain": "example.org"}
    return GoogleOAuthenticator(), {**RESPONSE, "id_token": "e.y.j"}, user


def azuread():
    from oauthenticator.azuread import AzureAdOAuthenticator

    user = {"unique_name": "az@example.org", "name": "Az", "oid": "0", "tid": "1"}
    return AzureAdOAuthenticator(), {**RESPONSE, "id_token": "e.y.j"}, user


def generic():
    from oauthenticator.generic import GenericOAuthenticator

    user = {"sub": "0", "preferred_username": "kc", "email": "kc@example.org", "name": "Key"}
    return GenericOAuthenticator(), {**RESPONSE, "expires_in": 300}, user


def nbgallery():
    authenticator, response, _ = generic()
    del response["refresh_token"]
    return authenticator, response, {"user_name": "nb", "email": "nb@example.org"}


def gitea():
    authenticator, response, _ = generic()
    user = {"sub": "1", "preferred_username": "tea", "email": "tea@example.org", "name": ""}
    return authenticator, response, user


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
    user = {"eppn": "ci@x.org", "email": "ci@x.org", "name": "Ci"}
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
    user = {"preferred_username": "glo@g.org", "email": "glo@x.org", "name": "Glo"}
    return GlobusOAuthenticator(), response, user


def mediawiki():
    pytest.importorskip("mwoauth")
    from mwoauth import AccessToken, ConsumerToken
    from oauthenticator.mediawiki import MWOAuthenticator

    response = {
        "access_token": AccessToken("the-key", ACCESS),
        "consumer_token": ConsumerToken("c", "s"),
    }
    return MWOAuthenticator(), response, {"username": "Wiki", "sub": 1}


FILE = {"SPAWNER_TOKENS_DIR": "/d", "T_TOKEN_FILE": "/d/t"}
# What the server has of it: a prefix, and names; what says nothing else is the token.
CASES = [
    (github, {"preset": "github"}, "GITHUB TOKEN USER=octo NAME=Octo HOST=github.com"),
    (
        github_with_email,
        {"preset": "github", "url": "https://ghe.example.org"},
        "GITHUB TOKEN USER=octo NAME=Octo EMAIL=octo@example.org HOST=ghe.example.org",
    ),
    (
        gitlab,
        {"preset": "gitlab"},
        "GITLAB TOKEN ACCESS_TOKEN USER=lab EMAIL=lab@example.org NAME=Lab HOST=gitlab.com",
    ),
    (
        bitbucket,
        {"preset": "bitbucket"},
        "BITBUCKET TOKEN USER=bucket NAME=Bucket HOST=bitbucket.org",
    ),
    (google, {"preset": "google"}, "GOOGLE ACCESS_TOKEN USER=g@x.org EMAIL=g@x.org NAME=Goo"),
    (azuread, {"preset": "azuread"}, "AZUREAD ACCESS_TOKEN USER=az@example.org NAME=Az"),
    (
        nbgallery,
        {"preset": "nbgallery", "url": "https://nb.example.org/"},
        "NBGALLERY TOKEN USER=nb EMAIL=nb@example.org URL=https://nb.example.org",
    ),
    (
        gitea,
        {"preset": "gitea", "url": "https://codeberg.org"},
        "GITEA TOKEN USER=tea EMAIL=tea@example.org URL=https://codeberg.org",
    ),
    (generic, {"preset": "oidc"}, "OIDC ACCESS_TOKEN USER=kc EMAIL=kc@example.org NAME=Key"),
    (auth0, {"preset": "oidc"}, "OIDC ACCESS_TOKEN USER=zero EMAIL=zero@example.org NAME=Zero"),
    (cilogon, {"preset": "oidc"}, "OIDC ACCESS_TOKEN USER=ci@x.org EMAIL=ci@x.org NAME=Ci"),
    (globus, {"preset": "globus"}, "GLOBUS ACCESS_TOKEN USER=glo@g.org EMAIL=glo@x.org NAME=Glo"),
    (mediawiki, {"preset": "mediawiki"}, "MEDIAWIKI ACCESS_SECRET ACCESS_KEY=the-key USER=Wiki"),
]


@pytest.mark.parametrize("provider, fields, expected", CASES)
def test_a_preset_reads_what_oauthenticators_class_stores(provider, fields, expected):
    authenticator, response, user_info = provider()
    auth_state = authenticator.build_auth_state_dict(response, user_info)
    auth_state = json.loads(json.dumps(auth_state))  # as the Hub's database gives it back
    (spec,) = parse_tokens({"t": fields}, files=True)
    token = check(select(spec, Login(auth_state), authenticator.scope), 0, 300)
    assert token.reason is None, token.detail
    prefix, *names = expected.split()
    env = [(f"{prefix}_{name}", text) for name, _, text in (each.partition("=") for each in names)]
    assert make_env([token], "/d") == {name: text or ACCESS for name, text in env} | FILE


def stored(provider, preset, requested=None):
    authenticator, response, user_info = provider()
    (spec,) = parse_tokens({"t": {"preset": preset}}, files=True)
    return select(spec, Login(authenticator.build_auth_state_dict(response, user_info)), requested)


def test_an_answer_tells_its_end_and_its_scopes_in_the_providers_own_way():
    lifetime = Lifetime(issued_at=1_000_000, expires_at=1_007_200, total=7200)
    assert stored(gitlab, "gitlab").lifetime == lifetime
    assert stored(bitbucket, "bitbucket", ["repository"]).scopes == ("account",)
    assert stored(github, "github").scopes == ("repo", "gist")  # separated by commas
