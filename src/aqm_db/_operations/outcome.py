"""What a call's replies come to: the one place where a return code becomes an exception."""

import logging
from collections.abc import Callable, Iterable, Mapping
from copy import copy
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
)

_log = logging.getLogger("aqm_db")


class Progress:
    """A call that takes several requests: when a later one fails, its error tells of the others.

    Args:
        operation: what logs call it.

    Attributes:
        count: how many changes are known to be made by now.
    """

    def __init__(self, operation: str) -> None:
        self.count = 0
        self._operation = operation
        self._is_doubtful = False

    def add(
        self,
        outcomes: Iterable[Reply | AQMDatabaseError | int],
        count: Callable[[Reply], int] = sum,
    ) -> None:
        """Takes note of what requests have done: all of them, before any is looked at for errors.

        Args:
            outcomes: their replies; errors in the place of replies; numbers of changes, too.
            count: how many changes the part of a reply stands for that follows its OK.
        """
        for outcome in outcomes:
            if isinstance(outcome, AQMDatabaseError):
                self._is_doubtful |= outcome.outcome_unknown
            elif isinstance(outcome, int):
                self.count += outcome
            elif outcome[0] == Code.OK:
                self.count += count(outcome[1:])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or not (self.count or self._is_doubtful):
            return
        if isinstance(error, AQMDatabaseError):
            # A copy, since others may be told of the same failure.
            told = copy(error)
            told.outcome_unknown = True
            told.carried_out += self.count
            raise told.with_traceback(traceback) from error.__cause__
        # A cancellation, or the client's own: it has no place for numbers, so the log tells.
        # Whoever cancels knows, and programs that end do, so it's no warning.
        _log.info(
            "changed_in_part",
            extra={
                "operation": self._operation,
                "count": self.count,
                "error": type(error).__name__,
            },
        )


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
