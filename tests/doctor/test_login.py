"""Findings of the login: tokens that are not kept, not found, not asked for or not renewed."""

import secrets

import pytest

from ..support.examining import (
    GENERIC,
    KEY,
    KUBERNETES,
    SCOPES,
    SOUND,
    check_case,
    find_one,
    list_cases,
    login,
    of,
    spec,
)

NBGALLERY = GENERIC.replace(
    '"preset": "oidc"', '"preset": "nbgallery", "url": "https://nb.example.org"'
)
OKTA = GENERIC.replace("sso.example.org", "dev-1.okta.com")
KEYCLOAK = (
    KUBERNETES
    + GENERIC.replace("https://sso.example.org/token", "https://s/protocol/openid-connect/token")
    + 'c.JupyterHub.spawner_class = "tokens-kubespawner"\n'
)

AUDIENCE = {"exchange": {"audience": "eos"}}
STS = {**AUDIENCE["exchange"], "token_url": "https://sts.example.org", "client_id": "mine"}
OBO = {"exchange": {"type": "azure-obo", "scope": "https://graph.microsoft.com/Files.Read"}}
V1 = {**OBO["exchange"], "token_url": "https://login.example.org/x/oauth2/token"}
V2 = "c.AzureAdOAuthenticator.token_url = 'https://login.microsoftonline.com/x/oauth2/v2.0/token'"
SECRET = 'c.GenericOAuthenticator.client_secret = "the-client-secret"\n'
EXCHANGE = GENERIC.replace('"preset": "oidc"', '"exchange": {"audience": "eos"}') + SECRET
OWN = EXCHANGE.replace('"eos"', '"eos", "client_id": "mine", "client_secret": "the-client-secret"')
MULTI = """
from multiauthenticator import MultiAuthenticator
from oauthenticator.generic import GenericOAuthenticator
c.JupyterHub.authenticator_class = MultiAuthenticator
given = {"authenticator_class": GenericOAuthenticator, "url_prefix": "/a"}
c.MultiAuthenticator.authenticators = [{**given, "config": {"token_url": "https://t"}}]
"""

