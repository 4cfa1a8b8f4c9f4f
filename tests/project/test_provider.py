"""The demo's provider alone: how its tokens end, and what a refresh does to them."""

import asyncio
import json
import re

import pytest
from pytest import param

from spawner_tokens.demo.table import Tokens

from ..support.browser import Browser
from ..support.provider import request, start_provider
from ..support.waiting import until


async def userinfo(provider, tokens):
    """Status and JSON of the answer."""
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    answer = await request(f"{provider.url}/userinfo/", headers=headers)
    return answer.code, json.loads(answer.body) if answer.code == 200 else None


async def test_a_token_dies_when_it_says_and_its_successor_lives(tmp_path):
    async with start_provider(tmp_path, "--token-lifetime", "2") as provider:
        tokens = await provider.log_in("alice")
        assert tokens["expires_in"] == 2 and await provider.is_live(tokens["access_token"])
        _, bob = await userinfo(provider, await provider.log_in("bob"))
        assert bob == {"username": "bob", "name": "Bob Roberts", "email": None}  # it is private

        async def has_ended():
            return not await provider.is_live(tokens["access_token"])

        await until(has_ended)
        assert await userinfo(provider, tokens) == (403, None)
        again = json.loads((await provider.refresh(tokens["refresh_token"])).body)
        code, alice = await userinfo(provider, again)
        assert (code, alice["email"]) == (200, "alice@example.org")
        assert provider.grants() == 1

        client = f"client_id={provider.client_id}&redirect_uri={provider.callbacks[0]}"
        url = f"{provider.url}/o/authorize/?response_type=code&scope=read&{client}"
        reached = await provider.pass_forms(
            Browser(provider.url), url, "alice", until=provider.callbacks[0]
        )
        assert "error=invalid_request" in reached  # PKCE is demanded


@pytest.mark.parametrize(
    "options, family_lives",
    [param([], True, id="plain-rotation"), param(["--reuse-protection"], False, id="protection")],
)
async def test_a_spent_refresh_token_is_refused(tmp_path, options, family_lives):
    async with start_provider(tmp_path, *options) as provider:
        first = (await provider.log_in("alice"))["refresh_token"]
        # Concurrent refreshes make one pair of tokens and no error.
        asked = 20 if family_lives else 1
        answers = await asyncio.gather(*(provider.refresh(first) for _ in range(asked)))
        assert {answer.code for answer in answers} <= {200, 400}
        bodies = [json.loads(answer.body) for answer in answers if answer.code == 200]
        [second] = {body["refresh_token"] for body in bodies}
        assert second != first and provider.grants() == 1
        assert provider.knows_refresh_token(second) and not provider.knows_refresh_token(first)
        spent = await provider.refresh(first)
        assert json.loads(spent.body)["error"] == "invalid_grant"
        assert ((await provider.refresh(second)).code == 200) is family_lives


async def test_a_provider_started_again_is_the_same_and_shows_its_secrets_to_no_process(tmp_path):
    async with start_provider(tmp_path) as before:
        tokens = await before.log_in("alice")
    async with start_provider(tmp_path) as after:
        assert (after.url, after.callbacks) == (before.url, before.callbacks)
        assert await after.is_live(tokens["access_token"])
        assert (await after.refresh(tokens["refresh_token"])).code == 200
        assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("provider.[js]*")} == {0o600}
        arguments = " ".join(after.described.child.process.args)
        for secret in (after.client_secret, *after.passwords.values()):
            assert secret not in repr(after.described) + arguments


async def test_the_notebooks_table_says_which_token_is_live_and_shows_none(tmp_path, monkeypatch):
    file = tmp_path / "demo"
    times = {"renewed_at": "2030-01-01T00:00:00Z", "expires_at": "2030-01-01T01:00:00Z"}
    file.with_name("demo.json").write_text(json.dumps(times))
    async with start_provider(tmp_path) as provider:
        old = await provider.log_in("alice")
        new = json.loads((await provider.refresh(old["refresh_token"])).body)["access_token"]
        file.write_text(new)
        monkeypatch.setenv("DEMO_URL", provider.url)
        monkeypatch.setenv("DEMO_TOKEN", old["access_token"])
        monkeypatch.setenv("DEMO_TOKEN_FILE", str(file))
        table = await asyncio.to_thread(Tokens()._repr_html_)
    rows = [re.sub("<.*?>", " ", row) for row in table.split("<tr>")]
    [of_variable] = [row for row in rows if "variable DEMO_TOKEN" in row]
    [of_file] = [row for row in rows if "file DEMO_TOKEN_FILE" in row]
    assert "refuses it" in of_variable and "knows alice" in of_file
    assert new not in table and old["access_token"] not in table
