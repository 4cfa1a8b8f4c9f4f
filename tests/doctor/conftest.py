"""The fixtures of all tests of the doctor."""

from ..support.examining import cluster, examine, hubs_environment  # noqa: F401
