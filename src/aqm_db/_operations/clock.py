"""What is known of a server's clock: what it shows, where it jumped from, what that has cost."""

from typing import NamedTuple

from aqm_db._io.facts import parse_time, read_unless_refused
from aqm_db._io.seam import Seam
from aqm_db._model.defaults import DAY_MS
from aqm_db._model.rows import parse_number
from aqm_db.errors import AQMDatabaseError


class ClockRecord(NamedTuple):
    """What one of a database's halves has noted of its server's clock.

    Attributes:
        shown: what it shows, in ms since the epoch.
        jump: by how many ms it went on at once, while nothing is erased by it for that reason; 0 if
            that was less than a day, as when nobody was here overnight.
        lost: how many private halves were gone before their time.
        lost_at: when the last of them was missed, by the server's clock (ms).
    """

    shown: int
    jump: int
    lost: int
    lost_at: int


async def read_clock_record(seam: Seam, watch: str) -> ClockRecord | None:
    """What is noted there; None if the server doesn't let it be read.

    Args:
        seam: where it is.
        watch: the name of the key that has it.
    """
    fields = ("HMGET", watch, "before", "lost", "lost_at")
    replies = await read_unless_refused(seam, ("TIME",), fields)
    if replies is None or isinstance(replies[1], AQMDatabaseError):
        return None
    time, values = replies
    shown = parse_time(time)
    before, lost, lost_at = (parse_number(value or b"") or 0 for value in values)
    jump = shown - before if before else 0
    return ClockRecord(shown, jump if jump >= DAY_MS else 0, lost, lost_at)
