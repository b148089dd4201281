"""How far a round of maintenance over all owners is."""

from datetime import UTC, datetime
from typing import Any

from aqm_db.types import MaintenanceProgress


def dump_round(progress: MaintenanceProgress | None) -> dict[str, Any] | None:
    """For machines."""
    if progress is None:
        return None
    return {
        "began_at": progress.began_at,
        "ended_at": progress.ended_at,
        "cared_for": progress.owners_cared_for,
        "failed": progress.owners_failed,
        "left": progress.owners_left,
    }


def describe_round(progress: MaintenanceProgress | None) -> str:
    """For people."""
    if progress is None:
        return "no round has begun"
    owners = f"{progress.owners_cared_for:,} owners cared for, {progress.owners_failed:,} failed"
    if progress.ended_at is not None:
        return f"{owners}; ended {_format_time(progress.ended_at)}"
    left = f", some {progress.owners_left:,} left" if progress.owners_expected else ""
    return f"{owners}{left}; began {_format_time(progress.began_at)}"


def _format_time(ms: int) -> str:
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
