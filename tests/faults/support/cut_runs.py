"""Runs of one call on a line that is cut, each time at another place."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self

from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from aqm_db.errors import InventoryUnavailableError, UnavailableError, VaultUnavailableError
from tests.faults.support.byte_cutter import ByteCutter, Cut, Direction, How
from tests.faults.support.clients_on_bad_links import Party
from tests.faults.support.fault_free_outcomes import REQUEST_ID, FaultFree
from tests.faults.support.fault_table import Tally
from tests.faults.support.invariants import assert_link_is_clean
from tests.faults.support.restored_database import read_content
from tests.faults.support.tried_calls import Operation, pair_over
from tests.support.backends import RunningServer
from tests.support.faces import ASYNC
from tests.support.peers import tell_time

Leap = Callable[[float], None]
_LEAP = 1.5
"""Seconds: ten silences fit into the time for which a request may be repeated."""
_TURNS = 200
"""Of the event loop, until what is on its way between two sockets has come, on a busy machine too:
a leap that is made too early counts against that time."""


class Trial:
    """A call, who makes it, and the line that it's made on.

    Args:
        operation: the call.
        party: who calls.
        client: their client, on the line.
        direct: a client on a good link.
        cutter: the line.
        leap: makes time pass for those that wait on a silent line; None where it must not.
        right: what the call does on a good link.

    Attributes:
        errors: what was raised.
        lengths: the bytes of the call's request and of its reply.
    """

    def __init__(
        self,
        operation: Operation,
        party: Party,
        client: Any,
        direct: Redis,
        cutter: ByteCutter,
        leap: Leap | None,
        right: FaultFree,
    ) -> None:
        self.errors: list[BaseException] = []
        self.lengths: dict[Direction, int] = {}
        self._first = 0
        self._party = party
        self._client = client
        self._direct = direct
        self._cutter = cutter
        self._leap = leap
        self._right = right
        self._retry = client.get_retry()
        self._operation = operation
        self._begin_program()
        self._unavailable = (
            VaultUnavailableError
            if operation.name.startswith("vault")
            else InventoryUnavailableError
        )

    @classmethod
    @asynccontextmanager
    async def of(
        cls,
        operation: Operation,
        party: Party,
        server: RunningServer,
        direct: Redis,
        leap: Leap | None = None,
        patience: float | None = None,
    ) -> AsyncGenerator[Self]:
        """Opens the line, and finds out how long request and reply are."""
        right = await FaultFree.of(operation, direct)
        cutter = ByteCutter(server.socket_path)
        async with cutter.listening() as port, party.client(port, patience) as client:
            trial = cls(operation, party, client, direct, cutter, leap, right)
            await trial._measure()
            yield trial

    def cuts(self, steps: Mapping[How, int]) -> list[Cut]:
        """The first, the last and every so many bytes between, others for each call."""
        cuts: list[Cut] = []
        for how, step in steps.items():
            for direction, length in self.lengths.items():
                # Silence after a whole request is silence before its reply, and after a whole reply
                # the call has ended.
                last = length - (how == "stall")
                begin = len(self._operation.name + self._party.name) % step
                offsets = {0, *range(begin, last, step), last}
                cuts += [Cut(how, direction, offset) for offset in sorted(offsets)]
        return cuts

    async def run(self, cut: Cut, tally: Tally) -> None:
        """Makes the call while the line is cut, and once more if it fails."""
        self._begin_program()
        await self._right.begin()
        tell_time(self._client)
        self._cutter.arm(cut)
        ending = await self._ending(self._leap if cut.how == "stall" else None)
        if cut.how == "stall" and self._leap is None:
            # Time-outs are real and short then, and a busy machine may need longer to answer.
            self._client.set_retry(Retry(NoBackoff(), 10))
        wrong = 0
        if isinstance(ending, Exception):
            self.errors.append(ending)
            wrong = int(self._party.retries > 0 or type(ending) is not self._unavailable)
            await self._assert_told(ending, cut)
            ending = await self._ending()
        elif not self._party.retries:
            # Only a cut behind the reply can be outlived; whoever calls next must know of it.
            assert (cut.direction, cut.offset) == ("reply", self.lengths["reply"])
            await self._noticed()
        case = f"{self._operation} by {self._party}, {cut}: {ending!r}"
        assert ending == self._right.answer, case
        harm = self._right.harm(await read_content(self._direct))
        tally.add(f"line cut by {cut.how}: {self._party}", wrong=wrong, case=case, **harm)
        await assert_link_is_clean(self._client, self._inventory)
        self._client.set_retry(self._retry)

    def _begin_program(self) -> None:
        """Forgets which requests were answered: all of these have one id."""
        self._vault, self._inventory = pair_over(self._client, REQUEST_ID, self._party.face)

    async def _measure(self) -> None:
        await assert_link_is_clean(self._client, self._inventory)
        await self._right.begin()
        tell_time(self._client)
        self._cutter.arm(None)
        assert await self._ending() == self._right.answer
        # Some calls go on asking when they have done what they are for.
        self._first = self._cutter.asked()
        self.lengths = {
            "request": self._cutter.passed("request"),
            "reply": self._cutter.passed("reply"),
        }

    async def _ending(self, leap: Leap | None = None) -> Any:
        call = self._operation.call(self._vault, self._inventory, self._right.subject)
        return await ending_of(call, self._cutter, leap)

    async def _assert_told(self, error: Exception, cut: Cut) -> None:
        """What the database holds is what the server has heard, and what an error says of it."""
        content = await read_content(self._direct)
        heard = cut.direction == "reply" or cut.offset >= self._first
        assert content == (self._right.after if heard else self._right.before)
        assert isinstance(error, UnavailableError)
        assert error.outcome_unknown or content == self._right.before

    async def _noticed(self) -> None:
        """Returns when the client can know that its connection has ended."""
        while not self._cutter.severed:
            await asyncio.sleep(0)
        # A synchronous client looks before it sends.
        if self._party.face is ASYNC:
            pool = self._client.connection_pool
            while any(connection.is_connected for connection in pool._in_use_connections):
                await asyncio.sleep(0)


async def ending_of(call: Awaitable[Any], cutter: ByteCutter, leap: Leap | None) -> Any:
    """A call's answer or error; while its line is silent, time passes."""
    task = asyncio.ensure_future(call)
    while leap is not None and not task.done():
        if cutter.is_stalling():
            # What came before the silence is read first, and a line that was given up is gone.
            for _ in range(_TURNS):
                await asyncio.sleep(0)
                if not cutter.is_stalling():
                    break
            else:
                leap(_LEAP)
        await asyncio.sleep(0)
    await asyncio.wait((task,))
    return task.exception() or task.result()
