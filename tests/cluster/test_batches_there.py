"""The tests of tests/test_batches.py, on a cluster."""

from tests.test_batches import *  # noqa: F403 - all of them
