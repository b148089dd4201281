"""The tests of tests/test_stats.py, on a cluster."""

from tests.test_stats import *  # noqa: F403 - all of them
