"""The tests of tests/api/test_inventory.py, on a cluster."""

from tests.api.test_inventory import *  # noqa: F403 - all of them

# These make objects of their own, over the client of one server.
del test_set_priority_downgrade_drops_the_newest, test_owners_do_not_meet  # noqa: F821 - they come with the others
