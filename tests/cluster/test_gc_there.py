"""The tests of tests/test_gc.py, on a cluster."""

from tests.test_gc import *  # noqa: F403 - all of them
