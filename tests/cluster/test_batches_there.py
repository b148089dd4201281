"""The tests of tests/api/test_batches.py, on a cluster."""

from tests.api.test_batches import *  # noqa: F403 - all of them
