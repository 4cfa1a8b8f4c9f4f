"""The benchmarks, as small as they can be: what they count is exact."""

from benchmarks.renewal import measure
from spawner_tokens.renewal.renewal import _RENEWALS_AT_ONCE


def test_each_renewal_is_one_request_and_comes_in_time():
    found = {(figure.phase, figure.name): figure.value for figure in measure(20, 10, 4, 7200)}
    assert found["steady", "requests per cycle"] == 1
    assert 80 <= found["steady", "cycle"] <= 120  # 84 to 96 minutes: two or three in four hours
    assert found["steady", "dead"] == 0
    assert found["outage", "old files"] == 0
    for phase in ("steady", "restart", "outage"):
        assert found[phase, "rejected"] == 0
        assert found[phase, "requests, in flight"] <= _RENEWALS_AT_ONCE
