"""git before 2.31: nothing breaks, and a sourced file configures it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import spawner_tokens

from ..support.git import TOKEN, Git
from .test_git_identity import GITLAB

OLD_GIT = Path(spawner_tokens.__file__).with_name("old-git.sh")


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
