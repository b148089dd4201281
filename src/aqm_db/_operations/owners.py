"""Walks over the keys of all owners."""

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

from aqm_db._io.facts import read_unless_refused
from aqm_db._io.redispy.clients import AnyAsyncClient, is_cluster, make_share_seams
from aqm_db._io.seam import Seam
from aqm_db._model.keys import OWNERS_PATTERN
from aqm_db.errors import UnavailableError

_Layout: TypeAlias = list[list[bytes]]
"""The slots that each primary has, as it says itself."""


async def scan_owners(
    client: AnyAsyncClient, unavailable: type[UnavailableError], user: str
) -> AsyncIterator[list[bytes]]:
    """Scans the key names of all owners, page by page; on a cluster, those of each primary.

    A slot that goes from a primary which wasn't walked yet to one which was would be missed, so
    all are walked again if one moved, or may have. Each key that moves once at most is found. A
    primary's walk goes on, from its beginning, at the replica that takes over.

    Args:
        client: of the server, or the cluster.
        unavailable: what is raised when a server can't be reached.
        user: the function that the client was passed to.
    """
    for _ in range(2):
        seams = await make_share_seams(client, unavailable, user)
        before = await _read_layout(seams) if is_cluster(client) else []
        for seam in seams:
            async for page in seam.scan(OWNERS_PATTERN):
                yield page
        if before is not None and (not before or before == await _read_layout(seams)):
            return


async def _read_layout(seams: Sequence[Seam]) -> _Layout | None:
    """Where all slots are; None if one is between two primaries, or the user may not ask."""
    layout: _Layout = []
    for seam in seams:
        replies = await read_unless_refused(seam, ("CLUSTER", "NODES"))
        if replies is None:
            return None
        nodes = [line.split() for line in replies[0].splitlines()]
        [slots] = [fields[8:] for fields in nodes if b"myself" in fields[2]]
        if any(slot.startswith(b"[") for slot in slots):
            return None
        layout.append(slots)
    return layout
