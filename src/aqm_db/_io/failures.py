"""What the server or the link can answer instead of a result, and which error each becomes."""

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Literal, TypeAlias

from redis import exceptions

from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    CorruptEntryError,
    NotWritableError,
    UnavailableError,
)


class LinkFailure(exceptions.ConnectionError):
    """No answer: the link failed, or the server said that it can't work now.

    A redis-py ConnectionError, so that every client's own retry policy applies to it.

    Attributes:
        sent: whether the command may have been executed all the same.
        is_final: whether no further attempt is to be made.
        replies: to the whole request, of which this is the first that calls for another attempt.
    """

    def __init__(self, message: str, *, sent: bool, is_final: bool = False) -> None:
        super().__init__(message)
        self.sent = sent
        self.is_final = is_final
        self.replies: Sequence[object] = (self,)

    def copy(self) -> "LinkFailure":
        """The same failure for another caller, who notes in it what becomes of a request."""
        other = LinkFailure(str(self), sent=self.sent, is_final=self.is_final)
        other.__cause__ = self.__cause__
        return other

    def may_be_executed(self) -> bool:
        """Whether any command of the request may be."""
        return any(map(_may_be_executed, self.replies))

    def error(self, unavailable: type[UnavailableError], *, sent: bool) -> AQMDatabaseError:
        """What is raised when no further attempt is made.

        Args:
            unavailable: the seam's unavailable error.
            sent: whether any of the attempts may have been executed.
        """
        return unavailable(str(self), outcome_unknown=sent)


class SlotMoving(LinkFailure):
    """Nothing was executed: the slot is between two nodes, and its keys may be on either."""

    def __init__(self) -> None:
        super().__init__("the slot is being moved", sent=False)

    def error(self, unavailable: type[UnavailableError], *, sent: bool) -> AQMDatabaseError:
        """See :class:`LinkFailure`."""
        return super().error(unavailable, sent=sent) if sent else ConcurrencyError(str(self))


class SentinelRefusal(exceptions.AuthenticationError):
    """Every sentinel that answered refused the user."""


Denial: TypeAlias = Literal["command", "key", "unknown"]
"""Why a command gets nowhere: the user may not run it, or not on this key; or there is none."""


class Kind(Enum):
    """What an error reply means."""

    NO_SCRIPT = auto()
    PASSING = auto()
    DENIED = auto()
    NOT_WRITABLE = auto()
    MOVED = auto()
    CORRUPT = auto()
    OTHER = auto()


# redis-py has a class for most codes, and takes the code off the message.
_CLASSES: tuple[tuple[type[exceptions.RedisError], Kind], ...] = (
    (exceptions.NoScriptError, Kind.NO_SCRIPT),
    (exceptions.BusyLoadingError, Kind.PASSING),
    (exceptions.ClusterDownError, Kind.PASSING),
    (exceptions.TryAgainError, Kind.PASSING),
    (exceptions.AuthenticationError, Kind.DENIED),
    (exceptions.AuthenticationWrongNumberOfArgsError, Kind.DENIED),
    (exceptions.NoPermissionError, Kind.DENIED),
    (exceptions.OutOfMemoryError, Kind.NOT_WRITABLE),
    (exceptions.ReadOnlyError, Kind.NOT_WRITABLE),
    (exceptions.AskError, Kind.MOVED),
    (exceptions.ClusterCrossSlotError, Kind.MOVED),
)

# An error of a command inside a script is quoted in the script's error, each server in its way.
# Compiled when an error comes, and kept by re: no import pays for it.
_WORDS = (
    (r"\bWRONGTYPE\b", Kind.CORRUPT),
    (r"\bnon local key\b", Kind.MOVED),
    (r"\bNOSCRIPT\b", Kind.NO_SCRIPT),
    (
        r"\bNOPERM\b|\bACL failure\b|can't (run this command|access at least one of the keys)",
        Kind.DENIED,
    ),
    (r"\b(OOM|MISCONF|NOREPLICAS|READONLY)\b|Not enough good replicas", Kind.NOT_WRITABLE),
    (r"^(BUSY|LOADING|CLUSTERDOWN|MASTERDOWN|TRYAGAIN)\b", Kind.PASSING),
)

_RAISED: dict[Kind, tuple[type[AQMDatabaseError], str]] = {
    Kind.DENIED: (AccessDeniedError, "the server denies access to"),
    Kind.NOT_WRITABLE: (NotWritableError, "the server takes no writes now, for"),
    Kind.MOVED: (ConcurrencyError, "the slot is being moved, for"),
    Kind.CORRUPT: (CorruptEntryError, "an entry has the wrong type, for"),
}


