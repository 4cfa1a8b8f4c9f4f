"""How the doctor tells its findings."""

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from .examining import SOUND, hubs_environment  # noqa: F401
from .reference import README
from .test_readme import blocks

BROKEN = SOUND.replace("enable_auth_state = True", "enable_auth_state = False")


def run(tmp_path, *arguments, terminal=False, **environment):
    """The command's output, in a pipe or on a terminal."""
    import pty

    command = [sys.executable, "-m", "spawner_tokens", "doctor", "-f", "hub_config.py", *arguments]
    env = {**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1]), **environment}
    if not terminal:
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True).stdout
    main_end, other_end = pty.openpty()
    process = subprocess.Popen(command, cwd=tmp_path, env=env, stdout=other_end, stderr=subprocess.DEVNULL)
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
    assert plain.startswith("error    auth-state-off\n") and plain.endswith("1 error, 0 warnings, 13 ok\n")
    assert "\n         → c.Authenticator.enable_auth_state = True\n" in plain
    coloured = run(tmp_path, terminal=True)
    assert "\033[31merror" in coloured and re.sub(r"\033\[\d+m", "", coloured) == plain
    assert run(tmp_path, terminal=True, NO_COLOR="1") == plain


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    command = f"{sys.executable} -m spawner_tokens doctor -f hub_config.py | true"
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.stderr == ""


def test_an_output_in_ascii_has_other_arrows(tmp_path):
    (tmp_path / "hub_config.py").write_text(BROKEN)
    plain = run(tmp_path, PYTHONIOENCODING="ascii")
    assert "\n         -> c.Authenticator.enable_auth_state = True\n" in plain


def test_the_readmes_sample_is_what_is_printed(tmp_path):
    section = README.read_text().split("When something is wrong\n====")[1]
    (block,) = (each.values[0] for each in blocks("python") if "When something is wrong" in each.id)
    printed = dedent(section.split("$ spawner-tokens doctor -f jupyterhub_config.py\n")[1].split("\n\n")[0])
    (tmp_path / "hub_config.py").write_text(block)
    assert run(tmp_path) == printed + "\n"
