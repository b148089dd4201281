"""Until when each series of servers gets fixes of what is found in it.

The dates were looked up on 28 November 2026: those of Redis Open Source are from
https://redis.io/docs/latest/operate/oss_and_stack/install/version-mgmt/ (7.0 is from
https://endoflife.date/redis), those of Valkey from https://valkey.io/topics/releases/ (the end of
extended security support, where a series has it), both as https://endoflife.date gave them in its
state of 22 August 2026.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

from aqm_db._io.facts import Facts

from ._findings import Finding, admit_ignorance

Series: TypeAlias = tuple[int, ...]
"""The first two numbers of a version."""

ENDS: Final[Mapping[str, Mapping[Series, date | None]]] = {
    "Redis": {
        (6, 2): date(2027, 4, 1),
        (7, 0): date(2024, 7, 29),
        (7, 2): date(2029, 12, 1),
        (7, 4): date(2029, 12, 1),
        (8, 0): date(2026, 12, 1),
        (8, 2): date(2030, 9, 1),
        (8, 4): None,
        (8, 6): None,
        (8, 8): None,
        (8, 10): None,
    },
    "Valkey": {
        (7, 2): date(2029, 4, 16),
        (8, 0): date(2027, 9, 15),
        (8, 1): date(2030, 3, 31),
        (9, 0): date(2028, 10, 21),
        (9, 1): None,
    },
}
"""By product and series, oldest first: from which day on it's out of support; None if nobody has
said so yet."""
_LOOKED_UP: Final = "as of 2026-11-28"
_OLDEST: Final = (6, 2)


def examine_version(facts: Facts, now: int) -> Finding:
    """Whether the server is new enough, and still gets fixes.

    Args:
        facts: what the server tells of itself.
        now: what time it is (ms).
    """
    if facts.version is None or facts.own_version is None:
        return admit_ignorance("version", "INFO")
    if facts.version < _OLDEST:
        return Finding(
            "version",
            "error",
            f"The server is {facts.name}, which lacks what the scripts use.",
            "Use Redis 6.2 or later, or Valkey.",
        )
    ends = ENDS[facts.product]
    series = facts.own_version[:2]
    if not series or series > max(ends):
        message = f"The server is {facts.name}, which isn't known here yet ({_LOOKED_UP})."
        return Finding("version", "ok", message)
    today = datetime.fromtimestamp(now / 1000, UTC).date()
    supported = [each for each, end in ends.items() if end is None or today < end]
    if series in supported:
        return Finding("version", "ok", f"The server is {facts.name}.")
    end = ends.get(series)
    return Finding(
        "version",
        "warning",
        f"The server is {facts.name}, which is out of support"
        f"{'' if end is None else f' since {end}'}: what is found in it isn't mended any more.",
        f"Use {facts.product} {_enumerate(supported)}, which are supported ({_LOOKED_UP}).",
    )


def _enumerate(supported: Sequence[Series]) -> str:
    # There is always one, since no product has said when its newest ends.
    *others, last = (".".join(map(str, series)) for series in supported)
    return f"{', '.join(others)} or {last}" if others else last