def is_reply(error: exceptions.RedisError) -> bool:
    """Whether the server sent this error, so that the connection is still in step."""
    return isinstance(
        error,
        exceptions.ResponseError | exceptions.BusyLoadingError | exceptions.AuthenticationError,
    )


def unconnected(error: exceptions.RedisError) -> exceptions.RedisError:
    """What stands for a reply if no connection was made."""
    if isinstance(error, LinkFailure):
        return error
    # Where no sentinel answers, redis-py goes on with what each of their clients is made of.
    return refusal_in(error) or LinkFailure(str(error).partition(" : <")[0], sent=False)


def refusal_in(error: exceptions.RedisError) -> exceptions.RedisError | None:
    """What the server said when it refused a connection; None if it said nothing."""
    # redis-py wraps what it hears in the handshake on a unix socket in a ConnectionError.
    for said in (error, error.__cause__):
        if isinstance(said, exceptions.RedisError) and is_reply(said):
            return said
    return None


def kind_of(reply: exceptions.RedisError) -> Kind:
    """What an error reply means."""
    for known, kind in _CLASSES:
        if isinstance(reply, known):
            return kind
    text = str(reply)
    for words, kind in _WORDS:
        if re.search(words, text):
            return kind
    return Kind.OTHER


def denial_in(reply: object) -> Denial | None:
    """Why a command got nowhere; None if it was run, however it ended."""
    if isinstance(reply, exceptions.NoPermissionError):
        # Each server words it in its way: "to access one of the keys", "to access a key".
        return "key" if " access " in str(reply) else "command"
    if isinstance(reply, exceptions.ResponseError) and str(reply).startswith("unknown command"):
        return "unknown"
    return None


def may_pass(error: Exception) -> bool:
    """Whether a connection that couldn't be made may be made later."""
    refusal = refusal_in(error) if isinstance(error, exceptions.RedisError) else None
    return refusal is None or kind_of(refusal) is Kind.PASSING


def demotion_in(replies: Sequence[object]) -> LinkFailure | None:
    """The failure to be tried again, if a primary answers that it is a replica now."""
    refused = [
        (isinstance(reply, exceptions.ResponseError) and "READONLY" in str(reply))
        or isinstance(reply, exceptions.ReadOnlyError)
        for reply in replies
    ]
    if not any(refused):
        return None
    return LinkFailure("the server is no primary any more", sent=not all(refused))


def failure_in(replies: Sequence[object]) -> LinkFailure | None:
    """The first reply that calls for another attempt."""
    for reply in replies:
        failure = _failure(reply)
        if failure is not None:
            failure.replies = replies
            return failure
    return None


def parts_of(failures: Sequence[LinkFailure], unavailable: type[UnavailableError]) -> list[Any]:
    """The replies of the last attempt, with errors in the places of those that never came.

    Args:
        failures: of all attempts.
        unavailable: the seam's unavailable error.

    Raises:
        AQMDatabaseError: no reply came.
    """
    last = failures[-1]
    attempts = zip(*(failure.replies for failure in failures), strict=True)
    sent = [any(map(_may_be_executed, replies)) for replies in attempts]
    missing = [_failure(reply) for reply in last.replies]
    if all(missing):
        raise last.error(unavailable, sent=any(sent)) from last.__cause__
    return [
        reply if failure is None else failure.error(unavailable, sent=doubt)
        for reply, failure, doubt in zip(last.replies, missing, sent, strict=True)
    ]


def _may_be_executed(reply: object) -> bool:
    if isinstance(reply, LinkFailure):
        return reply.sent
    return not isinstance(reply, exceptions.RedisError)


def _failure(reply: object) -> LinkFailure | None:
    if isinstance(reply, LinkFailure):
        return reply
    if isinstance(reply, exceptions.RedisError) and kind_of(reply) is Kind.PASSING:
        return LinkFailure(str(reply), sent=False)
    return None


def error_for(reply: exceptions.RedisError, operation: str) -> AQMDatabaseError:
    """The error to raise for an error reply.

    The reply's text stays out of it: some quote the command, and so key material.
    """
    if isinstance(reply, SentinelRefusal):
        return AccessDeniedError(
            "the sentinels refuse what the url gives as sentinel_username and sentinel_password"
        )
    raised = _RAISED.get(kind_of(reply))
    if raised is None:
        code = str(reply).split(" ", 1)[0]
        shown = code if code.isupper() and code.isalpha() else type(reply).__name__
        return AQMDatabaseError(f"the server refused {operation} ({shown})")
    error, reason = raised
    return error(f"{reason} {operation}")
