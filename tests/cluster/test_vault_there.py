"""The tests of tests/api/test_vault.py, on a cluster."""

from tests.api.test_vault import *  # noqa: F403 - all of them

# These make objects of their own, over the client of one server.
del test_store_key_with_owner_has_a_hash_tag  # noqa: F821 - they come with the others
