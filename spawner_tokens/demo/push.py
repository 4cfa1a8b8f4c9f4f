"""What the check runs in a server's kernel: clone, commit and push. It prints the last author."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def git(*arguments: str) -> str:
    """What git prints. A second try if it fails: a renewal may end the token that git has read."""
    command = ["git", "-C", str(Path.home()), *arguments]
    # For bob: git takes it where no configuration has an address.
    env = {"EMAIL": "private@example.org", **os.environ}
    for is_last in (False, True):
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=is_last)
        if done.returncode == 0:
            break
    return done.stdout


def push() -> str:
    if not Path.home().joinpath("work").exists():
        git("clone", f"{os.environ['DEMO_URL']}/git/{os.environ['DEMO_USER']}/work.git")
    git("-C", "work", "commit", "--allow-empty", "--message", "from the demo's check")
    git("-C", "work", "push", "origin", "HEAD:main")
    return git("-C", "work", "log", "-1", "--format=%an")


if __name__ == "__main__":
    print(push(), end="")
