"""Walks over the keys of all owners."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from aqm_db._io.facts import read_unless_refused
from aqm_db._io.redispy.clients import AnyAsyncClient, is_cluster, make_share_seams
from aqm_db._io.seam import Seam
from aqm_db._model.keys import OWNERS_PATTERN
from aqm_db.errors import UnavailableError

_Layout: TypeAlias = list[list[bytes]]
"""The slots that each primary has, as it says itself."""


@dataclass(slots=True, eq=False)
class Share:
    """What one server has of all keys: the only one, or a primary of a cluster.

    Attributes:
        seam: where it is.
        error: why it can't be reached; None as long as it can.
    """

    seam: Seam
    error: UnavailableError | None = None


async def scan_owners(
    client: AnyAsyncClient, unavailable: type[UnavailableError], user: str
) -> AsyncIterator[list[bytes]]:
    """Scans the key names of all owners, page by page; see :func:`scan_shares`."""
    async for _, page in scan_shares(client, unavailable, user, OWNERS_PATTERN):
        yield page


async def scan_shares(
    client: AnyAsyncClient,
    unavailable: type[UnavailableError],
    user: str,
    pattern: str,
    layer: Callable[[Seam], Seam] = lambda seam: seam,
) -> AsyncIterator[tuple[Share, list[bytes]]]:
    """Scans key names, page by page; on a cluster, those of each primary.

    A slot that goes from a primary which wasn't walked yet to one which was would be missed, so
    all are walked again if one moved, or may have. Each key that moves once at most is found. A
    primary's walk goes on, from its beginning, at the replica that takes over. One that can't be
    reached, as the walk finds or whoever takes its pages says (``share.error``), is left alone,
    and hinders no other's; that is told once these are over.

    Args:
        client: of the server, or the cluster.
        unavailable: what is raised when a server can't be reached.
        user: the function that the client was passed to.
        pattern: what the names look like.
        layer: what each server is asked through.

    Raises:
        UnavailableError: a server couldn't be reached.
        AccessDeniedError: the user may not walk.
    """
    for _ in range(2):
        seams = await make_share_seams(client, unavailable, user)
        shares = [Share(layer(seam)) for seam in seams]
        before = await _read_layout(shares) if is_cluster(client) else []
        for share in shares:
            if share.error is not None:
                continue
            try:
                async for page in share.seam.scan(pattern):
                    yield share, page
                    if share.error is not None:
                        break
            except UnavailableError as error:
                share.error = error
        for share in shares:
            if share.error is not None:
                raise share.error
        if before is not None and (not before or before == await _read_layout(shares)):
            return


async def _read_layout(shares: Sequence[Share]) -> _Layout | None:
    """Where all slots are; None if one is between two primaries, or nobody tells."""
    layout: _Layout | None = []
    for share in shares:
        try:
            replies = await read_unless_refused(share.seam, ("CLUSTER", "NODES"))
        except UnavailableError as error:
            # It was asked as often as it may be.
            share.error, replies = error, None
        slots = None if replies is None else _read_slots(replies[0])
        layout = None if layout is None or slots is None else [*layout, slots]
    return layout


def _read_slots(told: bytes) -> list[bytes] | None:
    """The slots of whoever told this (CLUSTER NODES); None if one is on its way."""
    nodes = [line.split() for line in told.splitlines()]
    [slots] = [fields[8:] for fields in nodes if b"myself" in fields[2]]
    return None if any(slot.startswith(b"[") for slot in slots) else slots
