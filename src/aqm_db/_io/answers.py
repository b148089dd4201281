"""What every seam makes of the server's answers, however it asks."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeAlias, cast

from aqm_db._lua.loader import Code
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    CorruptEntryError,
    UnavailableError,
)

from .facts import parse_info
from .failures import Denial, ErrorKind, ErrorReply, find_denial, make_error
from .request import Request
from .seam import SCAN_COUNT, Argument, Call, Command, Reply, Undo

Ask: TypeAlias = Callable[[Sequence[Command], Request], Awaitable[list[Any]]]
"""Sends the commands of a request in one round trip. Replies come in order and as the server sent
them: bytes, numbers and lists, of which no client has made anything else. An error that the server
sent is an ``ErrorReply`` in its place. Where the link fails it raises the seam's unavailable error,
which stands in the place of a reply where the server could work for other commands only. Whoever
sends them again tells the request of each failure (``note_failure``), and doesn't do so once it is
over. Whoever knows connections tells it, if it wants that, on which one all were answered."""

_NAME_PROCESS = ("INFO", "server")
_MOST_STARTS = 16
"""How often a walk is begun: a server that dies again and again would have it go on for ever."""

_log = logging.getLogger("aqm_db")


async def run(ask: Ask, call: Call, request: Request) -> Reply:
    """Runs a script."""
    while True:
        command = _make_evalsha(call, request)
        before = None if call.answered is None else call.answered.take_command()
        [*_, reply] = await ask((command,) if before is None else (before, command), request)
        if _is_missing(reply):
            [reply] = await ask((_make_eval(call, request),), request)
        if isinstance(reply, AQMDatabaseError):
            raise reply
        if isinstance(reply, ErrorReply):
            raise make_error(reply, call.script.name)
        if not is_late(reply):
            return cast("Reply", reply)
        if not request.begin_anew(reply[-1]):
            raise request.make_error()


async def run_all(
    ask: Ask, calls: Sequence[Call], request: Request
) -> list[Reply | AQMDatabaseError]:
    """Runs many scripts."""
    told = {call.answered for call in calls if call.answered is not None}
    before = [command for each in told if (command := each.take_command()) is not None]
    replies = await _run_once(ask, calls, request, before) if calls else []
    while late := [place for place, reply in enumerate(replies) if is_late(reply)]:
        if not request.begin_anew(cast("Reply", replies[late[-1]])[-1]):
            error = request.make_error()
            return [error if is_late(reply) else reply for reply in replies]
        try:
            again = await _run_once(ask, [calls[place] for place in late], request)
        except AQMDatabaseError as error:
            if len(late) == len(replies):
                raise
            # The others have been carried out.
            return [error if is_late(reply) else reply for reply in replies]
        for place, reply in zip(late, again, strict=True):
            replies[place] = reply
    return replies


def note_answer(call: Call, reply: Reply | AQMDatabaseError, request: Request) -> None:
    """Tells a call of its answer, once nobody will settle it any more.

    Not if another sending of it may come: it has to find what this one left.
    """
    if (
        call.answered is not None
        and not request.may_come_again
        and not isinstance(reply, AQMDatabaseError)
    ):
        call.answered.note(call, reply)


def note_answers(
    calls: Sequence[Call], replies: Sequence[Reply | AQMDatabaseError], request: Request
) -> None:
    """The same of many."""
    for call, reply in zip(calls, replies, strict=True):
        note_answer(call, reply, request)


async def read(ask: Ask, commands: Sequence[Command], request: Request) -> list[Any]:
    """Runs reading commands."""
    replies = await ask(commands, request) if commands else []
    return [_check_read(*each) for each in zip(commands, replies, strict=True)]


async def delete(ask: Ask, keys: Sequence[Argument], request: Request) -> int:
    """Deletes keys."""
    [count] = await read(ask, [("UNLINK", *keys)], request)
    return cast("int", count)


async def probe(ask: Ask, commands: Sequence[Command], request: Request) -> list[Denial | None]:
    """Tries commands."""
    replies = await ask(commands, request)
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
    begin_request: Callable[[], Request],
    pattern: str,
    within: str | None = None,
    where: Callable[[], object] = lambda: None,
    after: Sequence[Command] = (),
) -> AsyncIterator[list[bytes]]:
    """Walks key names, or a set's members: what is there throughout is found, and maybe again.

    A cursor is worth something to the process that gave it: where another one may have answered,
    the walk begins anew. A connection leads to one process. Once the walk has met a second one,
    it asks for the name of the process with each page, since a pool has many.

    Args:
        ask: sends commands.
        begin_request: begins the request for a page.
        pattern: what they look like.
        within: the set; None for key names.
        where: the server that answers now, where keys move from one to another.
        after: commands that are sent after each page, and may fail.

    Raises:
        AQMDatabaseError: as of :func:`read`.
        CorruptEntryError: what is walked is no set.
        UnavailableError: the walk was begun anew again and again.
    """
    place, walk = where(), _Walk(pattern, within)
    while not walk.is_over:
        request = begin_request()
        request.wants_mark = True
        page = walk.read_page(await ask(walk.list_commands(), request), request)
        if after:
            await read(ask, after, begin_request())
        if page:
            yield page
        if place != (place := where()):
            walk.begin_anew(request)


async def undo_all(
    ask: Ask, confirm: Ask | None, calls: Sequence[Call], request: Request
) -> list[Reply | AQMDatabaseError]:
    """Runs what takes calls back.

    Args:
        ask: sends it at once.
        confirm: sends it once more, to have it confirmed: done twice, it is done once; None if
            nothing confirms a change.
        calls: what takes them back.
        request: its own.
    """
    undone = await run_all(ask, calls, request)
    return undone if confirm is None else await run_all(confirm, calls, request)


async def settle(
    repeat: Ask,
    calls: Sequence[Call],
    undos: Sequence[Undo],
    request: Request,
    undo_all: Callable[[Sequence[Call]], Awaitable[Sequence[Reply | AQMDatabaseError]]],
) -> AQMDatabaseError | None:
    """Finds out what calls did whose caller is gone, and takes that back.

    Args:
        repeat: sends what may have been sent before.
        calls: what may have been sent.
        undos: of the calls, as :meth:`~aqm_db._io.seam.Seam.run` takes one.
        request: theirs.
        undo_all: runs what takes it back.

    Returns:
        Why something stays as it is, though the server has answered; None if nothing does.

    Raises:
        AQMDatabaseError: the server didn't answer, or refused to.
    """
    # The same request again gets the same answers.
    replies = await _run_once(repeat, calls, request)
    outcomes = [
        _undo_reply(undo, reply, request) for undo, reply in zip(undos, replies, strict=True)
    ]
    undone = await undo_all([each for each in outcomes if isinstance(each, tuple)])
    for reply in (*replies, *undone):
        if isinstance(reply, UnavailableError):
            raise reply
    errors = (each for each in (*outcomes, *undone) if isinstance(each, AQMDatabaseError))
    return next(errors, None)


def confirm_dated(ask: Ask, change: Ask, calls: Sequence[Call], request: Request) -> Ask:
    """Sends calls by ``change``, and by ``ask`` as long as they can't say when they were sent.

    The server executes none of those, so there is nothing to wait for; nor is there where calls
    only read.
    """
    if all(call.script.is_reading for call in calls):
        return ask
    if request.sent is not None or not all(call.script.is_dated for call in calls):
        return change

    async def ask_or_change(commands: Sequence[Command], request: Request) -> list[Any]:
        return await (ask if request.sent is None else change)(commands, request)

    return ask_or_change


def need_settling(calls: Sequence[Call], request: Request) -> bool:
    """Whether calls that were sent may have been executed."""
    # A server executes none that has to say when it was first sent, and doesn't.
    return request.sent is not None or not all(call.script.is_dated for call in calls)


def warn_of_unknown(calls: Sequence[Call], error: AQMDatabaseError) -> None:
    """Logs that nobody knows what calls did whose caller is gone: that's all that can be done."""
    _log.warning(
        "outcome_unknown",
        extra={"operation": calls[0].script.name, "error": type(error).__name__},
    )


