"""What every seam makes of the server's answers, however it asks."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

from aqm_db import config
from aqm_db._lua.loader import Code
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    CorruptEntryError,
    UnavailableError,
)

from .failures import Denial, ErrorKind, ErrorReply, find_denial, make_error
from .seam import SCAN_COUNT, Argument, Call, Command, Reply, Undo

Ask: TypeAlias = Callable[[Sequence[Command]], Awaitable[list[Any]]]
"""Sends commands in one round trip. Replies come in order and as the server sent them: bytes,
numbers and lists, of which no client has made anything else. An error that the server sent is an
``ErrorReply`` in its place. Where the link fails it raises the seam's unavailable error, which
stands in the place of a reply where the server could work for other commands only."""

REPEATABLE_SECONDS: float = config.INV_CLAIM_TTL_SECONDS - 2 * config.REDIS_SOCKET_TIMEOUT
"""How long a request may be repeated: while its claim lives, the last attempt included."""

_log = logging.getLogger("aqm_db")


async def run(ask: Ask, call: Call) -> Reply:
    """Runs a script."""
    [reply] = await ask((_make_evalsha(call),))
    if _is_unknown(reply):
        [reply] = await ask((_make_eval(call),))
    if isinstance(reply, AQMDatabaseError):
        raise reply
    if isinstance(reply, ErrorReply):
        raise make_error(reply, call.script.name)
    return cast("Reply", reply)


async def run_all(ask: Ask, calls: Sequence[Call]) -> list[Reply | AQMDatabaseError]:
    """Runs many scripts."""
    replies = await ask([_make_evalsha(call) for call in calls]) if calls else []
    unknown = [place for place, reply in enumerate(replies) if _is_unknown(reply)]
    # Sending one script in full makes the server know it, and the others like it.
    while unknown:
        first, *unknown = unknown
        try:
            [replies[first]] = await ask((_make_eval(calls[first]),))
            if _is_unknown(replies[first]):
                # Such a server learns nothing.
                break
            commands = [_make_evalsha(calls[place]) for place in unknown]
            others = await ask(commands) if commands else []
        except AQMDatabaseError as error:
            # The others have been carried out.
            replies = [error if _is_unknown(reply) else reply for reply in replies]
            break
        for place, reply in zip(unknown, others, strict=True):
            replies[place] = reply
        unknown = [place for place in unknown if _is_unknown(replies[place])]
    return [
        make_error(reply, call.script.name) if isinstance(reply, ErrorReply) else reply
        for call, reply in zip(calls, replies, strict=True)
    ]


async def read(ask: Ask, commands: Sequence[Command]) -> list[Any]:
    """Runs reading commands."""
    replies = await ask(commands) if commands else []
    for position, reply in enumerate(replies):
        if isinstance(reply, AQMDatabaseError):
            raise reply
        if isinstance(reply, ErrorReply):
            error = make_error(reply, str(commands[position][0]))
            if not isinstance(error, CorruptEntryError):
                raise error
            replies[position] = error
    return replies


async def delete(ask: Ask, keys: Sequence[Argument]) -> int:
    """Deletes keys."""
    [count] = await read(ask, [("UNLINK", *keys)])
    return cast("int", count)


async def probe(ask: Ask, commands: Sequence[Command]) -> list[Denial | None]:
    """Tries commands."""
    replies = await ask(commands)
    denials: list[Denial | None] = []
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, AQMDatabaseError):
            raise reply
        denial = find_denial(reply)
        if denial is None and isinstance(reply, ErrorReply):
            error = make_error(reply, str(command[0]))
            if isinstance(error, AccessDeniedError):
                # Not the command was refused: the client was.
                raise error
        denials.append(denial)
    return denials


async def scan(
    ask: Ask,
    pattern: str,
    where: Callable[[], object] = lambda: None,
    after: Sequence[Command] = (),
) -> AsyncIterator[list[bytes]]:
    """Walks key names.

    Args:
        ask: sends commands.
        pattern: what the names look like.
        where: the server that answers now; a cursor is worth nothing on another one.
        after: commands that are sent after each page, and may fail.
    """
    cursor, place = b"0", where()
    while True:
        [[cursor, page]] = await read(
            ask, [("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)]
        )
        if after:
            await read(ask, after)
        if page:
            yield page
        if place != (place := where()):
            cursor = b"0"
        elif cursor == b"0":
            return


async def settle(
    repeat: Ask, ask: Ask, calls: Sequence[Call], undos: Sequence[Undo] | None
) -> None:
    """Finds out what calls did whose caller is gone, and takes that back.

    Where the server doesn't say, all that can be done is to log it.

    Args:
        repeat: sends what may have been sent before.
        ask: sends what takes it back.
        calls: what may have been sent.
        undos: of the calls, as :meth:`~aqm_db._io.seam.Seam.run` takes one.
    """
    try:
        # The same requests again get the same answers.
        replies = await run_all(repeat, calls)
        backs = [
            _call_undo(undo, reply)
            for undo, reply in zip(undos or (), replies, strict=undos is not None)
            if isinstance(reply, list) and reply[:1] == [Code.OK]
        ]
        undone = await run_all(ask, [back for back in backs if isinstance(back, tuple)])
        unsettled = [
            *(each for each in (*backs, *undone) if isinstance(each, AQMDatabaseError)),
            *(reply for reply in replies if isinstance(reply, UnavailableError)),
        ]
        if unsettled:
            raise unsettled[0]
    except AQMDatabaseError as error:
        _log.warning(
            "outcome_unknown",
            extra={"operation": calls[0].script.name, "error": type(error).__name__},
        )


def _call_undo(undo: Undo, reply: Reply) -> Call | AQMDatabaseError | None:
    """The call that takes a reply's effect back, or why there can be none."""
    try:
        return undo(reply)
    except AQMDatabaseError as error:
        return error


def _is_unknown(reply: Any) -> bool:
    """Whether the server doesn't have the script, which is the one refusal to be mended."""
    return isinstance(reply, ErrorReply) and reply.kind is ErrorKind.NO_SCRIPT


def _make_evalsha(call: Call) -> Command:
    return ("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments)


def _make_eval(call: Call) -> Command:
    return ("EVAL", call.script.source, len(call.keys), *call.keys, *call.arguments)
