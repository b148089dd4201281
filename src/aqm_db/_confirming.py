"""Changes that count once replicas have them, too."""

from collections.abc import Sequence
from typing import Any

from redis.exceptions import RedisError

from ._answers import Ask
from ._failures import error_for
from ._keys import Keys
from ._seam import packed
from ._validate import check_count, check_timeout
from .errors import AccessDeniedError, AQMDatabaseError, UnavailableError


class Confirmation:
    """What has to be confirmed before a change is reported.

    Args:
        replicas: how many replicas must have it.
        timeout: how long they are waited for, in ms.
        key: a key in the slot of all that is changed; it's written with each change.
    """

    def __init__(self, replicas: int, timeout: int, key: str) -> None:
        self._replicas = replicas
        self._tail = (packed("SET", key, "", "PX", 1000), packed("WAIT", replicas, timeout))

    def asking(self, ask: Ask, unavailable: type[UnavailableError]) -> Ask:
        """Sends commands as ``ask`` does, and waits for the replicas (WAIT) in the same request.

        WAIT is about what its own connection wrote. A call that is asked again writes nothing,
        so each writes a key of no meaning, and what was written before it is waited for as well.
        """

        async def ask_and_wait(commands: Sequence[bytes]) -> list[Any]:
            *replies, written, confirmed = await ask([*commands, *self._tail])
            # What the server refused has changed nothing.
            if not all(isinstance(reply, RedisError | AQMDatabaseError) for reply in replies):
                for reply, command in ((written, "SET"), (confirmed, "WAIT")):
                    if isinstance(reply, AQMDatabaseError):
                        raise unavailable(str(reply), outcome_unknown=True) from None
                    if isinstance(reply, RedisError):
                        raise _unconfirmed(error_for(reply, command), unavailable) from None
                if confirmed < self._replicas:
                    raise unavailable(
                        f"{confirmed} of {self._replicas} replicas confirmed the change",
                        outcome_unknown=True,
                    )
            return replies

        return ask_and_wait


def _unconfirmed(error: AQMDatabaseError, unavailable: type[UnavailableError]) -> AQMDatabaseError:
    """What is raised when a change was made, and the server refuses to have it confirmed."""
    if isinstance(error, AccessDeniedError):
        # It's so for every change, until somebody gives the user the permission.
        return error
    # A server that takes no writes says so of what only marks the change, which it has made.
    return unavailable(str(error), outcome_unknown=True)


def confirmation_of(keys: Keys, replicas: object, timeout: object) -> Confirmation | None:
    """What changes wait for; None if no replica is asked.

    Raises:
        InvalidArgumentError: a number is out of range.
    """
    count = check_count("confirm_replicas", replicas, 0)
    patience = check_timeout("confirm_timeout", timeout)
    return Confirmation(count, patience, keys.confirm) if count else None
