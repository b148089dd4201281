"""What a call's replies come to: the one place where a return code becomes an exception."""

from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

from aqm_db._io.seam import Reply
from aqm_db._lua.loader import Code
from aqm_db.errors import (
    AQMDatabaseError,
    BudgetExceededError,
    CoinExpiredError,
    ContactNotRegisteredError,
    CorruptEntryError,
    KeyAlreadyBurnedError,
    KeyAlreadyExistsError,
    KeyAlreadyUsedError,
    KeyExpiredError,
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
    code = reply[0]
    if code == Code.OK:
        return reply[1:]
    if code == Code.BUDGET:
        raise BudgetExceededError(contact_id, tier, reply[1], reply[2])
    error, text = _ERRORS.get(code, _MALFORMED)
    whose = contact_id or key_id or "the vault"
    raise error(text.format(contact_id=contact_id, key_id=key_id, whose=whose))


_ERRORS: Final[Mapping[int, tuple[type[AQMDatabaseError], str]]] = {
    Code.NOT_FOUND: (KeyNotFoundError, "no key {key_id!r}"),
    Code.EXISTS: (KeyAlreadyExistsError, "key {key_id!r} is stored already"),
    Code.USED: (KeyAlreadyUsedError, "key {key_id!r} was used already"),
    Code.COIN_EXPIRED: (
        CoinExpiredError,
        "key {key_id!r} has expired, and so has its private half",
    ),
    Code.EXPIRED: (KeyExpiredError, "key {key_id!r} has expired"),
    Code.BURNED: (KeyAlreadyBurnedError, "key {key_id!r} was burned already"),
    Code.NOT_REGISTERED: (ContactNotRegisteredError, "contact {contact_id!r} is not registered"),
    Code.NO_SLOT: (NoSlotError, "no reserved slot is left for key {key_id!r} of {contact_id!r}"),
}
"""What is raised for a code, and its text."""
_MALFORMED: Final = (CorruptEntryError, "a stored entry of {whose!r} is malformed")
