"""How the doctor tells its findings."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from pytest import param

from ..project.test_readme import blocks
from ..support.examining import SOUND, hubs_environment  # noqa: F401
from ..support.reference import README

BROKEN = SOUND.replace("enable_auth_state = True", "enable_auth_state = False")


def run(tmp_path, *arguments, terminal=False, columns=0, **environment):
    """The command's output, in a pipe or on a terminal."""
    import fcntl
    import pty
    import termios

    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py", *arguments]
    env = {
        **os.environ,
        "TERM": "xterm",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        **environment,
    }
    if not terminal:
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    main_end, other_end = pty.openpty()
    fcntl.ioctl(other_end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=other_end, stderr=subprocess.DEVNULL
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


def test_it_is_coloured_on_a_terminal_and_plain_in_a_pipe(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    plain = run(tmp_path)
    assert plain.startswith("error    auth-state-off\n") and plain.endswith(
        "1 error, 0 warnings, 13 ok\n"
    )
    assert "\n         → c.Authenticator.enable_auth_state = True\n" in plain
    coloured = run(tmp_path, terminal=True)
    assert "\033[31merror" in coloured and re.sub(r"\033\[\d+m", "", coloured) == plain
    assert run(tmp_path, terminal=True, NO_COLOR="1") == plain


@pytest.mark.parametrize(
    "how", [{"COLUMNS": "40"}, {"terminal": True, "columns": 40}], ids=["variable", "terminal"]
)
def test_a_narrow_terminal_has_narrow_lines(tmp_path, how):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    plain = re.sub(r"\033\[\d+m", "", run(tmp_path, **how))
    wide = [line for line in plain.splitlines() if len(line) > 40]
    assert wide == ["         → c.Authenticator.enable_auth_state = True"]  # which is to be copied
    assert plain.split() == run(tmp_path).split()


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


def test_what_a_config_prints_by_whatever_way_is_not_in_the_report(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN + CHATTER)
    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py", "--json"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and not json.loads(done.stdout)["ok"]
    assert {*done.stderr.split()} == {"hello"}


def test_a_thread_that_a_config_starts_does_not_keep_the_report(tmp_path):
    thread = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
    (tmp_path / "hub_config.py").write_text(BROKEN + thread)
    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py"]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1 and done.stdout.endswith("1 error, 0 warnings, 13 ok\n")


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    command = f"{sys.executable} -m spawner_tokens doctor -f hub_config.py | true"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stderr == ""


@pytest.mark.parametrize(
    "command, reason",
    [
        param(
            "doctor -f hub_config.py >&-", "there is no standard output to write to", id="closed"
        ),
        param("doctor -f hub_config.py >/dev/full", "No space left on device", id="full"),
        param(
            "doctor -f hub_config.py --json >/dev/full", "No space left on device", id="full-json"
        ),
        param("rbac >/dev/full", "No space left on device", id="full-rbac"),
    ],
)
def test_an_output_that_takes_nothing_is_one_line(tmp_path, command, reason):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shell = ["sh", "-c", f"{sys.executable} -m spawner_tokens {command}"]
    done = subprocess.run(shell, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, f"spawner-tokens: {reason}\n")


def test_an_output_in_ascii_has_other_arrows(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    plain = run(tmp_path, PYTHONIOENCODING="ascii")
    assert "\n         -> c.Authenticator.enable_auth_state = True\n" in plain


def test_the_readmes_sample_is_what_is_printed(tmp_path):
    section = README.read_text().split("When something is wrong\n====")[1]
    (block,) = (each.values[0] for each in blocks("python") if "When something is wrong" in each.id)
    printed = dedent(
        section.split("$ spawner-tokens doctor -f jupyterhub_config.py\n")[1].split("\n\n")[0]
    )
    (tmp_path / "hub_config.py").write_text(block)
    assert run(tmp_path) == printed + "\n"
