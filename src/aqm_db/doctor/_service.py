"""Whether the server can do what is asked of it: its role, and its replicas."""

from typing import Final

from aqm_db._io.confirming import Confirming
from aqm_db._io.facts import Facts, Settings
from aqm_db._io.fsync import REMEDY, find_doubt
from aqm_db._operations.safety import find_replica

from ._findings import Finding, admit_ignorance

_DISK_MS: Final = 2000
"""What is written once a second is waited for up to twice as long."""
_CONFIRMED: Final = Finding("confirmation", "ok", "Changes are confirmed as they have to be.")
_LET_ASK: Final = "Let the user run CONFIG GET (+config|get)."


def examine_role(facts: Facts) -> Finding:
    """Whether the server is a replica."""
    if facts.is_replica is None:
        return admit_ignorance("replica", "INFO")
    if defect := find_replica(facts):
        return Finding("replica", "error", *defect)
    return Finding("replica", "ok", "The server is no replica.")


def examine_confirmation(confirming: Confirming, facts: Facts, settings: Settings) -> list[Finding]:
    """Whether changes can be confirmed as they have to be; nothing if they haven't."""
    if not confirming.is_wanted:
        return []
    if facts.replicas is None:
        return [admit_ignorance("confirmation", "INFO")]
    if facts.replicas < confirming.replicas:
        return [
            Finding(
                "confirmation",
                "error",
                f"Changes wait for {confirming.replicas} replicas, and the server has "
                f"{facts.replicas}: each call fails after confirm_timeout, and its outcome is "
                "unknown.",
                "Connect more replicas, or lower confirm_replicas.",
            )
        ]
    return [_examine_fsync(confirming, facts, settings) if confirming.fsync else _CONFIRMED]


def _examine_fsync(confirming: Confirming, facts: Facts, settings: Settings) -> Finding:
    policy = settings.appendfsync
    if doubt := find_doubt(facts, policy):
        message = f"Changes wait for the disk, and each call fails: {doubt}"
        return Finding("confirmation", "error", message, REMEDY if policy else _LET_ASK)
    if policy == "everysec" and confirming.timeout < _DISK_MS:
        return Finding(
            "confirmation",
            "warning",
            "Changes wait for disks that are written once a second (appendfsync is everysec), "
            f"and confirm_timeout is {confirming.timeout} ms.",
            f"Set appendfsync to always, or confirm_timeout to {_DISK_MS} or more.",
        )
    return _CONFIRMED
