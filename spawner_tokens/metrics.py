"""Metrics of renewals, exchanges, deliveries, pulls and refusals, at JupyterHub's ``/hub/metrics``.

No label names a user.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from jupyterhub.metrics import metrics_prefix
from prometheus_client import Counter, Histogram

from .tokens.selection import Reason, Token

SUCCESS, UNCHANGED, FAILURE = "success", "unchanged", "failure"
# How a renewal ends: the last three are reasons why there is no new token.
RENEWAL_STATUSES = (SUCCESS, UNCHANGED, "transient", "misconfigured", "rejected")
# How an exchange ends. The last three are failures.
EXCHANGE_STATUSES = (SUCCESS, "transient", "misconfigured", "denied")
# How a request of a server ends: the last ones are reasons why it gets no token.
PULL_STATUSES = (SUCCESS, UNCHANGED, "refused", "unknown", "withheld", "too_many", FAILURE)
SPAWNING, RUNNING = "spawning", "running"

DELIVERIES = Counter(
    "token_deliveries",
    "Deliveries of token files to a server that is spawning, or running",
    ["server", "status"],
    namespace=metrics_prefix,
)

PULLS = Counter(
    "token_pulls",
    "Requests of servers for their tokens: success, unchanged (waited, and nothing was newer), or "
    "why there is none",
    ["status"],
    namespace=metrics_prefix,
)

RENEWALS = Counter(
    "token_renewals",
    "Renewals of a user's tokens: success, unchanged tokens, or why there are none",
    ["status"],
    namespace=metrics_prefix,
)

EXCHANGES = Counter(
    "token_exchanges",
    "Exchanges of a user's token for another one: success, or why there is none",
    ["status"],
    namespace=metrics_prefix,
)

REFUSALS = Counter(
    "token_refusals",
    "Spawns that were refused because of a token, by the reason of the first such token",
    ["reason"],
    namespace=metrics_prefix,
)

LIFETIME = Histogram(
    "token_lifetime_seconds",
    "Seconds that a token still had to live when a server got it, in its environment or a file; "
    "0 if it had expired",
    ["server"],
    buckets=[0, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400, math.inf],
    namespace=metrics_prefix,
)

# All labels from the start: a rate does not count the first increment of a series that is new.
for server in (SPAWNING, RUNNING):
    LIFETIME.labels(server)
    for status in (SUCCESS, FAILURE):
        DELIVERIES.labels(server, status)
for status in RENEWAL_STATUSES:
    RENEWALS.labels(status)
for status in EXCHANGE_STATUSES:
    EXCHANGES.labels(status)
for status in PULL_STATUSES:
    PULLS.labels(status)
for reason in Reason:
    REFUSALS.labels(reason.value)


def count_delivery(*, running: bool, delivered: bool) -> None:
    DELIVERIES.labels(RUNNING if running else SPAWNING, SUCCESS if delivered else FAILURE).inc()


def count_renewal(status: str) -> None:
    """``status``: one of :data:`RENEWAL_STATUSES`."""
    RENEWALS.labels(status).inc()


def count_exchange(status: str) -> None:
    """``status``: one of :data:`EXCHANGE_STATUSES`."""
    EXCHANGES.labels(status).inc()


def count_pull(status: str) -> None:
    """``status``: one of :data:`PULL_STATUSES`."""
    PULLS.labels(status).inc()


def count_refusal(reason: Reason) -> None:
    REFUSALS.labels(reason.value).inc()


def observe_lifetimes(tokens: Iterable[Token], now: float, *, running: bool) -> None:
    """Record the life of each token that has a value and a known end.

    ``now``: seconds since the epoch. ``running``: whether the server runs, or starts.
    """
    histogram = LIFETIME.labels(RUNNING if running else SPAWNING)
    for token in tokens:
        if token.value is not None and token.lifetime.expires_at is not None:
            histogram.observe(max(0.0, token.lifetime.left(now)))
