"""The turn: which of several programs cares for a database, until the next one is due."""

from typing import Literal, NamedTuple, TypeAlias, cast

from aqm_db._io.seam import Call, Reply
from aqm_db._lua.loader import Script

from . import Scope
from .outcome import check_reply
from .stock import COIN_TTL_MS, USED_TTL_MS

TAKE = Script("turn/take")
DROP = Script("turn/drop")
VISIT = Script("turn/visit")
KEEP = Script("turn/keep")
LOOK = Script("vault/look")

State: TypeAlias = Literal["passed", "busy", "idle", "work"]
"""What a visit finds: the turn is another's, an owner who is cared for, no garbage, or some."""
_MOST_CONTACTS = 16
_MOST_COINS = 200
"""What a visit looks at is below a millisecond of the server's time."""


class Visit(NamedTuple):
    """One look at an owner in a round over all of them.

    Attributes:
        began: when the round began, which is its number.
        id: the visit's own.
    """

    began: int
    id: str

    @property
    def turn(self) -> str:
        """What the turn is from then on until it ends, once the owner was cared for."""
        return f"round:{self.began}:{self.id}"

    @property
    def working_turn(self) -> str:
        """What the turn is until then."""
        return f"{self.turn}:working"


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


def build_visit(scope: Scope, visit: Visit, *, working_ms: int, inactive_ms: int) -> Call:
    """The call that takes an owner's turn for a round, and looks for garbage.

    Args:
        scope: whose database it is.
        visit: which visit it is.
        working_ms: how long nobody else gets the turn, unless it's kept.
        inactive_ms: a contact whose last message is longer ago is inactive.
    """
    keys = scope.keys
    prefixes = (keys.metas, keys.useds, keys.used_untils, keys.queues, keys.rows)
    times = (COIN_TTL_MS, inactive_ms, USED_TTL_MS)
    return Call(
        VISIT,
        (keys.maintenance, keys.inv_contacts, keys.inv_watch, keys.inv_aside),
        (
            *(scope.read_clock(), visit.began, visit.id, working_ms),
            *(*prefixes, *times, _MOST_CONTACTS, _MOST_COINS),
        ),
    )


def read_visit(reply: Reply) -> State:
    """What the visit found."""
    [state] = check_reply(reply)
    return cast("State", state.decode())


def build_keep(scope: Scope, before: str, after: str, lasting_ms: int) -> Call:
    """The call that makes another turn of one, unless it's gone.

    Args:
        scope: whose database it is.
        before: what the turn is.
        after: what it becomes.
        lasting_ms: how long nobody else gets it.
    """
    return Call(KEEP, (scope.keys.maintenance,), (before, after, lasting_ms))


def build_look(scope: Scope, age_ms: int) -> Call:
    """The call that looks whether there is a private half to purge.

    Args:
        scope: whose vault it is.
        age_ms: how old private halves may be.
    """
    arguments = (scope.read_clock(), scope.keys.vault_prefix, age_ms)
    return Call(LOOK, (scope.keys.vault_expiry,), arguments)


def read_look(reply: Reply) -> bool:
    """Whether there is."""
    [found] = check_reply(reply)
    return bool(found)
