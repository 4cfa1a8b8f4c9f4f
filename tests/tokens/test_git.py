"""git's configuration: what is made of tokens, and what a real git makes of that."""

import shutil
import subprocess
from pathlib import Path

import pytest
from pytest import param

from spawner_tokens.tokens.git import make_config, make_system_config, make_variables
from spawner_tokens.tokens.selection import Login, select
from spawner_tokens.tokens.spec import parse_tokens

from ..support.git import TOKEN

# -- credentials -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields, url, username",
    [
        param({"preset": "github"}, "https://github.com/o/r.git", "x-access-token", id="github"),
        param(
            {"preset": "github", "url": "https://ghe.example.org"},
            "https://ghe.example.org/o/r",
            "x-access-token",
        ),
        param({"preset": "gitlab"}, "https://gitlab.com/g/p.git", "oauth2", id="gitlab"),
        param(
            {"preset": "gitlab", "url": "http://127.0.0.1:8080/"},
            "http://127.0.0.1:8080/g/p",
            "oauth2",
            id="port",
        ),
        param(
            {"preset": "gitlab", "url": "https://example.org:8443/git/lab"},
            "https://example.org:8443/git/lab/g/p.git",
            "oauth2",
            id="port-and-path",
        ),
        param({"preset": "bitbucket"}, "https://octo@bitbucket.org/w/r.git", "x-token-auth"),
        param({"git": "https://[::1]:8443"}, "https://[::1]:8443/r", "oauth2", id="ipv6"),
        param(
            {
                "git": ["https://a.example", "https://b.example"],
                "git_username": "it's me; $HOME\\n",
            },
            "https://b.example/r",
            "it's me; $HOME\\n",
            id="hostile-user-name",
        ),
    ],
)
@pytest.mark.parametrize("files", [True, False], ids=["file", "variable"])
def test_git_gets_the_token_for_the_providers_repositories(git, fields, url, username, files):
    git.configure({"t": {"env": "T", **fields}}, files=files)
    git.env["T"] = TOKEN
    assert git.fill(url) == (username, TOKEN)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.org/git/lab/g/p.git",  # another port
        "http://example.org:8443/git/lab/g/p.git",
        "https://example.org:8443/git/labels/g/p.git",
        "https://example.org:8443/git/p.git",
        "https://sub.example.org:8443/git/lab/g/p.git",
        "https://example.org.evil.example:8443/git/lab/g/p.git",
        "https://evil.example/https://example.org:8443/git/lab/g/p.git",
        "https://example.org:8443@evil.example/git/lab/g/p.git",
    ],
)
def test_any_other_place_gets_nothing(git, url):
    git.configure({"t": {"preset": "gitlab", "url": "https://example.org:8443/git/lab"}})
    assert git.fill("https://example.org:8443/git/lab/g/p.git") is not None
    assert TOKEN not in (git.fill(url) or ())


def test_several_tokens_go_each_to_its_own_place(git):
    tokens = {
        "outer": {"git": "https://h.example", "key": "outer"},
        "inner": {"git": "https://h.example/inner", "key": "inner"},
        "other": {"git": ["https://o.example", "https://p.example"]},
    }
    for order in (list(tokens), list(reversed(tokens))):
        git.configure({name: tokens[name] for name in order}, {"outer": "o", "inner": "i"})
        assert git.fill("https://h.example/x") == ("oauth2", "o")
        assert git.fill("https://h.example/inner/x") == ("oauth2", "i")
        assert (
            git.fill("https://o.example/x") == git.fill("https://p.example/x") == ("oauth2", TOKEN)
        )


def test_git_lfs_which_asks_without_a_path_finds_the_helper(git):
    git.configure({"a": {"git": "https://a.example"}, "b": {"git": "https://b.example/gitlab"}})
    assert git.fill("https://a.example") == ("oauth2", TOKEN)
    # git-lfs sends the path where this says so
    assert (
        git.run("config", "--get-urlmatch", "credential.usehttppath", "https://b.example/gitlab/x")
        == "true"
    )
    assert (
        git.run("config", "--get-urlmatch", "credential.usehttppath", "https://a.example/x") is None
    )


