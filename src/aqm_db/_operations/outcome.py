"""What a call's replies come to: the one place where a return code becomes an exception."""

from types import TracebackType
from typing import Self

from aqm_db._io.seam import Reply
from aqm_db._lua.loader import Code
from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    ContactNotRegisteredError,
    CorruptEntryError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
    KeyNotFoundError,
    NoSlotError,
    UnavailableError,
)


class Progress:
    """A call that takes several requests: when a later one fails, its error tells of the others.

    Attributes:
        made: whether anything may have been changed by now.
    """

    def __init__(self) -> None:
        self.made = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.made and isinstance(error, UnavailableError):
            raise type(error)(str(error), outcome_unknown=True) from None


def check_reply(
    reply: Reply | AQMDatabaseError, *, contact_id: str = "", key_id: str = "", tier: str = ""
) -> Reply:
    """What follows the code of a reply that says OK.

    Raises:
        AQMDatabaseError: the error that the reply's code stands for.
    """
    if isinstance(reply, AQMDatabaseError):
        raise reply
    match reply[0]:
        case Code.OK:
            return reply[1:]
        case Code.NOT_FOUND:
            raise KeyNotFoundError(f"no key {key_id!r}")
        case Code.EXISTS:
            raise KeyAlreadyExistsError(f"key {key_id!r} is stored already")
        case Code.USED:
            raise KeyAlreadyUsedError(f"key {key_id!r} was used already")
        case Code.BURNED:
            raise KeyAlreadyBurnedError(f"key {key_id!r} was burned already")
        case Code.NOT_REGISTERED:
            raise ContactNotRegisteredError(f"contact {contact_id!r} is not registered")
        case Code.BUDGET:
            raise BudgetExceededError(contact_id, tier, reply[1], reply[2])
        case Code.NO_SLOT:
            raise NoSlotError(f"no reserved slot is left for key {key_id!r} of {contact_id!r}")
        case _:
            raise CorruptEntryError(
                f"a stored entry of {contact_id or key_id or 'the vault'!r} is malformed"
            )
