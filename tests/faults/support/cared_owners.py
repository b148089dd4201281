"""A provider's database, where each owner has something to lose, and some have what has to go."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from redis.asyncio import Redis

from aqm_db import AsyncClientDatabase
from aqm_db._io.seam import Call, Command, Reply, Undo
from aqm_db._model.keys import Keys
from aqm_db.errors import AQMDatabaseError, InventoryUnavailableError
from tests.faults.support.fault_table import Tally
from tests.faults.support.public_calls import CAROL
from tests.faults.support.restored_database import Kept
from tests.faults.support.tried_calls import BLOB, HALVES
from tests.support.layers import Passing
from tests.support.samples import BOB, Clock

GARBAGE, OLD = "garbage", "old"
OWNERS: Mapping[str | None, tuple[str, ...]] = {
    None: (GARBAGE, OLD),
    "ann": (GARBAGE,),
    "ben": (OLD,),
    "cat": (GARBAGE, OLD),
    "dan": (),
    "eve": (GARBAGE, OLD),
}
"""Who there is, and what of theirs has to go; nobody has the data without an owner."""
MINUTE = 60.0
EVERY = 3600.0
Send = Callable[[], Awaitable[Any]]
"""Sends a request, again each time."""
Way = Callable[[Sequence[Call], Send], Awaitable[Any]]
"""What a program's requests go through, each with the scripts' calls in it: it gives the reply."""


async def pass_on(_: Sequence[Call], send: Send) -> Any:
    """A good way."""
    return await send()


class Death:
    """A way that ends for good: as a program that dies does, it sends nothing more.

    Args:
        place: how many requests come through before.
        is_executed: whether the next one does, of which nobody hears.

    Attributes:
        has_come: whether it has ended.
    """

    def __init__(self, place: int, *, is_executed: bool) -> None:
        self.has_come = False
        self._left = place
        self._is_executed = is_executed

    async def __call__(self, _: Sequence[Call], send: Send) -> Any:
        """See :data:`Way`."""
        self._left -= 1
        if self._left >= 0:
            return await send()
        is_last, self.has_come = not self.has_come, True
        if is_last and self._is_executed:
            await send()
        raise InventoryUnavailableError("gone")


class Incident:
    """A way on which something happens before a request is sent.

    Args:
        place: how many come through before.
        act: what happens.

    Attributes:
        has_come: whether it has happened.
    """

    def __init__(self, place: int, act: Callable[[], Awaitable[object]]) -> None:
        self.has_come = False
        self._left = place
        self._act = act

    async def __call__(self, _: Sequence[Call], send: Send) -> Any:
        """See :data:`Way`."""
        self._left -= 1
        if self._left == -1:
            self.has_come = True
            await self._act()
        return await send()


class Echo:
    """A way on which a copy of each request comes once more, when others have been answered.

    Args:
        others: how many.
    """

    def __init__(self, others: int) -> None:
        self._others = others
        self._sent: list[Send] = []

    async def __call__(self, _: Sequence[Call], send: Send) -> Any:
        """See :data:`Way`."""
        self._sent.append(send)
        reply = await send()
        if len(self._sent) > self._others:
            await self._sent[-1 - self._others]()
        return reply

    async def repeat_each(self) -> AsyncIterator[None]:
        """Delivers a copy of each once more, the last one first."""
        for send in reversed(self._sent):
            await send()
            yield


class Site:
    """All owners' data on one server.

    Args:
        admin: a client that may do everything, on a good link.
        provider: who the provider is; None for the one whose data has no owner.

    Attributes:
        provider: who the provider is.
        clock: everybody's time.
        cared: how often somebody began to care for an owner, since the last :meth:`begin`.
        owners: who is there.
    """

    def __init__(self, admin: Any, provider: str | None = None) -> None:
        self.provider = provider
        self.clock = Clock()
        self.cared: Counter[str] = Counter()
        self.owners = [owner for owner in OWNERS if owner is not None or provider is None]
        self._admin = admin
        self._kept = Kept(admin)

    @classmethod
    async def furnish(cls, admin: Redis) -> Self:
        """Fills an empty database."""
        site = cls(admin)
        await site.store()
        await site._kept.keep()
        return site

    async def store(self) -> None:
        """Stores what all owners have, of which some has to go by the end."""
        db = AsyncClientDatabase(self._admin, self._admin, clock=self.clock, owner=self.provider)
        parts = {owner: db._open_owner(owner) for owner in self.owners}
        for owner, part in parts.items():
            if GARBAGE in OWNERS[owner]:
                await part.inventory.register_contact(BOB, "BESTIE")
                await part.inventory.store_key(BOB, "g", "BRONZE", *HALVES)
            if OLD in OWNERS[owner]:
                await part.vault.store_key("old", "BRONZE", BLOB, b"nonce", b"tag")
        self.clock.advance(days=31)
        for part in parts.values():
            await part.inventory.register_contact(CAROL, "BESTIE")
            await part.inventory.store_key(CAROL, "c", "BRONZE", *HALVES)
            await part.vault.store_key("young", "BRONZE", BLOB, b"nonce", b"tag")

    async def begin(self) -> None:
        """Puts everything back as it was."""
        await self._kept.restore()
        self.cared.clear()

    def open(self, client: Any, way: Way = pass_on) -> AsyncClientDatabase:
        """The provider's database, of a program whose requests go some way."""
        db = AsyncClientDatabase(client, client, clock=self.clock, owner=self.provider)
        self.divert(db, way)
        return db

    def divert(self, db: AsyncClientDatabase, way: Way) -> None:
        """Has the requests of a database go some way."""
        cared = self.cared

        class Seeing(Passing):
            async def run(self, call: Call, undo: Undo | None = None) -> Reply:
                # Whatever else is done for an owner, this is.
                if call.script.name == "vault_counters":
                    cared[call.keys[0]] += 1
                reply: Reply = await way([call], lambda: self._behind.run(call, undo))
                return reply

            async def run_all(
                self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
            ) -> list[Reply | AQMDatabaseError]:
                replies: list[Reply | AQMDatabaseError] = await way(
                    calls, lambda: self._behind.run_all(calls, undos)
                )
                return replies

            async def read(self, *commands: Command) -> list[Any]:
                replies: list[Any] = await way([], lambda: self._behind.read(*commands))
                return replies

        db.gates.add_layer(Seeing)  # pyright: ignore[reportArgumentType]

    async def sleep(self, seconds: float) -> None:
        """Lets time pass at once: a minute ends the turns of whoever has died."""
        await asyncio.sleep(0)
        if seconds == MINUTE:
            await self.end_turns()

    async def end_turns(self) -> None:
        """Ends the turns of those who are being cared for."""
        for owner in self.owners:
            name = Keys(owner).maintenance
            # Another kind of key is none.
            if await self._admin.type(name) == b"string":
                turn = await self._admin.get(name)
                if turn is not None and turn.endswith(b":working"):
                    await self._admin.delete(name)

    async def count_working(self, within: float = EVERY) -> int:
        """The owners whom somebody has in hand, or has left so.

        Args:
            within: in how many seconds they are free, whatever becomes of whoever has them.
        """
        names = [Keys(owner).maintenance for owner in self.owners]
        turns = [(await self._admin.get(name), await self._admin.pttl(name)) for name in names]
        return sum(
            turn is not None and turn.endswith(b":working") and 0 < left <= within * 1000
            for turn, left in turns
        )

    async def list_garbage(self) -> list[str]:
        """What should have gone, and hasn't."""
        names = {GARBAGE: f"inv:v1:key:{BOB}:g", OLD: "vault:v1:key:old"}
        wanted = [
            Keys(owner).prefix + names[kind] for owner in self.owners for kind in OWNERS[owner]
        ]
        return [name for name in wanted if await self._admin.exists(name)]

    async def count_lost(self) -> int:
        """What is gone that should be there."""
        names = (f"inv:v1:key:{CAROL}:c", f"inv:v1:idx:{CAROL}:BRONZE", "vault:v1:key:young")
        wanted = [Keys(owner).prefix + name for owner in self.owners for name in names]
        return sum([not await self._admin.exists(name) for name in wanted])

    async def finish(self, *, within: int = 1) -> int:
        """Goes on, as another program, until everybody is cared for.

        Args:
            within: in how many rounds, the one that is under way included.

        Returns:
            How much is left.
        """
        db = self.open(self._admin)
        for number in range(within):
            self.clock.advance(ms=int(EVERY * 1000) if number else 0)
            await db.maintain_owners(sleep=self.sleep)
            if not await self.list_garbage():
                break
        return len(await self.list_garbage())

    async def judge(
        self, tally: Tally, fault: str, *, case: object, once: bool = False, within: int = 1
    ) -> None:
        """Counts a fault that was tried, after the rest was done.

        Args:
            tally: the table.
            fault: its row.
            case: see the table.
            once: whether nobody may be cared for twice.
            within: see :meth:`finish`.
        """
        left = await self.finish(within=within)
        twice = sum(count > 1 for count in self.cared.values()) if once else 0
        lost = await self.count_lost()
        tally.add(f"round: {fault}", lost=lost, duplicated=twice, wrong=left, case=case)


@asynccontextmanager
async def furnished(admin: Redis) -> AsyncGenerator[Site]:
    """A site, on a server that is emptied before and after."""
    await admin.flushdb()
    yield await Site.furnish(admin)
    await admin.flushdb()
