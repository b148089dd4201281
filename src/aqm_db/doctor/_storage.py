"""What the server keeps, and what could make it lose that: its files, and its memory."""

from typing import Final

from aqm_db._io.facts import Facts, Settings
from aqm_db._operations.safety import NEARLY_FULL_PERCENT, find_eviction
from aqm_db.embedded import Disk

from ._findings import Finding, FindingName, Severity, admit_ignorance

_MIB_BITS: Final = 20
_FULL_PERCENT: Final[tuple[tuple[Severity, int], ...]] = (
    ("error", 95),
    ("warning", NEARLY_FULL_PERCENT),
)


def examine_persistence(facts: Facts, settings: Settings) -> list[Finding]:
    """Whether an append-only file is kept, and how much of it a crash may lose."""
    if facts.has_file is None:
        names: tuple[FindingName, ...] = ("persistence", "loss_window", "recovery")
        return [admit_ignorance(name, "INFO") for name in names]
    if facts.has_file:
        return [
            Finding("persistence", "ok", "The server keeps an append-only file."),
            _examine_loss_window(settings),
            _examine_recovery(facts),
        ]
    message = (
        "Nothing is kept: there is neither an append-only file nor a snapshot."
        if settings.takes_snapshots is False
        else "There is no append-only file, and a crash takes everything back to the last "
        "snapshot, coins that were handed out since then included."
    )
    return [Finding("persistence", "error", message, "Set appendonly to yes.")]


def examine_disk(facts: Facts) -> Finding:
    """Whether the last writes to files worked."""
    if facts.has_written is None:
        return admit_ignorance("disk", "INFO")
    remedy = "Look into the server's log, and at the space and the permissions of its directory."
    if not facts.has_written:
        message = "The server couldn't write to its append-only file, and refuses writes."
        return Finding("disk", "error", message, remedy)
    if not facts.has_saved:
        message = "The server couldn't save its last snapshot, and may refuse writes."
        return Finding("disk", "error", message, remedy)
    if not facts.has_rewritten:
        message = "The server couldn't rewrite its append-only file, where burned keys stay."
        return Finding("disk", "warning", message, remedy)
    return Finding("disk", "ok", "The server's last writes to its files worked.")


def examine_space(disk: Disk) -> Finding:
    """Whether the disk of an embedded database has room."""
    free, wanted = disk.free >> _MIB_BITS, disk.wanted >> _MIB_BITS
    if disk.free >= disk.wanted:
        return Finding("space", "ok", f"The disk has {free} MiB left.")
    return Finding(
        "space",
        "warning",
        f"The disk has {free} MiB left, and should have {wanted} MiB: a rewrite of the database's "
        "file makes a second copy, and on a full disk nothing can be stored or handed out.",
        "Make room on the disk of the database's directory.",
    )


def examine_files(disk: Disk) -> Finding:
    """Whether the files of an embedded database were whole whenever it was opened."""
    if not disk.cut_off:
        return Finding("files", "ok", "The database's files were found whole.")
    return Finding(
        "files",
        "warning",
        "The database's files weren't whole when it was opened, as after a crash of the machine; "
        "what had to be cut off is in "
        f"{', '.join(str(path) for path in disk.cut_off)}.",
        "Coins that were handed out just before may be handed out again, and keys that were burned "
        "may be there again; run 'aqm-db check --repair', and delete what was cut off.",
    )


def examine_eviction(facts: Facts) -> Finding:
    """Whether the server deletes keys to make room."""
    if facts.eviction_policy is None:
        return admit_ignorance("eviction", "INFO")
    if defect := find_eviction(facts):
        return Finding("eviction", "error", *defect)
    if facts.evicts_when_full:
        return Finding(
            "eviction",
            "warning",
            "The server would delete keys if its memory had a limit (maxmemory-policy is "
            f"{facts.eviction_policy}).",
            "Set maxmemory-policy to noeviction.",
        )
    return Finding("eviction", "ok", "The server deletes no keys to make room.")


def examine_memory(facts: Facts) -> Finding:
    """How much memory is left."""
    if facts.used_memory is None:
        return admit_ignorance("memory", "INFO")
    limit = facts.memory_limit
    if not limit:
        return Finding("memory", "ok", "The server sets no limit to its memory.")
    percent = 100 * facts.used_memory / limit
    message = f"The server uses {percent:.0f} percent of its memory (maxmemory is {limit} bytes)."
    for severity, most in _FULL_PERCENT:
        if percent > most:
            return Finding(
                "memory", severity, message, "Raise maxmemory: a full server refuses to store keys."
            )
    return Finding("memory", "ok", message)


def _examine_recovery(facts: Facts) -> Finding:
    if facts.cuts_off_halves:
        return Finding("recovery", "ok", "A request that a crash breaks off is left out for good.")
    return Finding(
        "recovery",
        "warning",
        "A request that a crash breaks off in the append-only file is left out by the next start, "
        "but after the one after that half of it may be there, or what was acknowledged in "
        "between may be gone.",
        "After a crash of the server run 'redis-check-aof --fix' before it starts, or BGREWRITEAOF "
        "when it has started; Valkey 9.1.2 or later needs neither.",
    )


def _examine_loss_window(settings: Settings) -> Finding:
    match settings.appendfsync:
        case None:
            return admit_ignorance("loss_window", "CONFIG GET")
        case "always":
            return Finding("loss_window", "ok", "Whatever was acknowledged is on the disk.")
        case "everysec":
            return Finding(
                "loss_window",
                "warning",
                "A crash of the machine, or of the server while the disk is busy, may lose the "
                "last second or two (appendfsync is everysec).",
                "Set appendfsync to always where no coin may ever be handed out twice.",
            )
        case other:
            return Finding(
                "loss_window",
                "error",
                f"A crash of the machine may lose half a minute, or more (appendfsync is {other}).",
                "Set appendfsync to everysec, or to always.",
            )
