"""The doctor and logins of other classes than the provider's own: it knows providers by their addresses."""

from textwrap import dedent

import pytest
from pytest import param

from ..support.examining import SOUND, append, examine, find_one, hubs_environment, login, of  # noqa: F401

GITLAB = (
    "https://gitlab.com/oauth/authorize",
    "https://gitlab.com/oauth/token",
    "https://gitlab.com/oauth/userinfo",
)
OWN_GITLAB = (
    "https://gitlab.example.org/oauth/authorize",
    "https://gitlab.example.org/oauth/token",
    "",
)
HIDDEN_GITLAB = ("https://code.example.org/oauth/authorize", "https://code.example.org/oauth/token")
GITHUB = (
    "https://github.com/login/oauth/authorize",
    "https://github.com/login/oauth/access_token",
    "",
)
OWN_GITHUB = (
    "https://git.example.org/login/oauth/authorize",
    "https://git.example.org/login/oauth/access_token",
)
GOOGLE = ("https://accounts.google.com/o/oauth2/v2/auth", "https://oauth2.googleapis.com/token", "")
AZURE = tuple(
    f"https://login.microsoftonline.com/tenant/oauth2/v2.0/{end}" for end in ("authorize", "token")
) + ("",)
BITBUCKET = (
    "https://bitbucket.org/site/oauth2/authorize",
    "https://bitbucket.org/site/oauth2/access_token",
    "",
)
KEYCLOAK = tuple(
    f"https://sso.example.org/realms/r/protocol/openid-connect/{end}"
    for end in ("auth", "token", "userinfo")
)
AUTH0 = (
    "https://t.auth0.com/authorize",
    "https://t.auth0.com/oauth/token",
    "https://t.auth0.com/userinfo",
)


def generic(urls, scope, preset="oidc", cls="generic-oauth"):
    """A config for GenericOAuthenticator with these addresses."""
    names = ("authorize_url", "token_url", "userdata_url")
    lines = [f"c.GenericOAuthenticator.{name} = {url!r}" for name, url in zip(names, urls)]
    return "\n".join(
        [
            f'c.JupyterHub.authenticator_class = "{cls}"',
            *lines,
            f"c.GenericOAuthenticator.scope = {scope!r}",
            'c.GenericOAuthenticator.client_id = "Iv1.0123456789abcdef"',
            "c.Authenticator.enable_auth_state = True",
            'c.JupyterHub.spawner_class = "tokens-simple"',
            f'c.TokenSpawnerMixin.tokens = {{"t": {{"preset": "{preset}"}}}}',
            "",
        ]
    )


READING = 'scope = ["read_user", "read_repository"]'


@pytest.mark.parametrize("cls", ["generic-oauth", "local-generic-oauth"])
@pytest.mark.parametrize(
    "urls, scope, id, fix",
    [
        param(GITLAB, ["api"], "scopes-too-powerful", READING, id="gitlab"),
        param(GITLAB, [], "scopes-too-powerful", READING, id="gitlab-default"),
        param(OWN_GITLAB, [], "scopes-too-powerful", READING, id="own-gitlab"),
        param(
            (*HIDDEN_GITLAB, "https://code.example.org/api/v4/user"),
            [],
            "scopes-too-powerful",
            READING,
            id="by-its-api",
        ),
        param(
            GITHUB,
            ["repo"],
            "scopes-too-powerful",
            'scope = ["read:user", "user:email"]',
            id="github",
        ),
        param(
            (*OWN_GITHUB, "https://git.example.org/api/v3/user"),
            ["repo"],
            "scopes-too-powerful",
            'scope = ["read:user", "user:email"]',
            id="github-enterprise",
        ),
        param(
            BITBUCKET,
            ["repository:admin"],
            "scopes-too-powerful",
            'scope = ["account", "repository"]',
            id="bitbucket",
        ),
        param(
            GOOGLE,
            ["openid", "email"],
            "refresh-token-not-asked",
            'extra_authorize_params = {"access_type": "offline", "prompt": "consent"}',
            id="google",
        ),
        param(
            AZURE,
            ["User.Read"],
            "refresh-token-not-asked",
            'scope = ["User.Read", "offline_access"]',
            id="azure",
        ),
        param(
            AUTH0,
            ["openid"],
            "refresh-token-not-asked",
            'scope = ["openid", "offline_access"]',
            id="auth0",
        ),
    ],
)
def test_a_provider_is_known_by_its_addresses(examine, urls, scope, id, fix, cls):  # noqa: F811
    config = generic(urls, scope, cls=cls)
    _, findings = examine(config)
    (found,) = (finding for finding in findings if finding["level"] != "ok")
    (line,) = (
        part["text"].partition("  #")[0] for part in found["fix"] if part["kind"] == "config"
    )
    assert found["id"] == id and line.replace("c.Local", "c.") == f"c.GenericOAuthenticator.{fix}"
    assert {finding["level"] for finding in examine(append(config, found["fix"]))[1]} == {"ok"}


