"""What every seam makes of the server's answers, however it asks."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

from redis.exceptions import RedisError

from aqm_db import config
from aqm_db._lua.scripts import Code
from aqm_db.errors import AQMDatabaseError, CorruptEntryError, UnavailableError

from .failures import Denial, Kind, denial_in, error_for, kind_of
from .seam import SCAN_COUNT, Argument, Call, Reply, Undo, packed

Ask: TypeAlias = Callable[[Sequence[bytes]], Awaitable[list[Any]]]
"""Sends packed commands in one round trip. Replies come in order, and one that is an error stands
in its place. Where the link fails it raises the seam's unavailable error, which stands in the place
of a reply where the server could work for other commands only."""

REPEATABLE_SECONDS: float = config.INV_CLAIM_TTL_SECONDS - 2 * config.REDIS_SOCKET_TIMEOUT
"""How long a request may be repeated: while its claim lives, the last attempt included."""

_log = logging.getLogger("aqm_db")


async def run(ask: Ask, call: Call) -> Reply:
    """Runs a script."""
    [reply] = await ask((_evalsha(call),))
    if _is_unknown(reply):
        [reply] = await ask((_eval(call),))
    if isinstance(reply, AQMDatabaseError):
        raise reply
    if isinstance(reply, RedisError):
        raise error_for(reply, call.script.name) from None
    return cast("Reply", reply)


async def run_all(ask: Ask, calls: Sequence[Call]) -> list[Reply | AQMDatabaseError]:
    """Runs many scripts."""
    replies = await ask([_evalsha(call) for call in calls]) if calls else []
    unknown = [place for place, reply in enumerate(replies) if _is_unknown(reply)]
    # Sending one script in full makes the server know it, and the others like it.
    while unknown:
        first, *unknown = unknown
        try:
            [replies[first]] = await ask((_eval(calls[first]),))
            if _is_unknown(replies[first]):
                # Such a server learns nothing.
                break
            again = await ask([_evalsha(calls[place]) for place in unknown]) if unknown else []
        except AQMDatabaseError as error:
            # The others have been carried out.
            replies = [error if _is_unknown(reply) else reply for reply in replies]
            break
        for place, reply in zip(unknown, again, strict=True):
            replies[place] = reply
        unknown = [place for place in unknown if _is_unknown(replies[place])]
    return [
        error_for(reply, call.script.name) if isinstance(reply, RedisError) else reply
        for call, reply in zip(calls, replies, strict=True)
    ]


async def read(ask: Ask, commands: Sequence[Sequence[Argument]]) -> list[Any]:
    """Runs reading commands."""
    replies = await ask([packed(*command) for command in commands]) if commands else []
    for position, reply in enumerate(replies):
        if isinstance(reply, AQMDatabaseError):
            raise reply
        if isinstance(reply, RedisError):
            error = error_for(reply, str(commands[position][0]))
            if not isinstance(error, CorruptEntryError):
                raise error from None
            replies[position] = error
    return replies


async def delete(ask: Ask, keys: Sequence[Argument]) -> int:
    """Deletes keys."""
    [count] = await read(ask, [("UNLINK", *keys)])
    return cast("int", count)


async def probe(ask: Ask, commands: Sequence[Sequence[Argument]]) -> list[Denial | None]:
    """Tries commands."""
    replies = await ask([packed(*command) for command in commands])
    denials: list[Denial | None] = []
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, AQMDatabaseError):
            raise reply
        denial = denial_in(reply)
        if denial is None and isinstance(reply, RedisError) and kind_of(reply) is Kind.DENIED:
            # Not the command was refused: the client was.
            raise error_for(reply, str(command[0])) from None
        denials.append(denial)
    return denials


async def scan(
    ask: Ask,
    pattern: str,
    where: Callable[[], object] = lambda: None,
    after: Sequence[Sequence[Argument]] = (),
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


async def settle(again: Ask, ask: Ask, calls: Sequence[Call], undos: Sequence[Undo] | None) -> None:
    """Finds out what calls did whose caller is gone, and takes that back.

    Where the server doesn't say, all that can be done is to log it.

    Args:
        again: sends what may have been sent before.
        ask: sends what takes it back.
        calls: what may have been sent.
        undos: of the calls, as :meth:`~aqm_db._io.seam.Seam.run` takes one.
    """
    try:
        # The same requests again get the same answers.
        replies = await run_all(again, calls)
        backs = [
            _taking_back(undo, reply)
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


def _taking_back(undo: Undo, reply: Reply) -> Call | AQMDatabaseError | None:
    """The call that takes a reply's effect back, or why there can be none."""
    try:
        return undo(reply)
    except AQMDatabaseError as error:
        return error


def _is_unknown(reply: Any) -> bool:
    """Whether the server doesn't have the script, which is the one refusal to be mended."""
    return isinstance(reply, RedisError) and kind_of(reply) is Kind.NO_SCRIPT


def _evalsha(call: Call) -> bytes:
    return packed("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.arguments)


def _eval(call: Call) -> bytes:
    return packed("EVAL", call.script.source, len(call.keys), *call.keys, *call.arguments)
