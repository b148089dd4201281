"""Rounds of maintenance over all owners: when one is due, and how far it is."""

import re
from typing import NamedTuple

from aqm_db._io.seam import Call, Reply
from aqm_db._lua.loader import Script
from aqm_db._model.rows import read_map, row_of
from aqm_db.errors import CorruptEntryError
from aqm_db.types import MaintenanceProgress

from . import Scope
from .outcome import check_reply

BEGIN = Script("turn/begin")
ADVANCE = Script("turn/advance")

_ABANDONED_MS = 300_000
_COUNTS = re.compile(rb"(\d{1,15}) (\d{1,15})")


class Begun(NamedTuple):
    """A round over all owners.

    Attributes:
        is_due: whether it's under way; otherwise it's over, and the next one isn't due.
        began: when it began, which is its number.
    """

    is_due: bool
    began: int


def build_begin(scope: Scope, every_ms: int) -> Call:
    """The call that begins a round, or joins the one that is under way.

    Args:
        scope: the provider's own database, which keeps how far it is.
        every_ms: a round begins no sooner after another one has begun.
    """
    return Call(BEGIN, (scope.keys.round,), (scope.read_clock(), every_ms, _ABANDONED_MS))


def read_begin(reply: Reply) -> Begun:
    """The round."""
    [is_due, began] = check_reply(reply)
    return Begun(bool(is_due), int(began))


def build_advance(
    scope: Scope, began: int, holder: str, cared: int, failed: int, *, is_over: bool
) -> Call:
    """The call that notes how far a program is.

    Args:
        scope: the provider's own database.
        began: the round's number.
        holder: the program's own id.
        cared: how many owners it has cared for by now.
        failed: how many it couldn't care for.
        is_over: whether it has come to the end.
    """
    arguments = (began, holder, f"{cared} {failed}", "end" if is_over else "on")
    return Call(ADVANCE, (scope.keys.round,), (scope.read_clock(), *arguments))


def read_advance(reply: Reply) -> bool:
    """Whether it's the newest round still."""
    [noted] = check_reply(reply)
    return bool(noted)


async def read_progress(scope: Scope) -> MaintenanceProgress | None:
    """How far the newest round is; None if there was none.

    Raises:
        CorruptEntryError: what is noted is malformed.
    """
    [reply] = await scope.seam.read(("HGETALL", scope.keys.round))
    row = row_of("the round of maintenance", reply)
    if row is None:
        return None
    told = [_read_counts(value) for name, value in read_map(reply).items() if _tells(name)]
    return MaintenanceProgress(
        began_at=row.integer("began"),
        ended_at=row.integer("ended") if row.has("ended") else None,
        owners_cared_for=sum(cared for cared, _ in told),
        owners_failed=sum(failed for _, failed in told),
        owners_expected=row.integer("expected"),
    )


def _tells(name: bytes) -> bool:
    """Whether it's a program's own field."""
    return name.startswith(b"by:")


def _read_counts(value: bytes) -> tuple[int, int]:
    """The owners that a program has cared for, and those that it couldn't."""
    found = _COUNTS.fullmatch(value)
    if found is None:
        raise CorruptEntryError("the round of maintenance: a program's counts are malformed")
    return int(found[1]), int(found[2])
