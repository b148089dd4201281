"""What a cluster's node can answer instead of a result, and what each answer means. No I/O."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, cast

from redis.crc import key_slot
from redis.exceptions import MovedError, RedisError

from aqm_db._io.failures import ErrorKind, ErrorReply, LinkFailure, SlotMoving
from aqm_db._io.seam import Command

from .replies import read_error

ASKING: Command = ("ASKING",)
"""Goes before a command that the node of a slot which is being moved sent on."""
HOPS = 5
"""Redirections in a row; more of them are nodes that disagree, for a moment."""
_DOWN = frozenset({"CLUSTERDOWN", "LOADING", "MASTERDOWN"})
_MOVING = frozenset({"ASK", "MOVED", "TRYAGAIN"})
_REDIRECT = re.compile(r"(ASK|MOVED) (\d+) (\S*):(\d+)")
_UNTOLD = "?"

Remap: TypeAlias = Callable[[str, int], tuple[str, int]]
"""Where a client reaches the node that a cluster calls by a host and a port."""


class Redirect(NamedTuple):
    """Where a node sends a command on.

    Attributes:
        slot: the slot.
        host: the other node's host, as the client reaches it; one that no node has if the node
            which says so doesn't name it.
        port: its port.
        is_moved: whether the slot is there from now on (MOVED), or only this command (ASK).
    """

    slot: int
    host: str
    port: int
    is_moved: bool

    def make_moved_error(self) -> MovedError:
        """The same as redis-py takes it."""
        return MovedError(f"{self.slot} {self.host}:{self.port}")


class Doubts:
    """What a client's topology may be wrong about, until it's asked for again.

    Args:
        is_stale: as of the attribute.

    Attributes:
        is_stale: whether it has to be asked for before the next request, whoever's.
    """

    def __init__(self, *, is_stale: bool) -> None:
        self.is_stale = is_stale
        self._lost: list[str] = []

    def concern(self, nodes: Sequence[Any] | None) -> bool:
        """Whether it has to be asked for before the nodes of a slot are, the primary first.

        Another one's silence delays nobody here: what others find out of it takes a while.
        """
        return self.is_stale or (bool(nodes) and cast("Any", nodes)[0].name in self._lost)

    def note_lost(self, name: str) -> None:
        """Takes note of a node that doesn't answer, and may have been replaced."""
        if name not in self._lost:
            self._lost.append(name)

    def find_last(self) -> str | None:
        """The node that was lost last, which is asked last; None if none was."""
        return self._lost[-1] if self._lost else None

    def forget(self) -> None:
        """Has none any more: it was asked for."""
        self.is_stale = False
        self._lost.clear()


def find_slot(tag: str) -> int:
    """The slot of every key whose name begins with this hash tag."""
    return key_slot(tag.encode())


def list_first_slots(slots: Mapping[int, Sequence[Any]]) -> list[int]:
    """One slot of each primary.

    Args:
        slots: the nodes that have a slot, the primary first, by slot.
    """
    firsts: dict[str, int] = {}
    for slot, nodes in sorted(slots.items()):
        firsts.setdefault(nodes[0].name, slot)
    return [*firsts.values()]


def find_redirects(replies: Sequence[object], remap: Remap) -> dict[int, Redirect]:
    """The redirections among replies, by their places.

    Args:
        replies: what a node answered.
        remap: the client's own, as it's applied to the topology.
    """
    found = ((place, _read_redirect(reply, remap)) for place, reply in enumerate(replies))
    return {place: redirect for place, redirect in found if redirect is not None}


def choose_redirect(redirects: Iterable[Redirect]) -> Redirect:
    """The redirection to follow first: MOVED says more than ASK."""
    return max(redirects, key=lambda redirect: redirect.is_moved)


def is_down(reply: object) -> bool:
    """Whether a node didn't answer, or said that it can't: another one may have its slots."""
    return isinstance(reply, LinkFailure) or (isinstance(reply, ErrorReply) and reply.code in _DOWN)


def mark_moving(replies: Sequence[Any]) -> list[Any]:
    """Replies; what says that the slot is being moved is a failure, to be tried again."""
    return [SlotMoving() if _is_moving(reply) else reply for reply in replies]


def explain_unreachable(error: Exception) -> ErrorReply | LinkFailure:
    """What stands for the replies if no node tells the topology."""
    for cause in _walk_causes(error):
        reply = read_error(cause) if isinstance(cause, RedisError) else None
        # redis-py says "no node is reachable" of nodes that refuse the user, too.
        if reply is not None and reply.kind is ErrorKind.DENIED:
            return reply
    return LinkFailure(str(error), sent=False)


def _read_redirect(reply: object, remap: Remap) -> Redirect | None:
    found = _REDIRECT.fullmatch(reply.text) if isinstance(reply, ErrorReply) else None
    if found is None:
        return None
    code, slot, said, said_port = found.groups()
    # A node that names no host means its own; the topology tells which that is for the client.
    host, port = remap(said, int(said_port)) if said else (_UNTOLD, int(said_port))
    return Redirect(int(slot), host, port, is_moved=code == "MOVED")


def _is_moving(reply: object) -> bool:
    # A script that finds a row gone, or a slot of which it may see a half, says so in its words.
    return isinstance(reply, ErrorReply) and (
        reply.code in _MOVING or "non local key" in reply.text
    )


def _walk_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
