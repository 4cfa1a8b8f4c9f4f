"""How often the provider is asked, whatever specs, hooks and clocks are like."""

import math
import time

import pytest
from pytest import param

from benchmarks.pace import SCENARIOS, run
from benchmarks.world import World, make_crypt_key
from spawner_tokens import TokenSimpleLocalProcessSpawner
from spawner_tokens.renewal.pace import Pace
from spawner_tokens.tokens.lifetime import find_lifetime

from ..support.scripted import Provider, login
from ..support.waiting import until
from ..tokens.test_selection import jwt

NOW = 1_000_000.0


@pytest.mark.parametrize("scenario", [param(each, id=each.name) for each in SCENARIOS])
def test_no_more_than_five_grants_are_made_in_the_life_of_a_token(scenario, tmp_path, memory):
    memory.mkdir(mode=0o711)
    with make_crypt_key():
        world = World(2, 2, scenario.lifetime, tmp_path, memory, scenario)
        try:
            figures = {figure.name: figure.value for figure in world.live(run(scenario, 20))}
        finally:
            world.close()
    assert figures["grants per life"] <= 5
    assert figures["dead"] == 0


@pytest.mark.parametrize(
    "value, source, found",
    [
        param("v", {"created_at": NOW, "expires_in": 60, "expires_at": 5}, (NOW, NOW + 60, 60)),
        param(jwt(iat=NOW - 200, exp=NOW + 100), {"created_at": NOW}, (NOW, NOW + 300, 300)),
        param(jwt(iat=NOW - 60, exp=NOW + 40), {}, (NOW - 60, NOW + 40, 100)),
        param(jwt(exp=NOW + 40), {"created_at": NOW}, (NOW, NOW + 40, 40)),
        param("v", {"expires_in": 60, "expires_at": NOW + 9}, (NOW - 51, NOW + 9, 60)),
        param("v", {"created_at": NOW + 500, "expires_in": 60}, (None, None, 60)),
        param(jwt(iat=NOW + 500, exp=NOW + 560), {}, (None, None, 60)),
    ],
    ids=["hubs", "jwt-by-hub", "jwt", "exp-alone", "end-and-life", "future", "jwt-of-the-future"],
)
def test_a_life_is_counted_on_the_hubs_clock(value, source, found):
    lifetime = find_lifetime(value, source, NOW)
    assert (lifetime.issued_at, lifetime.expires_at, lifetime.total) == found


async def test_scheduled_renewals_are_a_fifth_of_a_life_apart_and_a_sleep_counts():
    now = [NOW]
    pace = Pace(lambda: now[0])
    assert pace.find_left(1000) == 0
    pace.note_request()
    pace.note_renewal()
    assert 199 < pace.find_left(1000) <= 200 and 599 < pace.find_left(math.inf) <= 600
    now[0] += 150  # the event loop's clock stood still
    assert 49 < pace.find_left(1000) <= 50
    pace.note_request()
    now[0] += 150  # until the database could store it
    pace.note_renewal()
    assert 49 < pace.find_left(1000) <= 50


async def test_that_a_renewal_has_brought_nothing_is_said_with_the_token(start_hub, caplog):
    def hook(authenticator, auth_state):
        return auth_state | {"short": jwt(jti=auth_state["access_token"], exp=time.time() + 240)}

    provider = Provider()
    settings = provider.settings(modify_auth_state_hook=hook)
    settings["TokenSpawnerMixin.tokens"] = {"t": {}, "s": {"key": "short"}}
    hub = await start_hub(TokenSimpleLocalProcessSpawner, settings)
    user = await hub.user("alice", hook(None, login("alice")))
    hub.spawner(user).start_polling()
    words = "A renewal for alice left these tokens due, so the next ones wait longer: s"
    await until(lambda: words in caplog.text)
    assert len(provider.grants["alice"]) == 1
