"""Whether the server's clock can be relied on: keys and coins end by it."""

from datetime import UTC, datetime, timedelta
from typing import Final

from aqm_db._operations.clock import ClockRecord

from ._findings import Finding, admit_ignorance

_DIFFERENCE_MS: Final = 60_000
_SET_RIGHT: Final = "Set the server's clock right, and keep it so (NTP)."


def examine_clock(record: ClockRecord | None, now: int) -> list[Finding]:
    """What the server's clock shows, and what is noted of it.

    Args:
        record: what is noted; None if it can't be read.
        now: what this machine's clock shows (ms).
    """
    if record is None:
        return [admit_ignorance("clock", "TIME")]
    findings: list[Finding] = []
    if record.lost:
        findings.append(
            Finding(
                "clock",
                "warning",
                f"{record.lost} private halves were gone before their time, the last of them was "
                f"missed on {_format_time(record.lost_at)}: the server's clock was ahead for a "
                "while, or somebody deleted them.",
                f"{_SET_RIGHT} What was sent for them can be read with a backup only.",
            )
        )
    if record.jump:
        findings.append(
            Finding(
                "clock",
                "warning",
                f"The server's clock has gone on by {_format_duration(record.jump)} at once. If "
                "the database was in use meanwhile, it was set; nothing is erased by it until it "
                "has stayed there for an hour.",
                _SET_RIGHT,
            )
        )
    difference = record.shown - now
    if abs(difference) > _DIFFERENCE_MS:
        relation = "ahead of" if difference > 0 else "behind"
        findings.append(
            Finding(
                "clock",
                "warning",
                f"The server's clock is {_format_duration(abs(difference))} {relation} this "
                "machine's, and what ends, ends by the server's.",
                "Set both clocks right, and keep them so (NTP).",
            )
        )
    return findings or [Finding("clock", "ok", "The server's clock agrees with this machine's.")]


def _format_duration(ms: int) -> str:
    return str(timedelta(seconds=ms // 1000))


def _format_time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
