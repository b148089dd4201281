"""The tests of tests/api/test_gc.py, on a cluster."""

from tests.api.test_gc import *  # noqa: F403 - all of them

# It reads the whole server, in a pipeline.
del test_dry_run_does_not_delete  # noqa: F821 - it comes with the others
# There is an owner, and what no index lists of an owner's is found by check.
del test_gc_removes_rows_that_no_queue_lists  # noqa: F821 - it comes with the others
