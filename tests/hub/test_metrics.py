"""The metrics, as Prometheus reads them at the Hub."""

import asyncio
import json
import os
import time

import pytest
from jupyterhub.auth import DummyAuthenticator
from prometheus_client.parser import text_string_to_metric_families
from tornado.httpclient import AsyncHTTPClient

from spawner_tokens.metrics import EXCHANGE_STATUSES, PULL_STATUSES
from spawner_tokens.renewal.grant import FailureKind
from spawner_tokens.tokens.selection import Reason

from ..support.faults import Answer
from ..support.oauth import make_admin_token
from ..support.scripted import Provider, login, tokens
from ..support.spawners import VariablesOnly
from ..support.waiting import until

SIMPLE = "spawner_tokens.TokenSimpleLocalProcessSpawner"
TOKENS = {"TokenSpawnerMixin.tokens": {"t": {}}}
LIFETIME = "jupyterhub_token_lifetime_seconds"


def login_with(token, left):
    """The auth_state of a login whose token lives for ``left`` more seconds."""
    return {
        "access_token": token,
        "token_response": {"access_token": token, "expires_at": time.time() + left},
    }


def refuse(code, error):
    return Answer(code, json.dumps({"error": error}).encode())


def read(text):
    """Sample → value, of ours: ``name label=value``."""
    return {
        " ".join(
            [sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))]
        ): sample.value
        for family in text_string_to_metric_families(text)
        if family.name.startswith("jupyterhub_token_")
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


async def scrape(hub, token):
    headers = {"Authorization": f"token {token}"}
    answer = await AsyncHTTPClient().fetch(f"{hub.url}/hub/metrics", headers=headers)
    return read(answer.body.decode())


@pytest.fixture
async def start_counting(start_hub):
    """Start a Hub: ``hub, count = await start_counting(…)``; ``count()`` says what has changed."""

    async def start(spawner_class, settings):
        hub = await start_hub(spawner_class, settings)
        token = make_admin_token(hub)
        before = await scrape(hub, token)

        async def count():
            now = await scrape(hub, token)
            return {
                sample: value - before[sample]
                for sample, value in now.items()
                if value != before[sample]
            }

        return hub, count

    return start


async def test_all_that_can_be_counted_is_there_whatever_the_users_are_and_names_none(start_hub):
    hub = await start_hub(SIMPLE, {"TokenSpawnerMixin.tokens": {"name-of-token": {}}})
    user = await hub.user("name-of-user", {"access_token": "value-of-token"})
    await hub.spawn(user, "name-of-server")
    found = await scrape(hub, make_admin_token(hub))
    for server in ("spawning", "running"):
        for status in ("success", "failure"):
            assert f"jupyterhub_token_deliveries_total server={server} status={status}" in found
        assert (
            f"{LIFETIME}_count server={server}" in found
            and f"{LIFETIME}_bucket le=0.0 server={server}" in found
        )
    for status in ("success", "unchanged", *(kind.name.lower() for kind in FailureKind)):
        assert f"jupyterhub_token_renewals_total status={status}" in found
    for reason in Reason:
        assert f"jupyterhub_token_refusals_total reason={reason.value}" in found
    for status in EXCHANGE_STATUSES:
        assert f"jupyterhub_token_exchanges_total status={status}" in found
    for status in PULL_STATUSES:
        assert f"jupyterhub_token_pulls_total status={status}" in found
    assert not [sample for sample in found if "-of-" in sample]
    # however many users there are
    assert len(found) == 2 * 2 + 5 + len((*PULL_STATUSES, *EXCHANGE_STATUSES)) + len(Reason) + 2 * (
        14 + 2
    )


async def test_a_delivery_is_counted_with_the_life_of_each_token_that_changed(start_counting):
    specs = {"t": {}, "other": {"key": "other"}}
    hub, count = await start_counting(SIMPLE, {"TokenSpawnerMixin.tokens": specs})
    auth_state = login_with("a", 500)
    user = await hub.user("alice", {**auth_state, "other": "x"})
    await hub.spawn(user)
    found = await count()
    assert found["jupyterhub_token_deliveries_total server=spawning status=success"] == 1
    assert found[f"{LIFETIME}_count server=spawning"] == 1  # nobody knows the other one's end
    assert f"{LIFETIME}_bucket le=300.0 server=spawning" not in found
    assert found[f"{LIFETIME}_bucket le=600.0 server=spawning"] == 1

    async def are_delivered(number):
        sample = "jupyterhub_token_deliveries_total server=running status=success"
        return (await count()).get(sample) == number

    await user.save_auth_state({**auth_state, "other": "y"})
    await until(lambda: are_delivered(1))
    assert f"{LIFETIME}_count server=running" not in await count()
    await user.save_auth_state({**login_with("b", 5000), "other": "y"})
    await until(lambda: are_delivered(2))
    found = await count()
    assert found[f"{LIFETIME}_count server=running"] == 1
    assert found[f"{LIFETIME}_sum server=running"] == pytest.approx(5000, abs=30)


