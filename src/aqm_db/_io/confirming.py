"""Changes that count once replicas, or disks, have them, too."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aqm_db import config
from aqm_db._model.checks import check_count, check_flag, check_timeout
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    InvalidArgumentError,
    UnavailableError,
)

from .answers import Ask, is_late
from .facts import is_refusal
from .failures import ErrorKind, ErrorReply, make_error
from .request import Request
from .seam import Command, Seam

_HEAD_START_MS = 50
"""How long replicas are waited for before their disks are: longer than a round trip to them."""
_NEEDED = "WAITAOF takes Redis 7.2, or Valkey, and an append-only file"


class Confirming(NamedTuple):
    """What has to be before a call returns: which changes are where, or what it did is found out.

    Attributes:
        replicas: how many replicas must have it (WAIT).
        timeout: how long they are waited for, in ms.
        fsync: whether it has to be on the disks, the primary's included (WAITAOF).
        settle_timeout: how long a cancelled call finds out what it did, in ms.
    """

    replicas: int = 0
    timeout: int = config.CONFIRM_TIMEOUT
    fsync: bool = False
    settle_timeout: int = config.SETTLE_TIMEOUT

    @property
    def is_wanted(self) -> bool:
        """Whether anything has to."""
        return self.replicas > 0 or self.fsync

    def list_waits(self) -> list[Command]:
        """The commands that wait for it."""
        if not self.fsync:
            return [("WAIT", self.replicas, self.timeout)] if self.replicas else []
        # A replica that is asked while its disk is written tells of it a second later.
        started = [("WAIT", self.replicas, min(self.timeout, _HEAD_START_MS))]
        return [*(started if self.replicas else []), ("WAITAOF", 1, self.replicas, self.timeout)]


UNCONFIRMED: Final = Confirming()
"""Nothing but the primary's memory."""


class Confirmation:
    """Waits until a change is confirmed.

    Args:
        confirming: what has to have it.
        key: a key in the slot of all that is changed; it's written with each change.
    """

    def __init__(self, confirming: Confirming, key: str) -> None:
        self._confirming = confirming
        self._tail: list[Command] = [("SET", key, "", "PX", 1000), *confirming.list_waits()]
        self._names = [str(command[0]) for command in self._tail]

    def wrap_ask(self, ask: Ask, unavailable: type[UnavailableError]) -> Ask:
        """Sends commands as ``ask`` does, and waits for their confirmation in the same request.

        WAIT and WAITAOF are about what their own connection wrote. A call that is asked again
        writes nothing, so each writes a key of no meaning, and what was written before it is waited
        for as well.
        """

        async def ask_and_wait(commands: Sequence[Command], request: Request) -> list[Any]:
            answers = await ask([*commands, *self._tail], request)
            replies, tail = answers[: len(commands)], answers[len(commands) :]
            if not all(_changed_nothing(reply) for reply in replies):
                for reply, command in zip(tail, self._names, strict=True):
                    if isinstance(reply, AQMDatabaseError):
                        raise unavailable(str(reply), outcome_unknown=True)
                    if isinstance(reply, ErrorReply) and not self._is_unable(command, reply):
                        raise _explain_unconfirmed(make_error(reply, command), unavailable)
                if lack := self._find_lack(tail[-1]):
                    raise unavailable(lack, outcome_unknown=True)
            return replies

        return ask_and_wait

    def _is_unable(self, command: str, reply: ErrorReply) -> bool:
        """Whether the server can't do what waits for the disk: the change itself was made."""
        return command == "WAITAOF" and reply.kind is ErrorKind.OTHER

    def _find_lack(self, confirmed: Any) -> str:
        """What is missing in the reply of WAIT, a number, or of WAITAOF, two; empty if nothing."""
        if isinstance(confirmed, ErrorReply):
            return f"nothing confirmed the change: {_NEEDED}"
        disks, replicas = confirmed if self._confirming.fsync else (1, confirmed)
        wanted = self._confirming.replicas
        if replicas < wanted:
            return f"{replicas} of {wanted} replicas confirmed the change"
        return "" if disks else "the server's disk didn't confirm the change"


def check_confirming(
    replicas: object, timeout: object, fsync: object, settle_timeout: object
) -> Confirming:
    """What a caller wants to be before a call returns.

    Raises:
        InvalidArgumentError: a number is out of range, or of another type.
    """
    return Confirming(
        check_count("confirm_replicas", replicas, 0),
        check_timeout("confirm_timeout", timeout),
        check_flag("confirm_fsync", fsync),
        check_timeout("settle_timeout", settle_timeout),
    )


async def check_fsync(seam: Seam) -> None:
    """Refuses a server that can't tell whether a change is on its disk.

    Raises:
        InvalidArgumentError: it has no WAITAOF, or no append-only file.
    """
    try:
        # Its own connection has written nothing, so this waits for nothing.
        await seam.read(("WAITAOF", 1, 0, 1))
    except AQMDatabaseError as error:
        if not is_refusal(error):
            raise
        raise InvalidArgumentError("confirm_fsync", f"{_NEEDED}: {error}") from error


def _changed_nothing(reply: Any) -> bool:
    """Whether a command was refused, by the server or the link, or too old to be carried out."""
    return isinstance(reply, ErrorReply | AQMDatabaseError) or is_late(reply)


def _explain_unconfirmed(
    error: AQMDatabaseError, unavailable: type[UnavailableError]
) -> AQMDatabaseError:
    """What is raised when a change was made, and the server refuses to have it confirmed."""
    if isinstance(error, AccessDeniedError):
        # It's so for every change, until somebody gives the user the permission.
        return error
    # A server that takes no writes says so of what only marks the change, which it has made.
    return unavailable(str(error), outcome_unknown=True)
