"""A start: what a server that starts is given, and the variables that tell it so."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from .backend import TokenBackend
from .tokens.files import PUBLIC_FILE, make_env, make_programs_env
from .tokens.git import make_config, make_variables
from .tokens.guard import list_withheld
from .tokens.record import Started
from .tokens.selection import Token


@dataclass(frozen=True)
class Start:
    """What a start holds. ``awaited``: whether the Hub waits for it. ``git``: keys and values.

    ``began_at`` is by the monotonic clock.
    """

    awaited: bool
    began_at: float = field(default_factory=time.monotonic)
    tokens: Sequence[Token] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    git: Sequence[tuple[str, str]] = ()

    def find_left(self, seconds: float) -> float:
        """What is left of so many seconds since it began."""
        return max(0.0, self.began_at + seconds - time.monotonic())

    def give(
        self,
        spawner: TokenBackend,
        tokens: Sequence[Token],
        files: Mapping[str, bytes | None],
        *,
        pull: bool,
    ) -> Start:
        """The start with these tokens. ``files``: those that were delivered.

        ``pull``: whether the server may ask the Hub.
        """
        shown = files and spawner.shows_files and any(token.spec.file for token in tokens)
        directory = spawner.tokens_directory if shown else None
        public = spawner.tokens_public_path if files.get(PUBLIC_FILE) is not None else None
        env = make_env(tokens, directory, public)
        git = make_config(tokens, directory, pull=pull)
        if spawner.delivers_variables and not files:  # what they refer to is not there
            env, git = {}, []
        return replace(self, tokens=tokens, env=env, git=git)

    def render(
        self, spawner: TokenBackend, started: Started, env: dict[str, Any], *, is_shared: bool
    ) -> dict[str, Any]:
        """``env`` with the variables of the tokens, and what programs have to know of them.

        ``is_shared``: whether others may use the server by now.
        """
        withheld = list_withheld(started) if is_shared else []
        lost = {variable for token in withheld for variable in token.spec.claims}
        values = [token for token in self.tokens if token.text is not None]
        owners = {variable: token.spec.name for token in values for variable in token.spec.env}
        api_url = env.get("JUPYTERHUB_API_URL") if started.pull else None
        admins = spawner.admin_variables  # profiles may change it during the start
        texts = make_programs_env(started.specs, api_url, admins)
        texts |= {variable: text for variable, text in self.env.items() if variable not in lost}
        for variable, text in texts.items():
            if variable in admins:
                words = "%s: Spawner.environment sets %s, which wins over the tokens"
                spawner.log.warning(words, spawner._log_name, variable)
            else:
                env[variable] = spawner.make_variable(variable, text, owners.get(variable))
        for variable, text in make_variables(self.git, env).items():
            env[variable] = spawner.make_variable(variable, text, None)
        return env
