"""Who the user is to git: the login's name and address as defaults."""

from pathlib import Path

import pytest
from pytest import param

from ..support.git import TOKEN

# -- identity ----------------------------------------------------------------------------------

GITLAB = {"gitlab_user": {"name": "Lab Rat", "email": "lab@example.org"}}


def test_the_login_gives_the_users_name_and_address_as_defaults(git):
    git.configure({"t": {"preset": "gitlab"}}, GITLAB)
    git.run("init", "repo")
    assert git.run("-C", "repo", "commit", "--allow-empty", "-m", "x") is not None
    assert git.run("-C", "repo", "log", "--format=%an <%ae>") == "Lab Rat <lab@example.org>"


@pytest.mark.parametrize("where", ["~/.gitconfig", "the repository", "the environment"])
def test_what_the_user_says_wins(git, where):
    git.configure({"t": {"preset": "gitlab"}}, GITLAB)
    git.run("init", "repo")
    match where:
        case "~/.gitconfig":
            git.write("[user]\n\tname = Me\n")
        case "the repository":
            git.run("-C", "repo", "config", "user.name", "Me")
        case "the environment":
            git.env["GIT_AUTHOR_NAME"] = "Me"
    git.run("-C", "repo", "commit", "--allow-empty", "-m", "x")
    assert git.run("-C", "repo", "log", "--format=%an <%ae>") == "Me <lab@example.org>"


def test_what_the_image_says_in_its_system_configuration_wins(git, tmp_path):
    git.configure({"t": {"preset": "gitlab"}}, GITLAB)
    path = Path(git.env["GIT_CONFIG_SYSTEM"])
    (tmp_path / "etc").write_text("[user]\n\tname = The Image\n[alias]\n\tx = version\n")
    path.write_text(path.read_text().replace("/etc/gitconfig", str(tmp_path / "etc")))
    assert (git.run("config", "user.name"), git.run("x")[:3]) == ("The Image", "git")
    (tmp_path / "etc").unlink()  # an image without one
    assert git.run("config", "user.name") == "Lab Rat"


def test_a_start_script_may_still_set_the_systems_configuration(git):
    git.configure({"t": {"preset": "gitlab"}}, GITLAB)
    assert git.run("config", "--system", "user.name", "The Script") is not None
    assert git.run("config", "--system", "credential.helper", "store") is not None
    assert (git.run("config", "user.name"), git.run("config", "user.email")) == (
        "The Script",
        "lab@example.org",
    )
    assert git.fill("https://gitlab.com/x") == ("oauth2", TOKEN)


@pytest.mark.parametrize(
    "name",
    [
        "A; B # C",
        'say "hi"',
        "back\\slash\\n",
        "two\nlines",
        "tab\there",
        "cr\rhere\r\nthere",
        " Ä 😀 ",
        "[user]\nemail = x",
        "${HOME} $(id)",
        "]\n[core]\n\tpager = sh",
        "\b\x1b[31m",
        "'" * 3 + "x",
    ],
)
def test_a_hostile_name_is_nothing_but_a_name(git, name):
    git.configure(
        {"t": {"preset": "gitlab"}}, {"gitlab_user": {"name": name, "email": "e@example.org"}}
    )
    listed = git.run(
        "config",
        "-z",
        "--includes",
        "-f",
        git.env["GIT_CONFIG_SYSTEM"],
        "--get-regexp",
        "^(user|core)",
    )
    assert listed.split("\0")[:-1][0:2] == [f"user.name\n{name}", "user.email\ne@example.org"]
    git.run("init", "repo")
    assert git.run("-C", "repo", "commit", "--allow-empty", "-m", "x") is not None


@pytest.mark.parametrize("name", [None, "", " ", ".", "'\"", "\n"])
def test_a_name_that_git_would_not_take_is_left_out(git, name):
    git.configure(
        {"t": {"preset": "gitlab"}}, {"gitlab_user": {"name": name, "email": "e@example.org"}}
    )
    assert (git.run("config", "user.name"), git.run("config", "user.email")) == (
        None,
        "e@example.org",
    )


@pytest.mark.parametrize(
    "preset, auth_state, identity",
    [
        param(
            "github",
            {"github_user": {"id": 1, "login": "octo", "name": "Octo", "email": "o@x"}},
            ("Octo", "o@x"),
            id="github",
        ),
        param(
            "github",
            {"github_user": {"id": 1, "login": "octo", "name": None, "email": None}},
            ("octo", "1+octo@users.noreply.github.com"),
            id="github-private",
        ),
        param(
            "github",
            {"github_user": {"id": 1, "login": "octo", "html_url": "https://ghe.example.org/octo"}},
            ("octo", "1+octo@users.noreply.ghe.example.org"),
            id="enterprise",
        ),
        param("github", {"github_user": {"name": "Octo"}}, ("Octo", None), id="github-without-id"),
        param(
            "gitlab",
            {"gitlab_user": {"name": "Lab", "email": "e@x", "commit_email": "c@x"}},
            ("Lab", "c@x"),
            id="gitlab",
        ),
        param("gitlab", {"gitlab_user": {"name": "Lab", "email": None}}, ("Lab", None)),
        param("google", {"google_user": {"name": "Goo", "email": "g@x"}}, ("Goo", "g@x")),
        param("azuread", {"user": {"name": "Az", "email": "a@x"}}, ("Az", "a@x"), id="azuread"),
        param("oidc", {"auth0_user": {"name": "Zero", "email": "z@x"}}, ("Zero", "z@x"), id="oidc"),
        param(
            "globus",
            {
                "tokens": {"transfer.api.globus.org": {"access_token": "t"}},
                "globus_user": {"name": "Glo", "email": "g@x"},
            },
            ("Glo", "g@x"),
            id="globus",
        ),
        param("bitbucket", {"bitbucket_user": {"display_name": "Bit"}}, (None, None)),
        param("nbgallery", {"oauth_user": {"user_name": "nb", "email": "n@x"}}, (None, None)),
    ],
)
def test_a_preset_that_knows_name_and_address_gives_them(git, preset, auth_state, identity):
    git.configure(
        {
            "t": {"preset": preset}
            | ({"url": "https://nb.example"} if preset == "nbgallery" else {})
        },
        auth_state,
    )
    assert (git.run("config", "user.name"), git.run("config", "user.email")) == identity


def test_an_identity_can_be_read_from_any_keys(git):
    fields = {
        "git_identity": {"name": "oauth_user.full", "email": lambda auth_state: "f@example.org"}
    }
    git.configure({"t": fields}, {"oauth_user": {"full": "Full Name"}})
    assert (git.run("config", "user.name"), git.run("config", "user.email")) == (
        "Full Name",
        "f@example.org",
    )


def test_a_refresh_token_is_no_name(git):
    auth_state = {"refresh_token": "the-refresh-token", "x": "the-refresh-token"}
    git.configure(
        {
            "t": {
                "git_identity": {
                    "name": "x",
                    "email": lambda auth_state: auth_state["refresh_token"],
                }
            }
        },
        auth_state,
    )
    assert "GIT_CONFIG_SYSTEM" not in git.env
