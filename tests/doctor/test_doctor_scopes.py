"""The doctor and what servers may ask the Hub for: by their own scopes, and by what they inherit."""

import pytest
from pytest import param

from ..support.examining import (  # noqa: F401
    GENERIC,
    SOUND,
    append,
    apply_all,
    examine,
    hubs_environment,
    login,
    of,
)

INHERIT = '{"name": "server", "scopes": ["inherit"]}'
LEAST = '{"name": "server", "scopes": ["access:servers!server", "users:activity!user"]}'


def roles(*roles):
    return f"{SOUND}c.JupyterHub.load_roles = [{', '.join(roles)}]\n"


@pytest.mark.parametrize(
    "role",
    [
        param(
            '{"name": "team", "scopes": ["self", "admin:auth_state!user"], "groups": ["team"]}',
            id="of-a-group",
        ),
        param(
            '{"name": "team", "scopes": ["admin:auth_state"], "users": ["alice"]}', id="of-a-user"
        ),
        param(
            '{"name": "team", "scopes": ["admin:users!group=team"], "groups": ["team"], "users": []}',
            id="of-managers",
        ),
    ],
)
def test_what_servers_inherit_from_groups_is_found(examine, role):  # noqa: F811
    config = roles(INHERIT, role)
    _, findings = examine(config)
    (found,) = (finding for finding in findings if finding["level"] == "error")
    assert (
        found["id"] == "servers-read-auth-state"
        and found["level"] == "error"
        and "'team'" in found["what"]
    )
    assert 'or let no servers "inherit"' in found["fix"][0]["text"]
    for mended in (append(config, found["fix"]), roles(LEAST, role), roles(role)):
        assert not of(examine(mended)[1], "error")
        assert of(examine(mended)[1], "warning") == ["servers-inherit"] * ("inherit" in mended)
    by_trait = roles(role) + 'c.Spawner.server_token_scopes = ["inherit"]\n'
    assert of(examine(by_trait)[1], "error") == ["servers-read-auth-state"]


def test_what_no_server_inherits_is_left_alone(examine):  # noqa: F811
    service = '{"name": "culler", "scopes": ["admin:users"], "services": ["culler"]}'
    harmless = '{"name": "team", "scopes": ["read:users!group=team"], "groups": ["team"]}'
    assert {finding["level"] for finding in examine(roles(LEAST, service, harmless))[1]} == {"ok"}


def test_the_lines_for_several_roles_are_one(examine):  # noqa: F811
    role = '{{"name": "{0}", "scopes": ["admin:auth_state!user"], "groups": ["{0}"]}}'
    config = roles(
        '{"name": "server", "scopes": ["inherit", "admin:users"]}',
        role.format("a"),
        role.format("b"),
    )
    _, findings = examine(config)
    assert of(findings, "error") == ["servers-read-auth-state"] * 3
    assert not of(examine(apply_all(config, findings))[1], "error")


@pytest.mark.parametrize("trait", ["server_token_scopes", "oauth_client_allowed_scopes"])
def test_of_a_function_that_grants_scopes_nothing_is_claimed(examine, trait):  # noqa: F811
    function = f"c.Spawner.{trait} = lambda spawner: print('the-client-secret') or 1 / 0\n"
    status, findings = examine(SOUND + function)
    (told,) = (finding["what"] for finding in findings if finding["id"] == "servers-scopes")
    assert (
        status == 0
        and told
        == f"What Spawner.{trait} grants to servers is not known: it is a function, and not run."
    )
    assert of(
        examine(roles('{"name": "server", "scopes": ["admin:users"]}') + function)[1], "error"
    ) == ["servers-read-auth-state"]


def test_a_function_is_no_list_of_required_scopes(examine):  # noqa: F811
    config = SOUND.replace(
        '"preset": "gitlab"', '"preset": "gitlab", "required_scopes": lambda auth_state: ["api"]'
    )
    assert of(examine(config)[1], "error") == ["spec-wrong"]


def test_of_contradictory_scopes_no_line_asks_for_more(examine):  # noqa: F811
    spec = '{"x": {"required_scopes": ["api"], "forbidden_scopes": ["api"]}}'
    config = SOUND.replace('{"gitlab": {"preset": "gitlab"}}', spec)
    status, findings = examine(config)
    assert of(findings, "error") == ["scopes-contradictory"]
    assert {finding["level"] for finding in examine(apply_all(config, findings))[1]} == {"ok"}
    asked = config.replace('"read_repository"]', '"api"]')
    _, findings = examine(asked)
    assert set(of(findings, "error")) == {"scopes-contradictory", "scopes-forbidden-asked"}
    assert {finding["level"] for finding in examine(apply_all(asked, findings))[1]} == {"ok"}


@pytest.mark.parametrize(
    "client_id, asked, required, kept",
    [
        param("Iv1.0123456789abcdef", ["repo"], ["repo"], [], id="an App's tokens have none"),
        param(
            "0123456789abcdef0123",
            ["user"],
            ["read:user", "user:email"],
            ["user"],
            id="a whole names no parts",
        ),
    ],
)
def test_scopes_that_github_does_not_name_are_not_required(
    examine, client_id, asked, required, kept
):  # noqa: F811
    config = login("github", "github", asked).replace("Iv1.0123456789abcdef", client_id)
    config = config.replace(
        '"preset": "github"', f'"preset": "github", "required_scopes": {required!r}'
    )
    (found,) = (finding for finding in examine(config)[1] if finding["level"] == "error")
    assert found["id"] == "scopes-never-named"
    assert found["fix"][0]["text"].endswith(f"= {kept!r}".replace("'", '"'))
    assert of(examine(append(config, found["fix"]))[1], "error") == []


@pytest.mark.parametrize("scopes", ["[]", '["read"]'])
def test_a_plain_oauth_2_provider_is_not_asked_for_scopes_of_openid(examine, scopes):  # noqa: F811
    config = GENERIC.replace('["openid", "email", "offline_access"]', scopes)
    assert {finding["level"] for finding in examine(config)[1]} == {"ok"}
