"""The tests of tests/api/test_concurrency.py, without one part of another package after another."""

from tests.api.test_concurrency import *  # noqa: F403 - all of them

# The same as with a thousand callers, and five times as long.
del test_ten_thousand_callers  # noqa: F821 - it comes with the others
