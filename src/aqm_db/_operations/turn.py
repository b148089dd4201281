"""The turn: which of several programs cares for a database, until the next one is due."""

from aqm_db._io.seam import Call, Reply
from aqm_db._lua.loader import Script

from . import Scope
from .outcome import check_reply

TAKE = Script("turn/take")
DROP = Script("turn/drop")


def build_take(scope: Scope, holder: str, lasting_ms: int) -> Call:
    """The call that takes the turn, or prolongs it, unless another program has it.

    Args:
        scope: whose database it is.
        holder: this program's own id.
        lasting_ms: how long nobody else gets it.
    """
    return Call(TAKE, (scope.keys.maintenance,), (holder, lasting_ms))


def read_take(reply: Reply) -> bool:
    """Whether it's this program's turn."""
    [taken] = check_reply(reply)
    return bool(taken)


def build_drop(scope: Scope, holder: str) -> Call:
    """The call that gives the turn to whoever comes next."""
    return Call(DROP, (scope.keys.maintenance,), (holder,))
