"""What the server or the link can answer instead of a result, and which error each becomes."""

import re
from collections.abc import Sequence
from enum import Enum, auto
from typing import Any, Literal, TypeAlias

from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    ConcurrencyError,
    CorruptEntryError,
    NotWritableError,
    UnavailableError,
)


class ErrorKind(Enum):
    """What an error means that a server sent."""

    NO_SCRIPT = auto()
    PASSING = auto()
    DENIED = auto()
    DENIED_BY_SENTINELS = auto()
    NOT_WRITABLE = auto()
    MOVED = auto()
    CORRUPT = auto()
    OTHER = auto()


class ErrorReply:
    """An error that a server sent: a value that stands in its place in a list of replies.

    Its text stays out of messages and logs, but for that of a passing one: some quote the command,
    and so key material.

    Attributes:
        kind: what it means.
        text: what the server said, beginning with the error's code.
    """

    __slots__ = ("kind", "text")

    def __init__(self, kind: ErrorKind, text: str) -> None:
        self.kind = kind
        self.text = text

    @property
    def code(self) -> str:
        """What the text begins with; ERR, which servers use for most errors, if that's no code."""
        return _split_code(self.text)[0] or "ERR"

    @property
    def message(self) -> str:
        """The text without its code."""
        return _split_code(self.text)[1]


class LinkFailure(Exception):  # noqa: N818 - it stands in a list of replies, too
    """No answer: the link failed, or the server said that it can't work now.

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

    def make_error(self, unavailable: type[UnavailableError], *, sent: bool) -> AQMDatabaseError:
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

    def make_error(self, unavailable: type[UnavailableError], *, sent: bool) -> AQMDatabaseError:
        """See :class:`LinkFailure`."""
        return super().make_error(unavailable, sent=sent) if sent else ConcurrencyError(str(self))


Denial: TypeAlias = Literal["command", "key", "unknown"]
"""Why a command gets nowhere: the user may not run it, or not on this key; or there is none."""

_ERRORS = (LinkFailure, ErrorReply)
_KINDS = {
    "NOSCRIPT": ErrorKind.NO_SCRIPT,
    "BUSY": ErrorKind.PASSING,
    "CLUSTERDOWN": ErrorKind.PASSING,
    "LOADING": ErrorKind.PASSING,
    "MASTERDOWN": ErrorKind.PASSING,
    "TRYAGAIN": ErrorKind.PASSING,
    "NOAUTH": ErrorKind.DENIED,
    "NOPERM": ErrorKind.DENIED,
    "WRONGPASS": ErrorKind.DENIED,
    "MISCONF": ErrorKind.NOT_WRITABLE,
    "NOREPLICAS": ErrorKind.NOT_WRITABLE,
    "OOM": ErrorKind.NOT_WRITABLE,
    "READONLY": ErrorKind.NOT_WRITABLE,
    "ASK": ErrorKind.MOVED,
    "CROSSSLOT": ErrorKind.MOVED,
    "MOVED": ErrorKind.MOVED,
}
"""By the code that an error begins with."""

# An error of a command inside a script is quoted in the script's error, each server in its way.
# Compiled when an error comes, and kept by re: no import pays for it.
_WORDS = (
    (r"\bWRONGTYPE\b|hash value is not an integer|would overflow", ErrorKind.CORRUPT),
    (r"\bnon local key\b", ErrorKind.MOVED),
    (r"\bNOSCRIPT\b", ErrorKind.NO_SCRIPT),
    (
        r"\bNOPERM\b|\bACL failure\b|can't (run this command|access at least one of the keys)",
        ErrorKind.DENIED,
    ),
    (r"\b(OOM|MISCONF|NOREPLICAS|READONLY)\b|Not enough good replicas", ErrorKind.NOT_WRITABLE),
    ("^ERR max number of clients reached", ErrorKind.PASSING),
)

_RAISED: dict[ErrorKind, tuple[type[AQMDatabaseError], str]] = {
    ErrorKind.DENIED: (AccessDeniedError, "the server denies access to {}"),
    ErrorKind.DENIED_BY_SENTINELS: (
        AccessDeniedError,
        "the sentinels refuse what the url gives as sentinel_username and sentinel_password",
    ),
    ErrorKind.NOT_WRITABLE: (NotWritableError, "the server takes no writes now, for {}"),
    ErrorKind.MOVED: (ConcurrencyError, "the slot is being moved, for {}"),
    ErrorKind.CORRUPT: (CorruptEntryError, "an entry has the wrong type, for {}"),
}


def parse_error(text: str) -> ErrorReply:
    """What a server means by an error.

    Args:
        text: the error as it comes over the wire, without the first character and the line's end.
    """
    kind = _KINDS.get(_split_code(text)[0])
    if kind is None:
        found = (kind for words, kind in _WORDS if re.search(words, text))
        kind = next(found, ErrorKind.OTHER)
    return ErrorReply(kind, text)


def find_denial(reply: object) -> Denial | None:
    """Why a command got nowhere; None if it was run, however it ended."""
    if isinstance(reply, ErrorReply):
        if reply.code == "NOPERM":
            # Each server words it in its way: "to access one of the keys", "to access a key".
            return "key" if " access " in reply.text else "command"
        if reply.message.startswith("unknown command"):
            return "unknown"
    return None


def find_demotion(replies: Sequence[object]) -> LinkFailure | None:
    """The failure to be tried again, if a primary answers that it is a replica now."""
    refused = [isinstance(reply, ErrorReply) and "READONLY" in reply.text for reply in replies]
    if not any(refused):
        return None
    return LinkFailure("the server is no primary any more", sent=not all(refused))


def find_failure(replies: Sequence[object]) -> LinkFailure | None:
    """The first reply that calls for another attempt."""
    for reply in replies:
        failure = _read_failure(reply) if isinstance(reply, _ERRORS) else None
        if failure is not None:
            failure.replies = replies
            return failure
    return None


def conclude_attempts(
    failures: Sequence[LinkFailure], unavailable: type[UnavailableError]
) -> list[Any]:
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
    missing = [_read_failure(reply) for reply in last.replies]
    if all(missing):
        raise last.make_error(unavailable, sent=any(sent)) from last.__cause__
    return [
        reply if failure is None else failure.make_error(unavailable, sent=doubt)
        for reply, failure, doubt in zip(last.replies, missing, sent, strict=True)
    ]


def make_error(reply: ErrorReply, operation: str) -> AQMDatabaseError:
    """The error to raise for an error that a server sent.

    Args:
        reply: what it sent; its text stays out of the error.
        operation: the command, or what the script does.
    """
    raised = _RAISED.get(reply.kind)
    if raised is None:
        return AQMDatabaseError(f"the server refused {operation} ({reply.code})")
    error, reason = raised
    return error(reason.format(operation))


def _split_code(text: str) -> tuple[str, str]:
    code, _, message = text.partition(" ")
    return (code, message) if code.isupper() and code.isalpha() else ("", text)


def _may_be_executed(reply: object) -> bool:
    if isinstance(reply, LinkFailure):
        return reply.sent
    return not isinstance(reply, ErrorReply)


def _read_failure(reply: object) -> LinkFailure | None:
    if isinstance(reply, LinkFailure):
        return reply
    if isinstance(reply, ErrorReply) and reply.kind is ErrorKind.PASSING:
        return LinkFailure(reply.message, sent=False)
    return None
