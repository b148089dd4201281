"""Running a call twice is running it once."""

import pytest
from redis.asyncio import Redis

from tests.faults.operations import OPERATIONS, Operation, pair_over
from tests.faults.tally import Tally
from tests.samples import snapshot

pytestmark = pytest.mark.asyncio


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
async def test_a_request_that_is_sent_again(
    direct: Redis, operation: Operation, tally: Tally
) -> None:
    """The same request gets the same answer, and leaves the same state, each time it's sent."""
    subject = await operation.prepare(*pair_over(direct))
    before = await snapshot(direct)
    answer = await operation.call(*pair_over(direct, "again"), subject)
    after = await snapshot(direct)
    assert (after == before) is (operation.name == "vault.fetch_key")
    for _ in range(10):
        again = await operation.call(*pair_over(direct, "again"), subject)
        state = await snapshot(direct)
        tally.add("request sent again", duplicated=int(again != answer or state != after))
