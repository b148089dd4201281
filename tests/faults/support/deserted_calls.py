"""Calls whose callers give up, and what has become of them then."""

import asyncio
from collections import Counter
from dataclasses import replace
from itertools import chain, count

from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory
from aqm_db._io.redispy.async_loops import get_channels
from tests.faults.support.byte_cutter import ByteCutter, Cut
from tests.faults.support.cancelled_callers import Moment, Way, by_cancel, by_timeout, given_up
from tests.faults.support.cut_runs import Leap, ending_of
from tests.faults.support.fault_free_outcomes import REQUEST_ID, FaultFree
from tests.faults.support.invariants import assert_link_is_clean, queued
from tests.faults.support.restored_database import read_content
from tests.faults.support.tried_calls import OPERATIONS, Operation, pair_over
from tests.support.peers import tell_time
from tests.support.samples import BOB

SELECT = next(operation for operation in OPERATIONS if operation.name == "inventory.select_coin")


class Desertion:
    """A call whose caller gives up.

    Args:
        operation: the call.
        right: what it does on a good link.
        direct: a client on a good link.
        line: the link that it's made on.

    Attributes:
        endings: how often the caller gave up, and how often it was answered before.
    """

    def __init__(
        self, operation: Operation, right: FaultFree, direct: Redis, line: ByteCutter
    ) -> None:
        self.endings: Counter[str] = Counter()
        self._operation = operation
        self._right = right
        self._direct = direct
        self._line = line

    async def of(
        self,
        client: Redis,
        moment: Moment,
        way: Way = by_cancel,
        *,
        times: int = 1,
        cut: Cut | None = None,
        leap: Leap | None = None,
    ) -> dict[str, int]:
        """Makes the call with a client of the link; what is lost or duplicated in the end."""
        await self._right.begin()
        tell_time(client)
        self._line.arm(cut)
        # What is taken back is a request of its own.
        ids = chain([REQUEST_ID], (f"later-{number}" for number in count()))
        vault, inventory = pair_over(client, ids.__next__)
        task, give_up = way(self._operation.call(vault, inventory, self._right.subject))
        await moment.come(task, self._line)
        ending = await ending_of(given_up(task, give_up, times), self._line, leap)
        holds = get_channels(client).get_channel()._holds
        # What takes too long to be settled is settled in the background.
        assert not holds or cut is not None
        assert await ending_of(emptied(holds), self._line, leap) is None
        # A silent line that a cancelled read was sent on is given up by whoever asks next.
        clean = assert_link_is_clean(client, inventory)
        assert await ending_of(clean, self._line, leap) is None
        # asyncio.timeout takes nothing else for a cancellation, not even a class that is one.
        if type(ending) is not (TimeoutError if way is by_timeout else asyncio.CancelledError):
            self.endings["answered"] += 1
            assert ending == self._right.answer
            return self._right.harm(await read_content(self._direct))
        self.endings["gave up"] += 1
        if self._operation is SELECT:
            return await self._taken_back(inventory)
        content = await read_content(self._direct)
        sent = moment.after is not None
        assert content == self._right.after or (content == self._right.before and not sent)
        call = self._operation.call(*pair_over(client, REQUEST_ID), self._right.subject)
        assert await call == self._right.answer
        return self._right.harm(await read_content(self._direct))

    async def _taken_back(self, inventory: AsyncSmartInventory) -> dict[str, int]:
        """What is wrong with the queue after a coin was on its way to a caller who gave up."""
        coins = await queued(self._direct)
        lost = {"b1", "b2", "b3"} - set(coins)
        harm = {"lost": len(lost), "duplicated": int(not lost and coins != ["b1", "b2", "b3"])}
        if not any(harm.values()):
            first = await inventory.select_coin(BOB, "GOLD")
            assert first is not None
            assert replace(first, used_at=None) == replace(self._right.answer, used_at=None)
        return harm


async def emptied(holds: set[asyncio.Future[None]]) -> None:
    """Returns when nothing holds up the end of a client any more."""
    while holds:
        await asyncio.wait(holds)
