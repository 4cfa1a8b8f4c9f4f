"""The report on terminals, in pipes, and as JSON."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from datetime import datetime, timezone
from textwrap import dedent

import pytest
from pytest import param

from spawner_tokens.doctor.explanation import Explained, Explanation
from spawner_tokens.doctor.report import write_explanation
from spawner_tokens.refusal import explain
from spawner_tokens.tokens.selection import Reason

from ..project.test_readme import blocks
from ..support.examining import SOUND, run_command
from ..support.reference import README

BROKEN = SOUND.replace("enable_auth_state = True", "enable_auth_state = False")
DOCTOR = ("doctor", "-f", "hub_config.py")
REPORT = "\nerror: 1, warning: 0, note: 0, ok: 14\n"


@pytest.fixture(autouse=True)
def config(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    return tmp_path / "hub_config.py"


def run_on_terminal(**environment):
    """What the command writes to a terminal of 100 columns."""
    main_end, other_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "spawner_tokens", *DOCTOR],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        stdout=other_end,
        stderr=subprocess.DEVNULL,
    )
    os.close(other_end)
    out = b""
    try:
        while chunk := os.read(main_end, 4096):
            out += chunk
    except OSError:  # its other end is closed
        pass
    os.close(main_end)
    process.wait()
    return out.decode().replace("\r\n", "\n")


def test_it_is_coloured_on_a_terminal_and_plain_in_a_pipe():
    plain = run_command(*DOCTOR).stdout
    assert plain.startswith("error    auth-state-off\n") and plain.endswith(REPORT)
    assert "\n         → c.Authenticator.enable_auth_state = True\n" in plain
    coloured = run_on_terminal(COLUMNS="100")
    assert "\033[31merror" in coloured and re.sub(r"\033\[\d+m", "", coloured) == plain
    assert run_on_terminal(NO_COLOR="1", COLUMNS="100") == plain


def test_a_narrow_terminal_has_narrow_lines():
    plain = run_command(*DOCTOR, env={"COLUMNS": "50"}).stdout
    wide = [line for line in plain.splitlines() if len(line) > 50]
    assert wide == ["         → c.Authenticator.enable_auth_state = True"]  # which is to be copied
    assert plain.split() == run_command(*DOCTOR).stdout.split()


def test_an_output_in_ascii_is_no_error():
    done = run_command(*DOCTOR, env={"PYTHONIOENCODING": "ascii"})
    assert "\n         ? c.Authenticator.enable_auth_state = True\n" in done.stdout


CHATTER = """
import os, subprocess
from oauthenticator.gitlab import GitLabOAuthenticator
def say():
    print("hello", flush=True)
    os.write(1, b"hello\\n")
    subprocess.run(["echo", "hello"])
class Mine(GitLabOAuthenticator):
    def __init__(self, **given):
        super().__init__(**given)
        say()
c.JupyterHub.authenticator_class = Mine
say()
"""


def test_what_a_config_prints_by_whatever_way_is_not_in_the_report(config):
    config.write_text(BROKEN + CHATTER)
    done = run_command(*DOCTOR, "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1 and report["ok"] is False
    assert report["findings"][0].keys() == {"id", "level", "what", "why", "fix"}
    assert {*done.stderr.split()} == {"hello"}


def test_a_thread_that_a_config_starts_does_not_keep_the_report(config):
    thread = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    config.write_text(BROKEN + thread)
    done = run_command(*DOCTOR)
    assert done.returncode == 1 and done.stdout.endswith(REPORT)


@pytest.mark.parametrize(
    "command, status, error",
    [
        param("doctor -f hub_config.py | true", 0, "", id="a-reader-that-has-seen-enough"),
        param("doctor >&-", 1, "there is no standard output to write to", id="closed"),
        param("doctor -f hub_config.py --json >/dev/full", 1, "No space left on device", id="full"),
        param("rbac >/dev/full", 1, "No space left on device", id="full-rbac"),
    ],
)
def test_an_output_that_takes_nothing_is_one_line(command, status, error):
    shell = ["sh", "-c", f"{sys.executable} -m spawner_tokens {command}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(shell, env=env, capture_output=True, text=True)
    expected = f"spawner-tokens: {error}\n" if error else ""
    assert (done.returncode, done.stderr) == (status, expected)


def test_the_readmes_sample_is_what_is_printed(config):
    section = README.read_text().split("When something is wrong\n====")[1]
    (block,) = (each.values[0] for each in blocks("python") if "When something is wrong" in each.id)
    printed = section.split("$ spawner-tokens doctor -f jupyterhub_config.py\n")[1]
    config.write_text(block)
    assert run_command(*DOCTOR).stdout == dedent(printed.split("\n\n")[0]) + "\n"


NOW = datetime(2030, 1, 1, 10, 10, tzinfo=timezone.utc).timestamp()
GITLAB = Explained(
    name="gitlab",
    status="ok",
    why="",
    policy="warn",
    variables=["GITLAB_USER", "GITLAB_EMAIL", "GITLAB_TOKEN", "GITLAB_TOKEN_FILE"],
    path="/run/spawner-tokens-0/6b1e…/17/gitlab",
    length=64,
    fingerprint="60e05bd1b195",
    issued_at=NOW - 600,
    expires_at=NOW + 6600,
    scopes=["read_user", "read_repository"],
)
KEYS = "looked up 'id_token'; auth_state has 'access_token', 'gitlab_user', 'scope'"
AWS = Explained("aws", "absent", explain(Reason.ABSENT, KEYS), "warn", [], *[None] * 6)
NOTE = "At a spawn, a token that is short-lived is renewed first; here nothing is."


def test_the_readmes_sample_of_an_explanation_is_what_is_printed():
    out = io.StringIO()
    write_explanation(Explanation("alice", "", NOW, [GITLAB, AWS], [NOTE]), out)
    sample = README.read_text().split("$ spawner-tokens explain -f jupyterhub_config.py alice\n")[1]
    assert out.getvalue() == dedent(sample.split("\nA name is also found")[0]).strip() + "\n"
