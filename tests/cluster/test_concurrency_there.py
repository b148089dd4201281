"""The tests of tests/api/test_concurrency.py, on a cluster."""

from tests.api.test_concurrency import *  # noqa: F403 - all of them
