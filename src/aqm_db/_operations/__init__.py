"""One script call each, on one owner's data: KEYS and ARGV in, a typed result out.

A module is what the calls are about. It owns both ends of its scripts: ``build_...`` makes the
call, and ``read_...`` makes of the reply what the caller gets, or the error. There is no event loop
here, and no client library: whoever calls has the seam.
"""

from collections.abc import Callable
from typing import NamedTuple

from aqm_db._io.confirming import Confirming
from aqm_db._io.facts import parse_time
from aqm_db._io.seam import Argument, Seam
from aqm_db._model.keys import Keys

from .claims import Claims


class Scope(NamedTuple):
    """What operations on one owner's data are made with.

    Attributes:
        seam: where the data is.
        keys: the names of its Redis keys.
        clock: milliseconds since the epoch; None for the server's own clock.
        request_ids: a fresh id for every call.
        confirming: what has to have each change; the seam sees to it.
        claims: those that are over; None if nothing is claimed.
    """

    seam: Seam
    keys: Keys
    clock: Callable[[], int] | None
    request_ids: Callable[[], str]
    confirming: Confirming
    claims: Claims | None = None

    def read_clock(self) -> Argument:
        """What scripts are told of the time: nothing if the server's own clock decides."""
        return "" if self.clock is None else self.clock()

    async def ask_time(self) -> int:
        """Milliseconds since the epoch, by that clock (TIME)."""
        if self.clock is not None:
            return self.clock()
        [reply] = await self.seam.read(("TIME",))
        return parse_time(reply)

    async def try_walk(self, pattern: str) -> None:
        """Asks for a step of a walk (SCAN): who may not walk is told while nothing is changed."""
        await self.seam.read(("SCAN", 0, "MATCH", pattern, "COUNT", 1))

    def replace_seam(self, seam: Seam) -> "Scope":
        """The same over another seam."""
        _, keys, clock, request_ids, confirming, claims = self
        return Scope(seam, keys, clock, request_ids, confirming, claims)
