"""A simulated year, in slices: random events, held against the promises at each step.

``python -m benchmarks.year`` lives through all of it.
"""

import pytest
from pytest import param

from ..support.year import Event, Setting, live, make_events


@pytest.mark.parametrize(
    "setting, seed, gap",
    [
        param(Setting(600), 1, 600, id="rotation"),
        param(Setting(1800, kills=True, missing="refuse"), 2, 900, id="a-renewal-ends-the-old"),
        param(Setting(1200, doubts=True), 3, 600, id="an-authenticator-returns-False"),
        param(Setting(28800, moves=True), 4, 1800, id="files-move"),
    ],
)
def test_each_promise_is_kept_whatever_happens(setting, seed, gap, tmp_path):
    events = make_events(seed, 10, 150, gap)
    assert live(tmp_path, setting, seed, events, users=10).broken == []


def login_and(*events):
    """What happens to a user with a server that has just got its token."""
    return [Event(60, kind, "user1", 0.9) for kind in ("login", "spawn")] + [*events]


LATER = Event(300, "nothing", "user1", 0)
EVENTS = {
    "the-clock-is-set-back": [
        Event(800, "clock", "user1", 0.2),
        *[Event(60, "nothing", "user1", 0)] * 40,
    ],
    "the-clock-is-set-back-and-the-Hub-starts-again": [
        Event(800, "clock", "user1", 0.2),
        Event(300, "restart", "user1", 0.3),
        *[Event(60, "nothing", "user1", 0)] * 40,
    ],
    "the-clock-was-set-back-while-no-server-ran": [
        Event(800, "stop", "user1", 0.9),
        Event(60, "clock", "user1", 0.2),
        Event(1030, "spawn", "user1", 0.9),
        LATER,
    ],
    "the-clock-was-set-back-after-a-restart-with-no-server": [
        Event(800, "stop", "user1", 0.9),
        Event(60, "restart", "user1", 0.3),
        Event(30, "clock", "user1", 0.2),
        Event(830, "spawn", "user1", 0.9),
        LATER,
    ],
    "the-clock-was-set-back-between-a-login-and-a-spawn": [
        Event(800, "stop", "user1", 0.9),
        Event(40, "login", "user1", 0.9),
        Event(840, "clock", "user1", 0.2),
        Event(1030, "spawn", "user1", 0.9),
        LATER,
    ],
    "the-database-is-locked-at-a-spawn-for-longer-than-a-token-lives": [
        Event(840, "stop", "user1", 0.9),
        Event(10, "locked", "user1", 0.99),
        Event(860, "spawn", "user1", 0.9),
        *[LATER] * 15,
    ],
    "the-database-is-locked-for-longer-than-a-token-lives": [
        Event(900, "locked", "user1", 0.99),
        *[LATER] * 15,
    ],
}


@pytest.mark.parametrize("events", [param(events, id=name) for name, events in EVENTS.items()])
def test_a_server_has_a_live_token_soon_after(events, tmp_path):
    assert live(tmp_path, Setting(1800), 1, login_and(*events), users=2).broken == []


def test_what_a_hook_narrowed_stays_narrowed_when_the_Hub_starts_again(tmp_path):
    spawn, restart = Event(60, "spawn", "user1", 0.1), Event(600, "restart", "user1", 0.5)
    events = [Event(60, "login", "user1", 0.9), spawn, restart, LATER]
    assert live(tmp_path, Setting(1800), 1, events, users=2).broken == []
