"""Tokens in pods of a real Kubernetes API server, of a Hub that may do what Zero to JupyterHub's may."""

import base64

import pytest

from .cluster import DIRECTORY, PATCH_RULES, Z2JH_RULES
from .waiting import until

KUBE = "spawner_tokens.TokenKubeSpawner"
AUTH_STATE = {"access_token": "the-token"}
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}

both_roles = pytest.mark.parametrize("rules", [Z2JH_RULES, PATCH_RULES], ids=["z2jh", "patch"])


def decoded(secret):
    return {key: base64.b64decode(value) for key, value in secret["data"].items()}


@both_roles
async def test_a_server_finds_its_users_token_by_file_and_by_variable_and_nothing_stays(kube, start_hub, rules):
    namespace = kube(rules)
    hub = await start_hub(KUBE, {**TOKENS, **namespace.settings()})
    user = await hub.user("alice", AUTH_STATE)
    server = await hub.spawn(user)
    env, files = await server.env(), await server.files()
    assert env["T"] == files["t"] == b"the-token"
    assert (env["SPAWNER_TOKENS_DIR"], env["T_TOKEN_FILE"]) == (DIRECTORY.encode(), f"{DIRECTORY}/t".encode())
    assert list(namespace.secrets()) == ["jupyter-alice-tokens"]
    await user.stop("")
    assert namespace.secrets() == {}
    print(namespace.audit("secrets", "pods"))
