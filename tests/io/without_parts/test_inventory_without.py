"""The tests of tests/api/test_inventory.py, without one part of another package after another."""

from tests.api.test_inventory import *  # noqa: F403 - all of them
