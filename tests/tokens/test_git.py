"""git's configuration: what is made of tokens, and what a real git makes of that."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pytest import param

import spawner_tokens
from spawner_tokens.tokens.git import make_config, make_system_config, make_variables
from spawner_tokens.tokens.selection import select
from spawner_tokens.tokens.spec import parse_tokens

TOKEN = "the-t0ken"
OLD_GIT = Path(spawner_tokens.__file__).with_name("old-git.sh")


class Git:
    """git in a home of its own, with an environment as a server has it."""

    def __init__(self, folder):
        self.home, self.tokens = folder / "home", folder / "it's the tokens"
        self.home.mkdir()
        self.tokens.mkdir()
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "GIT_TERMINAL_PROMPT": "0"}

    def configure(self, tokens, auth_state=None, files=True, env=None):
        specs = parse_tokens(tokens, files=files)
        picked = [select(spec, {"access_token": TOKEN, **(auth_state or {})}) for spec in specs]
        for token in picked:
            if files:
                (self.tokens / token.spec.name).write_text(token.text)
        config = make_config(picked, str(self.tokens) if files else None)
        self.env |= make_variables(config, env or {})
        if contents := make_system_config(picked):
            (self.home.parent / "gitconfig").write_bytes(contents)
            self.env["GIT_CONFIG_SYSTEM"] = str(self.home.parent / "gitconfig")

    def write(self, text):
        """The user's own configuration."""
        (self.home / ".gitconfig").write_text(text)

    def run(self, *arguments, text=None):
        done = subprocess.run(
            ["git", *arguments],
            env=self.env,
            input=(text or "").encode(),
            capture_output=True,
            cwd=self.home,
        )
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def fill(self, url):
        """What git, and git-lfs, get for this URL: user name and password."""
        answer = self.run("credential", "fill", text=f"url={url}\n\n")
        lines = dict(line.split("=", 1) for line in (answer or "").splitlines())
        return answer and (lines["username"], lines["password"])

    def rewrite(self, url):
        return self.run("ls-remote", "--get-url", url)


@pytest.fixture
def git(tmp_path):
    return Git(tmp_path)


