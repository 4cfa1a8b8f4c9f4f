"""A process that is as a server's."""

import json
import math
import os

import pytest

from spawner_tokens.singleuser.sources import _Memory

VARIABLES = {"t": {"env": ["T", "ALSO_T"], "file_env": "T_TOKEN_FILE"}}


@pytest.fixture
def environ(monkeypatch):
    """This process's environment, as it was before at the end; and it has asked no Hub."""
    monkeypatch.setattr(_Memory, "answers", {})
    monkeypatch.setattr(_Memory, "failed_at", -math.inf)
    before = dict(os.environ)
    for name in [*os.environ]:
        if name.startswith(("SPAWNER_TOKENS_", "JUPYTERHUB_")):
            del os.environ[name]
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def tokens(environ, tmp_path):
    """The directory with the files of a server that has the token ``t``."""
    directory = tmp_path / "tokens"
    directory.mkdir()
    (directory / "t").write_text("token-1")
    facts = {"expires_at": "2099-01-01T00:00:00Z", "renewed_at": None, "scopes": None}
    (directory / "t.json").write_text(json.dumps({**facts, "status": "ok"}))
    environ["SPAWNER_TOKENS_DIR"] = str(directory)
    environ["SPAWNER_TOKENS_VARIABLES"] = json.dumps(VARIABLES)
    environ["T"] = "token-0"
    return directory