def warn_of_delay(calls: Sequence[Call]) -> None:
    """Logs that what calls did is found out in the background, since it takes so long."""
    _log.warning("settling_delayed", extra={"operation": calls[0].script.name})


def is_late(reply: Any) -> bool:
    """Whether the request was too old for the server to know what became of it."""
    return isinstance(reply, list) and len(reply) > 1 and reply[0] == Code.UNKNOWN


class _Walk:
    """A walk over key names, or a set's members: how far it is, and in which process.

    Args:
        pattern: what they look like.
        within: the set; None for key names.

    Attributes:
        is_over: whether all have been seen.
    """

    def __init__(self, pattern: str, within: str | None) -> None:
        self.is_over = False
        self._pattern = pattern
        self._walked: Command = ("SCAN",) if within is None else ("SSCAN", within)
        self._cursor: bytes | None = None
        self._process: object = None
        self._starts = 1
        self._asks_name = False
        self._refusal: Any = None

    def list_commands(self) -> list[Command]:
        """What to ask for the next page."""
        cursor = b"0" if self._cursor is None else self._cursor
        scan = (*self._walked, cursor, "MATCH", self._pattern, "COUNT", SCAN_COUNT)
        return [scan, _NAME_PROCESS] if self._asks_name else [scan]

    def read_page(self, replies: Sequence[Any], request: Request) -> list[bytes]:
        """What is on a page; what was seen in vain is seen again.

        Raises:
            AQMDatabaseError: the page wasn't given, or it's enough.
        """
        reply = _check_read(self._walked, replies[0])
        if isinstance(reply, AQMDatabaseError):
            raise reply
        page: list[bytes]
        cursor, page = reply
        process = self._find_process(replies[1:], request)
        if self._cursor is None or (process is not None and process == self._process):
            self._cursor, self._process = cursor, process
            self.is_over = cursor == b"0"
        else:
            self.begin_anew(request)
        return page

    def begin_anew(self, request: Request) -> None:
        """Begins at the first page again, since another process may answer.

        Raises:
            AQMDatabaseError: it was begun so often that it may never end.
        """
        if self._starts == _MOST_STARTS:
            # Where it isn't told, every connection is taken for one to another process.
            _check_read(_NAME_PROCESS, self._refusal)
            raise request.make_unavailable("other servers take over again and again during a walk")
        self._starts += 1
        self._cursor, self.is_over = None, False
        self._asks_name = self._refusal is None

    def _find_process(self, told: Sequence[Any], request: Request) -> object:
        """What stands for the process that gave a page; None if nothing does."""
        for reply in told:
            if isinstance(reply, bytes):
                return parse_info(reply).run_id or request.mark
            # Each refusal leaves a line in the server's log of them.
            self._refusal, self._asks_name = reply, False
        return request.mark


