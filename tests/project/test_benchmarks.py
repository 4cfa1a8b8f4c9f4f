"""The benchmarks, as small as they can be: what they count is exact."""

from benchmarks import pull
from benchmarks.renewal import measure
from spawner_tokens.renewal.oauthenticator import _RENEWALS_AT_ONCE


def test_each_renewal_is_one_request_and_comes_in_time():
    found = {(figure.phase, figure.name): figure.value for figure in measure(20, 10, 4, 7200)}
    assert found["steady", "requests per cycle"] == 1
    assert 80 <= found["steady", "cycle"] <= 120  # 84 to 96 minutes: two or three in four hours
    assert found["steady", "dead"] == 0
    assert found["outage", "old files"] == 0
    for phase in ("steady", "restart", "outage"):
        assert found[phase, "rejected"] == 0
        assert found[phase, "requests, in flight"] <= _RENEWALS_AT_ONCE


def test_exchanged_tokens_are_renewed_by_their_own_life_and_with_the_login():
    found = {
        (figure.phase, figure.name): figure.value for figure in measure(4, 2, 8, 7200, exchanged=2)
    }
    # Of two tokens: for each new subject, and once or twice before the next one; less at the ends.
    assert 3.5 <= found["steady", "exchanges per cycle"] <= 7
    assert found["steady", "exchanged, dead share"] == 0
    assert found["restart", "exchanged, dead for"] < 10
    for phase in ("steady", "restart", "outage"):
        assert found[phase, "rejected"] == 0


def test_each_server_that_asks_is_answered_and_each_new_token_reaches_the_one_that_waits():
    figures = pull.measure(asking=3, waiting=101, interval=0.5, seconds=1, pace=100)
    found = {(figure.phase, figure.name): figure for figure in figures}
    assert found["start", "request, median"].words == "of 101"
    assert found["asking", "request, median"].words == "of 6"
    assert found["waiting", "lost"] == ("waiting", "lost", 0, "", "of 2")
    assert found["flood", "given"].value + found["flood", "refused"].value == 100
    assert found["flood", "refused"].value > 0 and found["flood", "provider"].value == 1
