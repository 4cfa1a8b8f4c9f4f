"""A token is in the server's environment and files alone: everything else is searched for it."""

import asyncio
import base64
import logging
from pathlib import Path

import pytest

from ..support.leaks import ACCESS, AUTH_STATE, REFRESH, places, search
from ..support.pulling import PULL, ask
from ..support.scripted import failing
from ..support.waiting import until

# One at a time: the stand-in for a kubelet gives a container its variables by process arguments.
pytestmark = pytest.mark.xdist_group("leaks")


def hook_that_fails(spawner, auth_state, tokens):
    raise ValueError(f"cannot exchange {tokens} of {auth_state}")


def key_that_fails(auth_state):
    raise KeyError(auth_state["access_token"])


async def start_with_argument(text):
    process = await asyncio.create_subprocess_exec("sh", "-c", "sleep 60 # " + text)

    async def shows_it():  # its arguments are empty for a moment after the exec
        return text.encode() in Path(f"/proc/{process.pid}/cmdline").read_bytes()

    await until(shows_it)
    return process


async def pull(hub, user, server):
    """Ask the Hub, and be refused, and ask while its database fails; git asks, too."""
    own = user.spawners[""].api_token
    assert (await ask(hub, own, "t")).body["token"] == ACCESS
    for token, name in ((own, "unknown"), (REFRESH, "t")):
        answer = await ask(hub, token, name)
        assert answer.code in (403, 404) and not search({"answer": repr(answer).encode()})
    with failing(hub.app.db.get_bind(), "before_cursor_execute", having="api_tokens"):
        answer = await ask(hub, f"{own}x", "t")
    assert answer.code == 503 and not search({"answer": repr(answer).encode()})
    done = await server.run("sh", "-c", "echo url=https://git.example.org | git credential fill")
    assert f"password={ACCESS}" in done.out


@pytest.mark.parametrize(
    "spawner_class",
    ["spawner_tokens.TokenSimpleLocalProcessSpawner", "tests.support.spawners.VariablesOnly"],
)
async def test_a_delivered_token_is_found_nowhere_else(start_hub, debug_log, spawner_class):
    tokens = {
        "t": {"env": "T", "git": "https://git.example.org"},
        "templated": {"env": "U", "template": "oauth2:{token}:example.org"},
    }
    hub = await start_hub(
        spawner_class,
        {
            **{"TokenSpawnerMixin.tokens": tokens, **PULL},
            **{"JupyterHub.log_level": 10, "Spawner.debug": True},
        },
    )
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    await pull(hub, user, server)
    assert (
        (await server.env())["T"]
        == (await server.files()).get("t", ACCESS.encode())
        == ACCESS.encode()
    )
    assert "DEBUG" in debug_log.text
    assert search(await places(hub, user, debug_log)) == []
    await user.stop("")
    assert search(await places(hub, user, debug_log)) == []

    # The search can find: in each of these places, planted.
    process = await start_with_argument(REFRESH)
    logging.getLogger("JupyterHub").debug(
        "planted %s", base64.b64encode(b"{" + ACCESS.encode()).decode()
    )
    Path("planted.sqlite").write_bytes(b"\0" + REFRESH.encode() + b"\0")
    try:
        found = search(await places(hub, user, debug_log, ValueError(ACCESS)))
    finally:
        process.kill()
        await process.wait()
    assert {"log", "error", "planted.sqlite", f"arguments of {process.pid}"} <= set(found)


WRONG = {
    "key-fails": {"key": key_that_fails, "env": "A"},
    "dict": {"key": "token_response", "env": "B"},
    "refresh-token": {"key": lambda auth_state: auth_state["refresh_token"], "env": "C"},
    "scope": {"required_scopes": "write", "env": "D"},
}


@pytest.mark.parametrize(
    "settings",
    [
        {"TokenSpawnerMixin.tokens_hook": hook_that_fails},
        {"TokenSpawnerMixin.tokens": WRONG},
        {"Spawner.cmd": ["/nonexistent"]},
        {"LocalTokenMixin.tokens_mount_path": "/proc/nonexistent"},
    ],
    ids=["hook-fails", "tokens-wrong", "no-command", "no-directory"],
)
async def test_a_spawn_that_goes_wrong_tells_no_token(start_hub, debug_log, settings):
    tokens = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}, "JupyterHub.log_level": 10}
    hub = await start_hub("spawner_tokens.TokenSimpleLocalProcessSpawner", tokens | settings)
    for name, policy in (("alice", "warn"), ("bob", "refuse")):
        hub.app.config.TokenSpawnerMixin.tokens_missing = policy
        user, error = await hub.user(name, AUTH_STATE), None
        try:
            await hub.spawn(user)
        except Exception as caught:
            error = caught
        assert error or policy == "warn"
        assert search(await places(hub, user, debug_log, error)) == []
