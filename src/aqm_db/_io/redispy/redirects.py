"""What a cluster's node can answer instead of a result, and what each answer means. No I/O."""

from collections.abc import Iterator, Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MovedError,
    NoPermissionError,
    RedisError,
    TryAgainError,
)

from aqm_db._io.failures import LinkFailure, SlotMoving
from aqm_db._io.seam import packed

ASKING = packed("ASKING")
"""Goes before a command that the node of a slot which is being moved sent on."""
_DOWN = (LinkFailure, ClusterDownError, BusyLoadingError)
HOPS = 5
"""Redirections in a row; more of them are nodes that disagree, for a moment."""


def slot_of(tag: str) -> int:
    """The slot of every key whose name begins with this hash tag."""
    return key_slot(tag.encode())


def redirect_in(replies: Sequence[Any], places: Sequence[int]) -> AskError:
    """The redirection to follow first: MOVED says more than ASK, which is one of its kind."""
    errors: list[AskError] = [replies[place] for place in places]
    return next((error for error in errors if isinstance(error, MovedError)), errors[0])


def is_down(reply: object) -> bool:
    """Whether a node didn't answer, or said that it can't: another one may have its slots."""
    return isinstance(reply, _DOWN)


def settled(replies: Sequence[Any]) -> list[Any]:
    """Replies; what says that the slot is being moved is a failure, to be tried again."""
    return [SlotMoving() if _is_moving(reply) else reply for reply in replies]


def _is_moving(reply: Any) -> bool:
    # A script that finds a row gone, or a slot of which it may see a half, says so in its words.
    return isinstance(reply, AskError | TryAgainError) or (
        isinstance(reply, RedisError) and "non local key" in str(reply)
    )


def unreachable(error: Exception) -> RedisError:
    """What stands for the replies if no node tells the topology."""
    for cause in _causes(error):
        # redis-py says "no node is reachable" of nodes that refuse the user, too.
        if isinstance(cause, AuthenticationError | NoPermissionError):
            return cause
    return LinkFailure(str(error), sent=False)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
