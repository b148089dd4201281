"""Changes that count once replicas, or disks, have them, too."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from aqm_db._model.checks import check_count, check_flag, check_timeout
from aqm_db._model.keys import Keys
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    InvalidArgumentError,
    UnavailableError,
)

from .answers import Ask
from .facts import is_refusal
from .failures import Kind, error_for, kind_of
from .seam import Argument, Seam, packed

_HEAD_START_MS = 50
"""How long replicas are waited for before their disks are: longer than a round trip to them."""
_NEEDED = "WAITAOF takes Redis 7.2, or Valkey, and an append-only file"


class Confirmation:
    """What has to be confirmed before a change is reported.

    Args:
        replicas: how many replicas must have it.
        timeout: how long they are waited for, in ms.
        key: a key in the slot of all that is changed; it's written with each change.
        fsync: whether it has to be on the disks, the primary's included.

    Attributes:
        replicas: how many replicas must have it.
        timeout: how long they are waited for, in ms.
        fsync: whether it has to be on the disks.
        waits: the commands that wait for that.
    """

    def __init__(self, replicas: int, timeout: int, key: str, *, fsync: bool) -> None:
        self.replicas = replicas
        self.timeout = timeout
        self.fsync = fsync
        waiting: list[tuple[Argument, ...]] = []
        if fsync:
            # A replica that is asked while its disk is written tells of it a second later.
            if replicas:
                waiting.append(("WAIT", replicas, min(timeout, _HEAD_START_MS)))
            waiting.append(("WAITAOF", 1, replicas, timeout))
        else:
            waiting.append(("WAIT", replicas, timeout))
        self.waits: list[str] = [str(command[0]) for command in waiting]
        commands = (("SET", key, "", "PX", 1000), *waiting)
        self._tail = [packed(*command) for command in commands]

    def asking(self, ask: Ask, unavailable: type[UnavailableError]) -> Ask:
        """Sends commands as ``ask`` does, and waits for their confirmation in the same request.

        WAIT and WAITAOF are about what their own connection wrote. A call that is asked again
        writes nothing, so each writes a key of no meaning, and what was written before it is waited
        for as well.
        """

        async def ask_and_wait(commands: Sequence[bytes]) -> list[Any]:
            answers = await ask([*commands, *self._tail])
            replies, tail = answers[: len(commands)], answers[len(commands) :]
            # What the server refused has changed nothing.
            if not all(isinstance(reply, RedisError | AQMDatabaseError) for reply in replies):
                for reply, command in zip(tail, ("SET", *self.waits), strict=True):
                    if isinstance(reply, AQMDatabaseError):
                        raise unavailable(str(reply), outcome_unknown=True) from None
                    if isinstance(reply, RedisError) and not self._is_unable(command, reply):
                        raise _unconfirmed(error_for(reply, command), unavailable) from None
                if lack := self._lack(tail[-1]):
                    raise unavailable(lack, outcome_unknown=True) from None
            return replies

        return ask_and_wait

    def _is_unable(self, command: str, reply: RedisError) -> bool:
        """Whether the server can't do what waits for the disk: the change itself was made."""
        return command == "WAITAOF" and kind_of(reply) is Kind.OTHER

    def _lack(self, confirmed: Any) -> str:
        """What is missing in the reply of WAIT, a number, or of WAITAOF, two; empty if nothing."""
        if isinstance(confirmed, RedisError):
            return f"nothing confirmed the change: {_NEEDED}"
        disks, replicas = confirmed if self.fsync else (1, confirmed)
        if replicas < self.replicas:
            return f"{replicas} of {self.replicas} replicas confirmed the change"
        return "" if disks else "the server's disk didn't confirm the change"


def confirmation_of(
    keys: Keys, replicas: object, timeout: object, fsync: object
) -> Confirmation | None:
    """What changes wait for; None if neither a replica nor a disk is asked.

    Raises:
        InvalidArgumentError: a number is out of range, or of another type.
    """
    count = check_count("confirm_replicas", replicas, 0)
    patience = check_timeout("confirm_timeout", timeout)
    disks = check_flag("confirm_fsync", fsync)
    return Confirmation(count, patience, keys.confirm, fsync=disks) if count or disks else None


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


def _unconfirmed(error: AQMDatabaseError, unavailable: type[UnavailableError]) -> AQMDatabaseError:
    """What is raised when a change was made, and the server refuses to have it confirmed."""
    if isinstance(error, AccessDeniedError):
        # It's so for every change, until somebody gives the user the permission.
        return error
    # A server that takes no writes says so of what only marks the change, which it has made.
    return unavailable(str(error), outcome_unknown=True)