async def test_only_a_token_that_the_server_gets_is_in_the_histogram(start_counting, tmp_path):
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    blocked.chmod(0o777)
    settings = {"TokenSpawnerMixin.tokens": {"both": {"env": "BOTH"}, "in-file": {}}}
    hub, count = await start_counting(
        SIMPLE, settings | {"LocalTokenMixin.tokens_mount_path": str(blocked)}
    )
    user = await hub.user("alice", login_with("a", 500))
    await hub.spawn(user)
    assert (await count())[f"{LIFETIME}_count server=spawning"] == 1
    await user.stop()
    hub.app.config.TokenSpawnerMixin.tokens_missing = "refuse"
    before = await count()
    failures = before["jupyterhub_token_deliveries_total server=spawning status=failure"]
    with pytest.raises(Exception, match="could not be handed over"):
        await hub.spawn(user)
    assert set((await count()).items()) - set(before.items()) == {
        ("jupyterhub_token_deliveries_total server=spawning status=failure", failures + 1),
        ("jupyterhub_token_refusals_total reason=delivery_failed", 1),
    }


async def test_a_token_that_has_expired_when_it_is_handed_over_is_in_the_bucket_of_zero(
    start_counting,
):
    hub, count = await start_counting(
        VariablesOnly, {"TokenSpawnerMixin.tokens": {"t": {"env": "T"}}}
    )
    server = await hub.spawn(await hub.user("alice", login_with("a", -60)))
    assert (await server.env())["T"] == b"a"
    found = await count()
    assert found[f"{LIFETIME}_bucket le=0.0 server=spawning"] == 1
    assert f"{LIFETIME}_sum server=spawning" not in found  # it never falls


async def test_a_delivery_to_a_running_server_that_fails_is_counted_until_it_works(start_counting):
    hub, count = await start_counting(SIMPLE, TOKENS)
    user = await hub.user("alice", {"access_token": "a"})
    await hub.spawn(user)
    directory = user.spawners[""].tokens_directory
    os.rename(directory, f"{directory}.moved")
    os.symlink("/nonexistent", directory)
    await user.save_auth_state({"access_token": "b"})
    sample = "jupyterhub_token_deliveries_total server=running status="

    async def has(status):
        return (await count()).get(sample + status)

    await until(lambda: has("failure"))
    os.unlink(directory)
    await until(lambda: has("success"))


async def test_a_refused_spawn_is_counted_once_by_its_reason(start_counting):
    specs = {
        "t": {"key": "gone", "missing": "refuse"},
        "u": {"key": "gone.too", "missing": "refuse"},
    }
    hub, count = await start_counting(SIMPLE, {"TokenSpawnerMixin.tokens": specs})
    with pytest.raises(Exception, match="did not give it"):
        await hub.spawn(await hub.user("alice", {"access_token": "a"}))
    assert await count() == {"jupyterhub_token_refusals_total reason=absent": 1}


RENEWALS = {
    "success": [tokens("success", 1)],
    "rejected": [refuse(400, "invalid_grant")],
    "transient": [Answer(503), {"message": "maintenance"}],
    "misconfigured": [refuse(401, "invalid_client")],
}


async def test_a_renewal_is_counted_by_its_result(start_counting):
    answers = {
        f"{status}{i}": each for status in RENEWALS for i, each in enumerate(RENEWALS[status])
    }
    provider = Provider(grant=lambda user, n: answers[user])
    hub, count = await start_counting(SIMPLE, provider.settings())
    for name in answers:
        user = await hub.user(name, login(name, left=30))
        hub.spawner(user)
        await asyncio.gather(*(hub.app.authenticator.refresh_user(user) for _ in range(3)))
    assert await count() == {
        f"jupyterhub_token_renewals_total status={status}": sum(
            len(provider.grants[name]) for name in answers if name.startswith(status)
        )
        for status in RENEWALS
    }


async def test_a_renewal_by_the_authenticators_own_way_is_counted_by_what_it_brings(start_counting):
    class Own(DummyAuthenticator):
        async def refresh_user(self, user, handler=None):
            found = user.name != "nothing-new"
            return {"name": user.name, "auth_state": login(user.name, n=1)} if found else True

    hub, count = await start_counting(SIMPLE, {**TOKENS, "JupyterHub.authenticator_class": Own})
    for name, left in (("nothing-new", 30), ("new-when-due", 30), ("new-at-a-check", 3000)):
        user = await hub.user(name, login(name, left=left))
        hub.spawner(user)
        await hub.app.authenticator.refresh_user(user)
    renewals = "jupyterhub_token_renewals_total status="
    assert await count() == {f"{renewals}unchanged": 1, f"{renewals}success": 2}


async def test_a_login_that_ends_at_a_check_is_no_renewal(start_counting):
    provider = Provider(userinfo=lambda user, n: Answer(401))
    hub, count = await start_counting(SIMPLE, provider.settings())
    user = await hub.user("alice", login("alice", refresh_token=None))
    hub.spawner(user)
    assert await hub.app.authenticator.refresh_user(user) is False
    assert not [sample for sample in await count() if "renewals" in sample]
