"""Many coins at once: handed out in few round trips, or put back; a cancelled caller gets none."""

from collections.abc import Iterable, Sequence
from typing import Final, cast

from aqm_db._io.gate import hold_open
from aqm_db._io.seam import Call, Reply, Undo
from aqm_db._model.tiers import Caps
from aqm_db.errors import AQMDatabaseError, CorruptEntryError
from aqm_db.types import InventoryEntry

from . import Scope
from .batch import TakeBack, run_batch
from .contacts import build_summary, read_priorities
from .stock import (
    build_release,
    build_select,
    continue_select,
    read_release,
    read_select,
    undo_select,
)


class Selection:
    """One coin that is to be taken.

    Args:
        contact_id: whose.
        tier: of which tier.
        is_exact: whether one of a lower tier won't do.
    """

    def __init__(self, contact_id: str, tier: str, *, is_exact: bool = False) -> None:
        self.contact_id: Final = contact_id
        self.tier: Final = tier
        self._is_exact = is_exact
        self._call: Call | None = None

    def build(self, scope: Scope) -> Call:
        """Its first call."""
        call = build_select(scope, self.contact_id, self.tier, is_exact=self._is_exact)
        self._call = call
        return call

    def proceed(self, reply: Reply) -> Call | None:
        """The call that goes on where it wasn't finished; None if it was."""
        return continue_select(self.contact_id, cast("Call", self._call), reply)

    def read(self, scope: Scope, reply: Reply | AQMDatabaseError) -> InventoryEntry | None:
        """What it was given; that's the end of it."""
        # Thousands of calls that nobody needs any more would be looked at by the garbage collector.
        call, self._call = cast("Call", self._call), None
        return read_select(scope, self.contact_id, call, reply)

    def undo(self, scope: Scope, caps: Caps, reply: Reply) -> Call | None:
        """The call that puts back what it was given."""
        return undo_select(scope, caps, self.contact_id, cast("Call", self._call), reply)


class Look:
    """A look at contacts' priorities, in the same round trip.

    Args:
        contact_ids: whose.

    Attributes:
        priorities: by contact id what is stored as one; empty where nobody knows.
    """

    def __init__(self, contact_ids: Iterable[str]) -> None:
        self._contact_ids = tuple(contact_ids)
        self.priorities: dict[str, object] = {}

    def build(self, scope: Scope) -> Call:
        """Its call."""
        return build_summary(scope, self._contact_ids)

    def proceed(self, reply: Reply) -> None:
        """It's finished by one call."""

    def read(self, _: Scope, reply: Reply | AQMDatabaseError) -> None:
        """Takes note of what there is."""
        self.priorities = dict(zip(self._contact_ids, read_priorities(reply), strict=True))

    def undo(self, *_: object) -> None:
        """It changes nothing."""


class PutBack:
    """One coin that is to be put back: by the same request, however often it's tried.

    Args:
        entry: the coin.
    """

    def __init__(self, entry: InventoryEntry) -> None:
        self.entry: Final = entry
        self._call: Call | None = None

    def build(self, scope: Scope, caps: Caps) -> Call:
        """Its call."""
        # A second request could find another use of the same millisecond.
        if self._call is None:
            self._call = build_release(scope, self.entry, caps)
        return self._call


async def take(
    scope: Scope, caps: Caps, wanted: Sequence[Selection | Look]
) -> list[InventoryEntry | AQMDatabaseError | None]:
    """Takes coins, each with an outcome of its own.

    Args:
        scope: whose inventory it is.
        caps: coins per contact, by priority and tier.
        wanted: which; a :class:`Look` has no outcome, but for an error.
    """

    def undo(item: Selection | Look) -> Undo:
        return lambda reply: item.undo(scope, caps, reply)

    def take_back(entry: InventoryEntry | None) -> Call:
        # What there is none of isn't among these.
        return build_release(scope, cast("InventoryEntry", entry), caps)

    # What a cancelled caller was given goes back, though the database is closed meanwhile.
    with hold_open(scope.seam) as seam:
        return await run_batch(
            seam,
            wanted,
            lambda item: item.build(scope),
            lambda item, reply: item.read(scope, reply),
            TakeBack(undo, take_back, scope.confirming.settle_timeout),
            lambda item, reply: item.proceed(reply),
        )


async def take_one(scope: Scope, caps: Caps, wanted: Selection) -> InventoryEntry | None:
    """The same of one coin; it raises what is wrong."""
    [outcome] = await take(scope, caps, [wanted])
    if isinstance(outcome, AQMDatabaseError):
        raise outcome
    return outcome


async def put_back(
    scope: Scope, caps: Caps, coins: Sequence[PutBack]
) -> list[bool | AQMDatabaseError]:
    """Puts coins back to their places; for each whether it is, or why nobody knows."""
    return await run_batch(
        scope.seam,
        coins,
        lambda coin: coin.build(scope, caps),
        lambda coin, reply: read_release(coin.entry, reply),
    )


def is_settled(outcome: object) -> bool:
    """Whether it's no use to put a coin back once more."""
    return isinstance(outcome, bool | CorruptEntryError)