@pytest.mark.parametrize(
    "urls, scope",
    [
        param(GITLAB, ["openid", "read_user"], id="gitlab-refreshes-unasked"),
        param(BITBUCKET, [], id="bitbucket-grants-what-the-consumer-has"),
        param(KEYCLOAK, ["openid"], id="keycloak-refreshes-unasked"),
        param(
            (GOOGLE[0] + "?access_type=offline&prompt=consent", *GOOGLE[1:]),
            ["openid"],
            id="google-asked-in-the-address",
        ),
        param(("", "", ""), ["email"], id="no-addresses"),
        param(("https://[sso", "https://[sso", ""), ["email"], id="no-addresses-but-texts"),
    ],
)
def test_nothing_is_asked_of_a_provider_that_it_does_not_know(examine, urls, scope):  # noqa: F811
    assert {finding["level"] for finding in examine(generic(urls, scope))[1]} == {"ok"}


@pytest.mark.parametrize(
    "urls, preset, fix",
    [
        # git is the preset's
        param(
            GITLAB,
            "gitlab",
            '["variables"] = {"GITLAB_USER": "oauth_user.username", ',
            id="its-own",
        ),
        param(GITLAB, "github", '["preset"] = "oidc"', id="another-one"),
        param(
            GOOGLE, "google", '["variables"] = {"GOOGLE_USER": "oauth_user.email", ', id="google"
        ),
    ],
)
def test_companions_are_found_where_the_class_keeps_them(examine, urls, preset, fix):  # noqa: F811
    config = generic(urls, ["openid", "email"], preset)
    found = find_one(examine(config)[1], "variable-never-stored")
    assert found["fix"][0]["text"].startswith(f'c.TokenSpawnerMixin.tokens["t"]{fix}')
    assert "variable-never-stored" not in of(examine(append(config, found["fix"]))[1], "warning")


def test_the_proposed_token_is_one_whose_companions_the_class_keeps(examine):  # noqa: F811
    config = generic(GITLAB, ["read_user"]).replace('{"t": {"preset": "oidc"}}', "{}")
    found = find_one(examine(config)[1], "tokens-none")
    assert {finding["level"] for finding in examine(append(config, found["fix"]))[1]} == {"ok"}


# -- the admin's own class -----------------------------------------------------------------------

OWN = """
from oauthenticator.github import GitHubOAuthenticator
class Mine(GitHubOAuthenticator):
    {kind} {name}(self, *arguments, **given):
        return {awaited} super().{name}(*arguments, **given)
c.JupyterHub.authenticator_class = Mine
"""


@pytest.mark.parametrize(
    "name",
    [
        *(
            "build_access_tokens_request_params",
            "build_token_info_request_headers",
            "build_refresh_token_request_params",
        ),
        *(
            "get_token_info",
            "token_to_user",
            "httpfetch",
            "build_auth_state_dict",
            "update_auth_model",
            "authenticate",
        ),
    ],
)
def test_of_a_login_that_may_bring_more_no_key_is_called_missing(examine, name):  # noqa: F811
    config = login("github", "github").replace('{"preset": "github"}', '{"key": "id_token"}')
    assert of(examine(config)[1], "error") == ["key-never-stored"]
    synchronous = name.startswith("build_")
    own = OWN.format(
        kind="def" if synchronous else "async def",
        awaited="" if synchronous else "await",
        name=name,
    )
    assert of(examine(config + own)[1], "error") == []


@pytest.mark.parametrize(
    "name", ["check_allowed", "user_info_to_username", "get_user_groups", "pre_spawn_start"]
)
def test_what_brings_nothing_to_a_login_hides_no_error(examine, name):  # noqa: F811
    config = SOUND.replace('"preset": "gitlab"', '"key": "acess_token"')
    own = (
        dedent(OWN.format(kind="def", awaited="", name=name))
        .replace("github", "gitlab")
        .replace("GitHub", "GitLab")
    )
    assert of(examine(config + own)[1], "error") == ["key-never-stored"]
