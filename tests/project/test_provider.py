"""The demo's provider alone: how its tokens end, and what a refresh does to them."""

import asyncio
import json

import pytest
from pytest import param

from spawner_tokens.demo import run_provider

from ..support.browser import Browser
from ..support.provider import request, start_provider
from ..support.waiting import until


async def userinfo(provider, tokens):
    """Status and JSON of the answer."""
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    answer = await request(f"{provider.url}/userinfo/", headers=headers)
    return answer.code, json.loads(answer.body) if answer.code == 200 else None


async def test_bobs_address_is_private(tmp_path):
    async with start_provider(tmp_path) as provider:
        _, alice = await userinfo(provider, await provider.log_in("alice"))
        assert alice["email"] == "alice@example.org"
        _, bob = await userinfo(provider, await provider.log_in("bob"))
        assert bob == {"username": "bob", "name": "Bob Roberts", "email": None}


async def test_pkce_is_demanded(tmp_path):
    async with start_provider(tmp_path) as provider:
        client = f"client_id={provider.client_id}&redirect_uri={provider.callbacks[0]}"
        url = f"{provider.url}/o/authorize/?response_type=code&scope=read&{client}"
        reached = await provider.pass_forms(
            Browser(provider.url), url, "alice", until=provider.callbacks[0]
        )
        assert "error=invalid_request" in reached


async def test_a_token_dies_when_it_says_and_its_successor_lives(tmp_path):
    async with start_provider(tmp_path, "--token-lifetime", "2") as provider:
        tokens = await provider.log_in("alice")
        assert tokens["expires_in"] == 2 and await provider.is_live(tokens["access_token"])

        async def has_ended():
            return not await provider.is_live(tokens["access_token"])

        await until(has_ended)
        assert await userinfo(provider, tokens) == (403, None)
        again = json.loads((await provider.refresh(tokens["refresh_token"])).body)
        assert (await userinfo(provider, again))[0] == 200
        assert provider.grants() == 1


@pytest.mark.parametrize(
    "options, family_lives",
    [param([], True, id="plain-rotation"), param(["--reuse-protection"], False, id="protection")],
)
async def test_a_spent_refresh_token_is_refused(tmp_path, options, family_lives):
    async with start_provider(tmp_path, *options) as provider:
        first = (await provider.log_in("alice"))["refresh_token"]
        second = json.loads((await provider.refresh(first)).body)["refresh_token"]
        assert provider.knows_refresh_token(second) and not provider.knows_refresh_token(first)
        spent = await provider.refresh(first)
        assert json.loads(spent.body)["error"] == "invalid_grant"
        assert ((await provider.refresh(second)).code == 200) is family_lives


@pytest.mark.parametrize("options", [[], ["--single-threaded"]], ids=["threads", "one-thread"])
async def test_concurrent_refreshes_make_one_pair_of_tokens_and_no_error(tmp_path, options):
    async with start_provider(tmp_path, *options) as provider:
        spent = (await provider.log_in("alice"))["refresh_token"]
        answers = await asyncio.gather(*(provider.refresh(spent) for _ in range(20)))
        assert {answer.code for answer in answers} <= {200, 400}
        bodies = [json.loads(answer.body) for answer in answers if answer.code == 200]
        [pair] = {(body["access_token"], body["refresh_token"]) for body in bodies}
        assert pair[1] != spent and provider.grants() == 1


async def test_a_provider_started_again_is_the_same_provider(tmp_path):
    async with start_provider(tmp_path) as before:
        tokens = await before.log_in("alice")
    async with start_provider(tmp_path) as after:
        assert (after.url, after.callbacks) == (before.url, before.callbacks)
        assert await after.is_live(tokens["access_token"])
        assert (await after.refresh(tokens["refresh_token"])).code == 200


def test_it_shows_its_secrets_to_no_process(tmp_path):
    with run_provider(tmp_path, "http://127.0.0.1:1/callback") as provider:
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("provider.[js]*")} == {0o600}
        arguments = " ".join(provider.child.process.args)
        for secret in (provider.client_secret, *provider.passwords.values()):
            assert secret not in repr(provider) + arguments
