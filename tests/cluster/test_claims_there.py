"""The tests of tests/api/test_claims.py, on a cluster."""

from tests.api.test_claims import *  # noqa: F403 - all of them
