"""What stands in the place of a seam once its database was closed."""

from functools import partial
from typing import NoReturn

from aqm_db.errors import UnavailableError

from .seam import Seam

REASON = "the database was closed"


def closed_seam(unavailable: type[UnavailableError]) -> Seam:
    """A seam that sends nothing, on either face.

    redis-py's clients would connect again, and nobody would close that connection.
    """
    # The synchronous seam never suspends, so it serves both; until then most programs have none.
    from .redispy.sync_seam import SyncSeam  # noqa: PLC0415

    return SyncSeam(partial(_refuse, unavailable), unavailable)


def _refuse(unavailable: type[UnavailableError]) -> NoReturn:
    raise unavailable(REASON)
