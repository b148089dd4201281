"""What goes over the wire and comes back: commands as bytes, redis-py's exceptions as values."""

from collections.abc import Callable
from functools import lru_cache
from typing import cast

import hiredis
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    BusyLoadingError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from aqm_db._io.failures import ErrorKind, ErrorReply, LinkFailure, parse_error
from aqm_db._io.seam import Argument, Command, SharedCommand

# hiredis' annotation allows for one part only.
_pack = cast("Callable[[tuple[Argument, ...]], bytes]", hiredis.pack_command)
# There are few of these, and each is sent again and again.
_pack_shared = lru_cache(_pack)
_SENT = (ResponseError, BusyLoadingError, AuthenticationError)
"""What redis-py raises if the server sent an error, so that the connection is still in step."""
_REFUSALS = (AuthenticationError, AuthenticationWrongNumberOfArgsError)


class SentinelRefusalError(AuthenticationError):
    """Every sentinel that answered refused the user."""


class UnknownNameError(RedisError):
    """Sentinels answer, and none of them has ever known the servers' name.

    It's no ConnectionError, so that no retry policy asks again.
    """


def pack_command(command: Command) -> bytes:
    """A command as it goes over the wire (RESP)."""
    return _pack_shared(command) if isinstance(command, SharedCommand) else _pack(tuple(command))


def read_error(error: RedisError) -> ErrorReply | None:
    """The error that the server sent, if redis-py raised that; None if the link failed."""
    # With sentinels, redis-py makes a broken link of what a demoted primary said.
    said = error.__context__ if isinstance(error.__context__, ReadOnlyError) else error
    if not isinstance(said, _SENT):
        return None
    if isinstance(said, SentinelRefusalError):
        return ErrorReply(ErrorKind.DENIED_BY_SENTINELS, str(said))
    # redis-py takes the code off the text, if it knows it.
    text = f"{said.status_code} {said}" if said.status_code else str(said)
    # Some of what refuses a password has no code of its own.
    return ErrorReply(ErrorKind.DENIED, text) if isinstance(said, _REFUSALS) else parse_error(text)


def read_refusal(error: RedisError) -> ErrorReply | None:
    """What the server said when it refused a connection; None if it said nothing."""
    # redis-py wraps what it hears in the handshake on a unix socket in a ConnectionError.
    for said in (error, error.__cause__):
        if isinstance(said, RedisError) and (reply := read_error(said)) is not None:
            return reply
    return None


def explain_unconnected(error: RedisError) -> ErrorReply | LinkFailure:
    """What stands for a reply if no connection was made."""
    is_final = isinstance(error, UnknownNameError)
    # Where no sentinel answers, redis-py goes on with what each of their clients is made of.
    reason = str(error).partition(" : <")[0]
    return read_refusal(error) or LinkFailure(reason, sent=False, is_final=is_final)


def may_pass(error: Exception) -> bool:
    """Whether a connection that couldn't be made may be made later."""
    refusal = read_refusal(error) if isinstance(error, RedisError) else None
    return refusal is None or refusal.kind is ErrorKind.PASSING
