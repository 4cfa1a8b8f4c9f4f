"""The report for people, and as JSON."""

import json
import os
import subprocess
import sys
from datetime import datetime, timezone
from textwrap import dedent

import pytest
from pytest import param

from spawner_tokens.doctor import command
from spawner_tokens.refusal import explain
from spawner_tokens.tokens.selection import Reason

from ..support.examining import SOUND, run_command
from ..support.pages import PAGES, blocks

BROKEN = SOUND.replace("enable_auth_state = True", "enable_auth_state = False")
DOCTOR = ("doctor", "-f", "hub_config.py")


@pytest.fixture(autouse=True)
def config(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    return tmp_path / "hub_config.py"


CHATTER = """
import threading
from oauthenticator.gitlab import GitLabOAuthenticator
class Mine(GitLabOAuthenticator):
    def __init__(self, **given):
        super().__init__(**given)
        print("hello")
c.JupyterHub.authenticator_class = Mine
print("hello")
threading.Thread(target=threading.Event().wait).start()
"""


def test_what_a_config_prints_and_the_threads_that_it_starts_are_not_in_the_report(config):
    config.write_text(BROKEN + CHATTER)
    done = run_command(*DOCTOR, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["ok"] is False
    assert report["findings"][0].keys() == {"id", "level", "what", "why", "fix", "see"}
    assert {*done.stderr.split()} == {"hello"}


@pytest.mark.parametrize(
    "command, status, error",
    [
        param("doctor -f hub_config.py | true", 0, "", id="a-reader-that-has-seen-enough"),
        param("rbac >&-", 1, "there is no standard output to write to", id="closed"),
        param("rbac >/dev/full", 1, "No space left on device", id="full"),
    ],
)
def test_an_output_that_takes_nothing_is_one_line(command, status, error):
    shell = ["sh", "-c", f"{sys.executable} -m spawner_tokens {command}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(shell, env=env, capture_output=True, text=True)
    expected = f"spawner-tokens: {error}\n" if error else ""
    assert (done.returncode, done.stderr) == (status, expected)


def test_the_documentations_sample_is_what_is_printed(config):
    [block] = blocks("python", "howto/wrong")
    printed = PAGES["howto/wrong"].split("$ spawner-tokens doctor -f jupyterhub_config.py\n")[1]
    config.write_text(block.values[0])
    assert run_command(*DOCTOR).stdout == dedent(printed.split("\n\n")[0]) + "\n"


NOW = datetime(2030, 1, 1, 10, 10, tzinfo=timezone.utc).timestamp()
GITLAB = {
    **{"name": "gitlab", "status": "ok", "why": "", "policy": "warn"},
    "variables": ["GITLAB_USER", "GITLAB_EMAIL", "GITLAB_TOKEN", "GITLAB_TOKEN_FILE"],
    **dict.fromkeys(("where", "path"), "/run/spawner-tokens-0/6b1e…/17/gitlab"),
    **{"length": 64, "fingerprint": "60e05bd1b195"},
    **{"issued_at": NOW - 600, "expires_at": NOW + 6600},
    "scopes": ["read_user", "read_repository"],
}
KEYS = "looked up 'id_token'; auth_state has 'access_token', 'gitlab_user', 'scope'"
AWS = dict.fromkeys(GITLAB) | {"name": "aws", "status": "absent", "policy": "warn"}
AWS["why"] = explain(Reason.ABSENT, KEYS)
NOTE = "At a spawn, a token that is short-lived is renewed first; here nothing is."


def test_the_documentations_sample_of_an_explanation_is_what_is_printed(capsys):
    of_alice = {"user": "alice", "server": "", "now": NOW}
    command.print_explanation({**of_alice, "tokens": [GITLAB, AWS], "notes": [NOTE]})
    _, sample = PAGES["howto/wrong"].split(
        "$ spawner-tokens explain -f jupyterhub_config.py alice\n"
    )
    expected = dedent(sample.split("\nThe table has")[0]).strip() + "\n"
    assert capsys.readouterr().out == expected
