"""What an examination says: a finding about each thing, and all of them together."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

FindingName: TypeAlias = Literal[
    "persistence",
    "loss_window",
    "recovery",
    "eviction",
    "replica",
    "version",
    "memory",
    "disk",
    "space",
    "files",
    "clock",
    "password",
    "tls",
    "confirmation",
    "permissions",
]
"""What was examined.

``persistence``: whether an append-only file is kept; ``loss_window``: how much of it a crash of
the machine may lose; ``recovery``: whether the starts after a crash bring back whole requests;
``eviction``: whether the server deletes keys to make room; ``replica``: whether it is one;
``version``: whether it's new enough, and supported; ``memory``: how much is left; ``disk``: whether
its last writes to files worked; ``space``, ``files``: of an embedded database, whether its disk has
room, and whether its files were found whole; ``clock``: whether the server's is right, and what a
wrong one has cost; ``password``: who can use it; ``tls``: who can listen; ``confirmation``: whether
changes that have to be confirmed can be; ``permissions``: whether the user may do all that the
library does.
"""
PUBLIC: Final = "aqm_db.doctor"
"""Where users find these classes, and pickles too."""
Severity: TypeAlias = Literal["ok", "warning", "error"]

_WORST_FIRST: Final[tuple[Severity, ...]] = ("error", "warning", "ok")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was examined.

    Attributes:
        name: what it is about.
        severity: ``error`` if keys may be lost or given away, or calls fail; ``warning`` if that
            depends, or couldn't be examined.
        message: a sentence of what is so.
        remedy: a sentence of what to do; empty if all is well.
    """

    __module__ = PUBLIC

    name: FindingName
    severity: Severity
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found."""

    __module__ = PUBLIC

    findings: tuple[Finding, ...]

    @property
    def severity(self) -> Severity:
        """The worst of all findings."""
        found = {finding.severity for finding in self.findings}
        return next(severity for severity in _WORST_FIRST if severity in found)


def admit_ignorance(name: FindingName, command: str) -> Finding:
    """What is said of a thing that the server doesn't tell.

    Args:
        name: the thing.
        command: what would tell it.
    """
    return Finding(
        name,
        "warning",
        f"This couldn't be examined, since the server refuses {command}.",
        f"Let the user run {command}, or ask whoever runs the server.",
    )