CASES = {
    "auth-state-off": [
        (SOUND.replace("enable_auth_state = True", "enable_auth_state = False"), SOUND),
        (SOUND + "c.GitLabOAuthenticator.enable_auth_state = False\n", SOUND),
    ],
    "crypt-key-bad": [
        (SOUND + 'c.CryptKeeper.keys = ["not-a-key-at-all"]\n', SOUND),
        (SOUND + f'c.CryptKeeper.keys = ["{secrets.token_hex(32)}", "tooshort"]\n', SOUND),
        (SOUND + "c.CryptKeeper.n_threads = 0\n", SOUND + "c.CryptKeeper.n_threads = 2\n"),
    ],
    "login-without-tokens": [(SOUND.replace('"gitlab"\n', '"dummy"\n'), SOUND)],
    "key-never-stored": [
        (spec('"key": "acces_token"'), SOUND),
        (spec('"key": "token_info.access_token"'), spec('"key": "token_response.anything"')),
        (
            login("globus", {"preset": "globus", "key": "access_token"}),
            login("globus"),
        ),
        (login("github", {"key": "id_token"}), login("github")),
        (login("mediawiki", {"key": "access_token"}), login("mediawiki")),
    ],
    "id-token-not-asked": [
        (
            spec('"key": "id_token"'),
            spec('"key": "id_token"').replace(SCOPES, '["openid"]'),
        )
    ],
    "scopes-not-asked": [
        (spec('"required_scopes": "write_repository"'), spec('"required_scopes": "read_user"')),
        (
            login(
                "bitbucket", {"required_scopes": "pullrequest"}, "c.OAuthenticator.scope = ['a']"
            ),
            login("bitbucket", {"required_scopes": "pullrequest"}),  # as the consumer is registered
        ),
        (
            login("google", {"required_scopes": "drive"}),
            login(
                "google",
                {"required_scopes": "https://www.googleapis.com/auth/userinfo.email"},
                'c.OAuthenticator.scope = ["openid", "email"]',
            ),
        ),
    ],
    "scopes-forbidden-asked": [
        (spec('"forbidden_scopes": ["read_user"]'), spec('"forbidden_scopes": ["api"]')),
        (
            spec('"forbidden_scopes": ["api"]').replace(SCOPES, "[]"),
            spec('"forbidden_scopes": ["api"]'),
        ),
    ],
    "scopes-too-powerful": [
        (SOUND.replace('"read_repository"]', '"api", "sudo"]'), SOUND),
        (SOUND.replace(SCOPES, "[]"), SOUND),
        (
            SOUND.replace(SCOPES, '["api"]'),
            spec('"required_scopes": ["api"]').replace(SCOPES, '["api"]'),
        ),
        (
            login("github", more='c.OAuthenticator.scope = ["repo", "admin:org"]'),
            login("github", more='c.OAuthenticator.scope = ["read:user"]'),
        ),
        (
            login("bitbucket", more='c.OAuthenticator.scope = ["repository:admin"]'),
            login("bitbucket", more='c.OAuthenticator.scope = ["account"]'),
        ),
        (GENERIC.replace('"email"', '"admin:everything"'), GENERIC),
    ],
    "refresh-token-not-asked": [
        (
            login("google"),
            login(
                "google",
                more='c.OAuthenticator.extra_authorize_params = {"access_type": "offline"}',
            ),
        ),
        (login("google"), login("google", more="c.Spawner.tokens_renew = False")),
        (login("azuread"), login("azuread", more='c.OAuthenticator.scope = ["offline_access"]')),
        (OKTA.replace(', "offline_access"', ""), OKTA),
    ],
    "refresh-token-never": [
        (
            login("github", more='c.GitHubOAuthenticator.client_id = "0123456789abcdef0123"'),
            login("github", more='c.GitHubOAuthenticator.client_id = "Iv23liABCDEFGHIJKLMN"'),
        ),
        (NBGALLERY, NBGALLERY + 'c.Spawner.tokens_missing = "refuse"\n'),
    ],
    "refresh-fails": [
        (
            login("mediawiki"),
            login(
                "mediawiki",
                more="c.Authenticator.refresh_pre_spawn = False\n"
                "c.Authenticator.auth_refresh_age = 0",
            ),
        )
    ],
    "lifetime-too-short": [
        (KEYCLOAK.replace("period = 90", "period = 150"), KEYCLOAK.replace("= 90", "= 120"))
    ],
    "exchange-without-oauth": [
        (EXCHANGE.replace('"generic-oauth"', '"dummy"'), EXCHANGE),
        (login("mediawiki", AUDIENCE), login("mediawiki", {"exchange": STS})),
    ],
    "exchange-not-offered": [
        (login("github", AUDIENCE), login("github", {"exchange": STS})),
        (spec('"exchange": {"audience": "eos"}'), SOUND),
        (EXCHANGE.replace("sso.example.org/auth", "accounts.google.com/o"), EXCHANGE),
        (login("azuread", AUDIENCE), login("azuread", OBO)),
        (login("globus", OBO), login("globus")),
    ],
    "exchange-without-secret": [
        (EXCHANGE.replace(SECRET, ""), EXCHANGE),
        (EXCHANGE.replace(SECRET, ""), OWN.replace(SECRET, "")),
        (
            OWN.replace(', "client_secret": "the-client-secret"', ""),
            EXCHANGE.replace(SECRET, "c.OAuthenticator.http_request_kwargs = {'client_cert': 'x'}"),
        ),
        (
            login("azuread", OBO, "c.AzureAdOAuthenticator.client_secret = ''"),
            login("azuread", OBO),
            "error",
        ),
    ],
    "exchange-without-v2": [
        (login("azuread", OBO), login("azuread", OBO, V2)),
        (
            login("azuread", {"exchange": V1}),
            login("azuread", {"exchange": {**V1, "token_url": V2.split("'")[1]}}),
        ),
    ],
}


@pytest.mark.parametrize("id, case", list_cases(CASES))
def test_a_broken_config_has_the_finding_and_the_mended_one_has_not(examine, cluster, id, case):
    check_case(examine, id, *case)


def test_without_a_crypt_key_the_printed_command_makes_one(examine, monkeypatch):
    monkeypatch.delenv(KEY)
    status, findings = examine(SOUND)
    assert of(findings, "error") == ["crypt-key-missing"]
    assert find_one(findings, "crypt-key-missing")["fix"].startswith(
        f"export {KEY}=$(openssl rand -hex 32)"
    )


@pytest.mark.parametrize(
    "config",
    [EXCHANGE, EXCHANGE + MULTI, login("github", {"exchange": STS})],
    ids=["generic", "multi", "own-address"],
)
def test_what_a_provider_that_is_not_known_exchanges_is_not_looked_at(examine, config):
    if config.endswith(MULTI):
        pytest.importorskip("multiauthenticator")
    status, findings = examine(config)
    assert status == 0 and "grant_types_supported" in find_one(findings, "exchanges")["what"]


def test_azures_exchange_is_in_order(examine):
    status, findings = examine(login("azuread", OBO, V2))
    assert status == 0 and {"exchanges", "exchange-clients"} <= {*of(findings, "ok")}
