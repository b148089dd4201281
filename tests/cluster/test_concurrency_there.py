"""The tests of tests/test_concurrency.py, on a cluster."""

from tests.test_concurrency import *  # noqa: F403 - all of them
