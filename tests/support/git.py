"""git in this process's environment, with a home of its own."""

import os
import subprocess

from spawner_tokens.tokens.git import make_config, make_system_config, make_variables
from spawner_tokens.tokens.selection import Login, select
from spawner_tokens.tokens.spec import parse_tokens

TOKEN = "the-t0ken"


class Git:
    """git in a home of its own, with an environment as a server has it."""

    def __init__(self, folder):
        self.home, self.tokens = folder / "home", folder / "it's the tokens"
        self.home.mkdir()
        self.tokens.mkdir()
        self.env = {"PATH": os.environ["PATH"], "HOME": str(self.home), "GIT_TERMINAL_PROMPT": "0"}

    def configure(self, tokens, auth_state=None, files=True, env=None):
        specs = parse_tokens(tokens, files=files)
        picked = [
            select(spec, Login({"access_token": TOKEN, **(auth_state or {})})) for spec in specs
        ]
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