async def _run_once(
    ask: Ask, calls: Sequence[Call], request: Request, before: Sequence[Command] = ()
) -> list[Reply | AQMDatabaseError]:
    """Runs many scripts, whatever the server's clock shows, and what is to be sent before them."""
    commands = [*before, *(_make_evalsha(call, request) for call in calls)]
    replies = (await ask(commands, request))[len(before) :]
    missing = [place for place, reply in enumerate(replies) if _is_missing(reply)]
    # Sending one script in full makes the server know it, and the others like it.
    while missing:
        first, *missing = missing
        try:
            [replies[first]] = await ask((_make_eval(calls[first], request),), request)
            if _is_missing(replies[first]):
                # Such a server learns nothing.
                break
            commands = [_make_evalsha(calls[place], request) for place in missing]
            others = await ask(commands, request) if commands else []
        except AQMDatabaseError as error:
            # The others have been carried out.
            replies = [error if _is_missing(reply) else reply for reply in replies]
            break
        for place, reply in zip(missing, others, strict=True):
            replies[place] = reply
        missing = [place for place in missing if _is_missing(replies[place])]
    return [
        make_error(reply, call.script.name) if isinstance(reply, ErrorReply) else reply
        for call, reply in zip(calls, replies, strict=True)
    ]


def _undo_reply(
    undo: Undo, reply: Reply | AQMDatabaseError, request: Request
) -> Call | AQMDatabaseError | None:
    """The call that takes a reply's effect back, or why there can be none."""
    if isinstance(reply, AQMDatabaseError):
        # What the server refused has no effect; of what it didn't answer, nobody knows yet.
        return None
    if is_late(reply) and not request.is_refuted(reply[-1]):
        return AQMDatabaseError("the server has forgotten the request")
    if reply[:1] != [Code.OK]:
        return None
    try:
        return undo(reply)
    except AQMDatabaseError as error:
        return error


def _check_read(command: Command, reply: Any) -> Any:
    """The reply to a reading command; that a row has the wrong type is one."""
    if isinstance(reply, AQMDatabaseError):
        raise reply
    if not isinstance(reply, ErrorReply):
        return reply
    error = make_error(reply, str(command[0]))
    if not isinstance(error, CorruptEntryError):
        raise error
    return error


def _is_missing(reply: Any) -> bool:
    """Whether the server doesn't have the script, which is the one refusal to be mended."""
    return isinstance(reply, ErrorReply) and reply.kind is ErrorKind.NO_SCRIPT


def _make_evalsha(call: Call, request: Request) -> Command:
    return _make_command("EVALSHA", call.script.sha, call, request)


def _make_eval(call: Call, request: Request) -> Command:
    return _make_command("EVAL", call.script.source, call, request)


def _make_command(name: str, script: str, call: Call, request: Request) -> Command:
    """What runs a script; one that asks for it is told when the request was first sent.

    The number has a sign where the caller is gone: the first sending may come later, on another
    connection, and must not do then what nobody takes back.
    """
    if not call.script.is_dated:
        return (name, script, len(call.keys), *call.keys, *call.arguments)
    sent: str | int = "" if request.sent is None else request.sent
    if request.is_settling and call.script.heeds_settling:
        sent = f"+{sent}"
    return (name, script, len(call.keys), *call.keys, sent, *call.arguments)