@pytest.fixture
def old_git(tmp_path, monkeypatch):
    """A git that reads none of the variables that came with 2.31 and 2.32."""
    (tmp_path / "bin").mkdir()
    command = tmp_path / "bin" / "git"
    command.write_text(
        f'#!/bin/sh\nunset GIT_CONFIG_COUNT GIT_CONFIG_SYSTEM\nexec {shutil.which("git")} "$@"\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


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
        param(
            {"preset": "bitbucket"},
            "https://octo@bitbucket.org/w/r.git",
            "x-token-auth",
            id="bitbucket-with-user",
        ),
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
    (token,) = (select(spec, {}) for spec in parse_tokens({"t": {"preset": "gitlab"}}, files=True))
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
        param(
            "https://gitlab.com",
            "git@gitlab.com:g/p.git",
            "https://gitlab.com/g/p.git",
            id="scp-like",
        ),
        param(
            "https://gitlab.com",
            "ssh://git@gitlab.com/g/p.git",
            "https://gitlab.com/g/p.git",
            id="ssh",
        ),
        param(
            "https://gitlab.com",
            "https://gitlab.com/g/p.git",
            "https://gitlab.com/g/p.git",
            id="https",
        ),
        param(
            "https://h.example:8443", "git@h.example:g/p", "https://h.example:8443/g/p", id="port"
        ),
        param(
            "https://H.example/gitlab",
            "git@h.example:g/p",
            "https://h.example/gitlab/g/p",
            id="path",
        ),
        param("https://[::1]:8443", "git@[::1]:g/p", "https://[::1]:8443/g/p", id="ipv6"),
        param(
            "https://gitlab.com",
            "git@gitlab.com.evil:g/p",
            "git@gitlab.com.evil:g/p",
            id="another-host",
        ),
        param("https://gitlab.com", "me@gitlab.com:g/p", "me@gitlab.com:g/p", id="another-user"),
        param(
            "https://h.example",
            "ssh://git@h.example:2222/p",
            "ssh://git@h.example:2222/p",
            id="another-ssh-server",
        ),
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
    tokens = [select(spec, {"access_token": TOKEN, "gitlab_user": {"name": "A"}}) for spec in specs]
    assert make_variables(make_config(tokens, "/d"), {}) == {}
    assert make_system_config(tokens) is None


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
        param(
            "gitlab",
            {"gitlab_user": {"name": "Lab", "email": None}},
            ("Lab", None),
            id="gitlab-private",
        ),
        param(
            "google", {"google_user": {"name": "Goo", "email": "g@x"}}, ("Goo", "g@x"), id="google"
        ),
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
        param(
            "bitbucket", {"bitbucket_user": {"display_name": "Bit"}}, (None, None), id="bitbucket"
        ),
        param(
            "nbgallery",
            {"oauth_user": {"user_name": "nb", "email": "n@x"}},
            (None, None),
            id="nbgallery",
        ),
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


# -- git before 2.31 ---------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["dash", "bash -eu", "busybox sh"])
def test_on_an_old_git_nothing_breaks_and_a_sourced_file_does_it(git, old_git, need, shell):
    need(shutil.which(shell.split()[0]), shell)
    git.env["PATH"] = os.environ["PATH"]
    git.write("[credential]\n\thelper = store\n")
    git.configure(
        {"t": {"preset": "gitlab", "git_username": "it's"}, "u": {"git": "https://u.example/path"}},
        GITLAB,
    )
    assert git.run("version") and git.fill("https://gitlab.com/x") is None

    def source(given):
        script = f'. "{OLD_GIT}"; unset GIT_CONFIG_COUNT; exec git "$@"'
        env = git.env | ({"GIT_CONFIG_PARAMETERS": given} if given else {})
        sourced = Git.__new__(Git)
        vars(sourced).update(vars(git), env=env)
        sourced.run = lambda *arguments, text=None: subprocess.run(
            [*shell.split(), "-c", script, "sh", *arguments],
            env=env,
            input=text,
            capture_output=True,
            text=True,
        ).stdout.strip()
        return sourced

    for given in ("", "'a.b=c d'"):
        sourced = source(given)
        assert sourced.fill("https://gitlab.com/x") == ("it's", TOKEN)
        assert sourced.fill("https://u.example/path/x") == ("oauth2", TOKEN)
        assert not sourced.fill("https://u.example/x")
        assert sourced.rewrite("git@gitlab.com:a/b") == "https://gitlab.com/a/b"
        assert sourced.run("config", "a.b") == ("c d" if given else "")


@pytest.mark.parametrize("shell", ["dash", "bash -eu", "busybox sh"])
@pytest.mark.parametrize("missing", ["a new git", "no entries", "no git"])
def test_the_sourced_file_does_nothing_where_nothing_is_to_do(git, need, shell, missing):
    command = [need(shutil.which(shell.split()[0]), shell), *shell.split()[1:]]
    if missing != "no entries":
        git.configure({"t": {"preset": "gitlab"}})
    if missing == "no git":
        git.env["PATH"] = "/nonexistent"
    script = f'. "{OLD_GIT}"; echo "${{GIT_CONFIG_PARAMETERS-unset}}"'
    done = subprocess.run([*command, "-c", script], env=git.env, capture_output=True, text=True)
    assert (done.stdout, done.stderr, done.returncode) == ("unset\n", "", 0)


def test_a_part_of_a_host_leaves_the_addresses_of_the_host_alone(git):
    git.configure({"github": {"preset": "github", "git": "https://github.com/my-org"}})
    assert git.fill("https://github.com/my-org/r") and not git.fill(
        "https://github.com/torvalds/linux"
    )
    assert git.rewrite("git@github.com:torvalds/linux") == "git@github.com:torvalds/linux"