def test_the_token_is_looked_up_at_each_use(git):
    git.configure({"t": {"preset": "gitlab"}})
    (git.tokens / "t").write_text("renewed")
    assert git.fill("https://gitlab.com/x") == ("oauth2", "renewed")
    (git.tokens / "t").unlink()
    assert git.fill("https://gitlab.com/x") is None


@pytest.mark.parametrize("value", ["$HOME `id` \\n %s", "'\"\\", "é😀", "-n", "a=b=c"])
@pytest.mark.parametrize("files", [True, False], ids=["file", "variable"])
def test_a_hostile_token_comes_through_as_it_is(git, value, files):
    git.configure({"t": {"preset": "gitlab"}}, {"access_token": value}, files=files)
    git.env["GITLAB_TOKEN"] = value
    assert git.fill("https://gitlab.com/x") == ("oauth2", value)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
@pytest.mark.parametrize("files", [True, False], ids=["file", "variable"])
def test_the_helper_is_plain_sh_and_answers_nothing_but_get(git, need, shell, files):
    need(shutil.which(shell), shell)
    git.configure({"t": {"preset": "gitlab"}}, files=files)
    helper = git.env["GIT_CONFIG_VALUE_1"].removeprefix("!")
    env = git.env | {"GITLAB_TOKEN": TOKEN}
    for verb, answer in (
        ("get", f"username=oauth2\npassword={TOKEN}\n"),
        ("store", ""),
        ("erase", ""),
    ):
        command = [shell, *(["sh"] if shell == "busybox" else []), "-c", f"{helper} {verb}"]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == (answer, "")


@pytest.mark.parametrize("files", [True, False], ids=["file", "variable"])
def test_no_token_is_in_the_configuration(git, files):
    git.configure(
        {"t": {"preset": "gitlab"}}, {"gitlab_user": {"name": "A", "email": "a@b"}}, files=files
    )
    assert TOKEN not in str(git.env) and TOKEN not in Path(git.env["GIT_CONFIG_SYSTEM"]).read_text()


def test_a_token_that_is_withheld_leaves_git_to_the_users_own_helpers(git):
    git.write('[credential]\n\thelper = "!f() { echo username=me; echo password=mine; }; f"\n')
    (token,) = (
        select(spec, Login({})) for spec in parse_tokens({"t": {"preset": "gitlab"}}, files=True)
    )
    assert make_config([token], "/d") == []
    assert git.fill("https://gitlab.com/x") == ("me", "mine")


def test_a_users_helper_neither_keeps_our_token_nor_is_it_asked(git):
    git.write("[credential]\n\thelper = store\n")
    (git.home / ".git-credentials").write_text(
        "https://me:old@gitlab.com\nhttps://me:mine@other.example\n"
    )
    git.configure({"t": {"preset": "gitlab"}})
    assert git.fill("https://gitlab.com/x") == ("oauth2", TOKEN)
    approved = f"protocol=https\nhost=gitlab.com\nusername=oauth2\npassword={TOKEN}\n\n"
    git.run("credential", "approve", text=approved)
    assert TOKEN not in (git.home / ".git-credentials").read_text()
    assert git.fill("https://other.example/x") == ("me", "mine")
    # The search can find: with the user's helper alone, it is kept.
    git.env.pop("GIT_CONFIG_COUNT")
    git.run("credential", "approve", text=approved)
    assert TOKEN in (git.home / ".git-credentials").read_text()


