"""The tests of tests/test_concurrency.py, without one part of another package after another."""

from tests.test_concurrency import *  # noqa: F403 - all of them
