"""The tests of tests/api/test_stats.py, on a cluster."""

from tests.api.test_stats import *  # noqa: F403 - all of them