def test_a_user_can_still_choose_another_helper_for_a_call(git):
    git.configure({"t": {"preset": "gitlab"}})
    mine = "credential.helper=!f() { echo username=me; echo password=mine; }; f"
    answer = git.run(
        "-c",
        "credential.helper=",
        "-c",
        mine,
        "credential",
        "fill",
        text="url=https://gitlab.com/x\n\n",
    )
    assert "username=me\npassword=mine" in answer


# -- addresses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, address, rewritten",
    [
        param("https://gitlab.com", "git@gitlab.com:g/p.git", "https://gitlab.com/g/p.git"),
        param("https://gitlab.com", "ssh://git@gitlab.com/g/p.git", "https://gitlab.com/g/p.git"),
        param("https://gitlab.com", "https://gitlab.com/g/p.git", "https://gitlab.com/g/p.git"),
        param("https://h.example:8443", "git@h.example:g/p", "https://h.example:8443/g/p"),
        param("https://H.example/gitlab", "git@h.example:g/p", "https://h.example/gitlab/g/p"),
        param("https://[::1]:8443", "git@[::1]:g/p", "https://[::1]:8443/g/p", id="ipv6"),
        param("https://gitlab.com", "git@gitlab.com.evil:g/p", "git@gitlab.com.evil:g/p"),
        param("https://gitlab.com", "me@gitlab.com:g/p", "me@gitlab.com:g/p", id="another-user"),
        param("https://h.example", "ssh://git@h.example:2222/p", "ssh://git@h.example:2222/p"),
    ],
)
def test_addresses_for_ssh_become_the_providers_own(git, url, address, rewritten):
    git.configure({"t": {"preset": "gitlab", "url": url}})
    assert git.rewrite(address) == rewritten


def test_a_users_own_rewriting_wins(git):
    git.configure({"t": {"preset": "github"}})
    git.write(
        '[url "git@github.com:"]\n\tinsteadOf = git@github.com:\n\tinsteadOf = https://github.com/\n'
    )
    assert (
        git.rewrite("git@github.com:o/r")
        == git.rewrite("https://github.com/o/r")
        == "git@github.com:o/r"
    )


# -- the environment ---------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["2", 2])
def test_entries_that_are_there_already_stay(git, count):
    theirs = {"GIT_CONFIG_COUNT": count, "GIT_CONFIG_KEY_0": "a.b", "GIT_CONFIG_VALUE_0": "c"}
    theirs |= {"GIT_CONFIG_KEY_1": "credential.helper", "GIT_CONFIG_VALUE_1": "store"}
    git.env |= {name: str(value) for name, value in theirs.items()}
    git.configure({"t": {"preset": "gitlab"}}, env=theirs)
    assert git.env["GIT_CONFIG_COUNT"] == "6"
    assert (git.run("config", "a.b"), git.fill("https://gitlab.com/x")) == ("c", ("oauth2", TOKEN))


@pytest.mark.parametrize("count", ["", "no number", None])
def test_a_count_that_git_cannot_read_counts_nothing(count):
    assert make_variables([("a.b", "c")], {"GIT_CONFIG_COUNT": count}) == {
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "a.b",
        "GIT_CONFIG_VALUE_0": "c",
    }


def test_without_a_token_for_git_there_is_nothing_of_it():
    specs = parse_tokens(
        {"t": {}, "off": {"preset": "gitlab", "git": None, "git_identity": False}}, files=True
    )
    tokens = [
        select(spec, Login({"access_token": TOKEN, "gitlab_user": {"name": "A"}})) for spec in specs
    ]
    assert make_variables(make_config(tokens, "/d"), {}) == {}
    assert make_system_config(tokens) is None


def test_a_part_of_a_host_leaves_the_addresses_of_the_host_alone(git):
    git.configure({"github": {"preset": "github", "git": "https://github.com/my-org"}})
    assert git.fill("https://github.com/my-org/r") and not git.fill(
        "https://github.com/torvalds/linux"
    )
    assert git.rewrite("git@github.com:torvalds/linux") == "git@github.com:torvalds/linux"
