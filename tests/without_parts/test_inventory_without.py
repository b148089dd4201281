"""The tests of tests/test_inventory.py, without one part of another package after another."""

from tests.test_inventory import *  # noqa: F403 - all of them
