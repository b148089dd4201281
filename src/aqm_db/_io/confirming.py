"""Changes that count once replicas, or disks, have them, too."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from aqm_db import config
from aqm_db._model.checks import check_count, check_flag, check_timeout
from aqm_db.errors import (
    AccessDeniedError,
    AQMDatabaseError,
    UnavailableError,
)

from .answers import Ask, is_late
from .facts import Facts, parse_greeting
from .failures import ErrorKind, ErrorReply, make_error
from .fsync import ASK_POLICY, GREET, NEEDED, REMEDY, SET_ALWAYS, find_doubt, parse_policy
from .request import Request
from .seam import Command, SharedCommand

_HEAD_START_MS = 50
"""How long replicas are waited for before their disks are: longer than a round trip to them."""
_ASK_POLICY: Final = SharedCommand(ASK_POLICY)
_GREET: Final = SharedCommand(GREET)
_POLICY: Final = "CONFIG GET, without which its WAITAOF can't be believed"
_PLAIN: Final = 2
"""How many commands have replicas alone confirm a change: what marks it, and WAIT."""
_OF_DISKS: Final = frozenset({"WAITAOF", _POLICY})


class Confirming(NamedTuple):
    """What has to be before a call returns: which changes are where, or what it did is found out.

    Attributes:
        replicas: how many replicas must have it (WAIT).
        timeout: how long they are waited for, in ms.
        fsync: whether it has to be on the disks, the primary's included (WAITAOF).
        settle_timeout: how long a cancelled call finds out what it did, in ms.
        is_embedded: whether the server is the library's own, whose settings it may change.
    """

    replicas: int = 0
    timeout: int = config.CONFIRM_TIMEOUT
    fsync: bool = False
    settle_timeout: int = config.SETTLE_TIMEOUT
    is_embedded: bool = False

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
        self._waits: list[Command] = [
            SharedCommand(command)
            for command in (("SET", key, "", "PX", 1000), *confirming.list_waits())
        ]
        self._facts: Facts | None = None
        # Waiting for replicas takes no permission that is hard to come by, and an embedded
        # server's users have all.
        self._is_allowed = confirming.is_embedded or not confirming.fsync

    def wrap_ask(self, ask: Ask, unavailable: type[UnavailableError]) -> Ask:
        """Sends commands as ``ask`` does, and waits for their confirmation in the same request.

        WAIT and WAITAOF are about what their own connection wrote. A call that is asked again
        writes nothing, so each writes a key of no meaning, and what was written before it is waited
        for as well.
        """

        async def ask_and_wait(commands: Sequence[Command], request: Request) -> list[Any]:
            if not self._is_allowed:
                await _try_disks(ask, request)
                self._is_allowed = True
            answers = await ask([*commands, *self._list_tail()], request)
            count = len(commands)
            replies, tail = answers[:count], answers[count:]
            if self._is_plainly_confirmed(tail):
                return replies
            lack, doubt = self._find_lack(replies, tail, unavailable)
            if doubt and self._confirming.is_embedded:
                # Another process started it, or somebody changed its setting. All is asked again,
                # since it may have been started anew meanwhile, without what its disk never had.
                try:
                    answers = await ask([SET_ALWAYS, *commands, *self._list_tail()], request)
                except UnavailableError as error:
                    raise unavailable(str(error), outcome_unknown=True) from error
                again, tail = answers[1 : count + 1], answers[count + 1 :]
                # Of keys that are deleted, the first reply says how many there were.
                pairs = zip(replies, again, strict=True)
                replies = [first if isinstance(first, int) else then for first, then in pairs]
                lack, doubt = self._find_lack(replies, tail, unavailable)
            if lack or doubt:
                raise unavailable(lack or f"{doubt} {REMEDY}", outcome_unknown=True)
            return replies

        return ask_and_wait

    def _list_tail(self) -> list[Command]:
        """What follows the commands: what waits, and what tells whether that can be believed.

        The setting is asked for last. If it's ``always`` then, the server fsyncs what came before
        in any case before a reply leaves it, whatever the setting was meanwhile.
        """
        if not self._confirming.fsync or (self._facts and self._facts.waits_for_fsync):
            return self._waits
        # What make it is doesn't change.
        return [*self._waits, _ASK_POLICY, *([] if self._facts else [_GREET])]

    def _is_plainly_confirmed(self, tail: Sequence[Any]) -> bool:
        """Whether enough replicas answered, and nothing else was asked: what is mostly so."""
        if len(tail) != _PLAIN:
            return False
        marked, count = tail
        return marked == b"OK" and isinstance(count, int) and count >= self._confirming.replicas

    def _find_lack(
        self, replies: Sequence[Any], tail: Sequence[Any], unavailable: type[UnavailableError]
    ) -> tuple[str, str]:
        """What is missing, as the replies to a tail say, and why they don't count; empty if none.

        Raises:
            AQMDatabaseError: the server refuses to confirm anything, or doesn't answer.
        """
        if all(map(_changed_nothing, replies)):
            return "", ""
        waited, told = tail[: len(self._waits)], tail[len(self._waits) :]
        for reply, command in zip(waited, self._waits, strict=True):
            _check_reply(reply, str(command[0]), unavailable)
        if lack := self._count_lack(waited[-1]):
            return lack, ""
        return "", self._find_doubt(told, unavailable) if told else ""

    def _find_doubt(self, told: Sequence[Any], unavailable: type[UnavailableError]) -> str:
        policy, *greeting = told
        if greeting:
            if isinstance(greeting[0], AQMDatabaseError):
                raise unavailable(str(greeting[0]), outcome_unknown=True)
            self._facts = parse_greeting(greeting[0])
        facts = self._facts or Facts({})
        if facts.waits_for_fsync:
            return ""
        _check_reply(policy, _POLICY, unavailable)
        return find_doubt(facts, None if isinstance(policy, ErrorReply) else parse_policy(policy))

    def _count_lack(self, confirmed: Any) -> str:
        """What is missing in the reply of WAIT, a number, or of WAITAOF, two; empty if nothing."""
        if isinstance(confirmed, ErrorReply):
            return f"nothing confirmed the change: {NEEDED}"
        disks, replicas = confirmed if self._confirming.fsync else (1, confirmed)
        wanted = self._confirming.replicas
        if replicas < wanted:
            return (
                f"{replicas} of {wanted} replicas confirmed the change (confirm_replicas) within "
                f"{self._confirming.timeout} ms (confirm_timeout)"
            )
        return "" if disks else "the server's disk didn't confirm the change"


def check_confirming(
    replicas: object,
    timeout: object,
    fsync: object,
    settle_timeout: object,
    *,
    is_embedded: bool = False,
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
        is_embedded,
    )


async def _try_disks(ask: Ask, request: Request) -> None:
    """Tries what tells of disks: who may not ask that is told before the first change.

    Raises:
        AQMDatabaseError: the user may not do that, or the server doesn't answer.
    """
    # It waits for no disk.
    greeting, waited, policy = await ask([GREET, ("WAITAOF", 0, 0, 1), ASK_POLICY], request)
    for reply in (greeting, waited, policy):
        if isinstance(reply, AQMDatabaseError):
            raise reply
    needed = {"WAITAOF": waited}
    if not parse_greeting(greeting).waits_for_fsync:
        needed[_POLICY] = policy
    for command, reply in needed.items():
        if isinstance(reply, ErrorReply) and reply.kind is ErrorKind.DENIED:
            raise make_error(reply, command)


def _check_reply(reply: object, command: str, unavailable: type[UnavailableError]) -> None:
    """Raises what a reply says, unless it's that the server can't do what tells of its disk."""
    if isinstance(reply, AQMDatabaseError):
        raise unavailable(str(reply), outcome_unknown=True)
    is_unable = (
        command in _OF_DISKS and isinstance(reply, ErrorReply) and reply.kind is ErrorKind.OTHER
    )
    if isinstance(reply, ErrorReply) and not is_unable:
        raise _explain_unconfirmed(make_error(reply, command), unavailable)


def _changed_nothing(reply: Any) -> bool:
    """Whether a command was refused, by the server or the link, or too old to be carried out."""
    return isinstance(reply, ErrorReply | AQMDatabaseError) or is_late(reply)


def _explain_unconfirmed(
    error: AQMDatabaseError, unavailable: type[UnavailableError]
) -> AQMDatabaseError:
    """What is raised when a change was made, and the server refuses to have it confirmed."""
    if isinstance(error, AccessDeniedError):
        # It's so for every change, until somebody gives the user the permission.
        error.outcome_unknown = True
        return error
    # A server that takes no writes says so of what only marks the change, which it has made.
    return unavailable(str(error), outcome_unknown=True)
