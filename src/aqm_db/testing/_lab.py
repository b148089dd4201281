"""What each test of the contract works with: a seam on a link that can break, and one beside it."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Concatenate, Final, ParamSpec, Protocol, Self, TypeVar, cast

from aqm_db._io.driving import drive
from aqm_db._io.seam import Call, Reply, Seam
from aqm_db._lua.loader import Script
from aqm_db.errors import InventoryUnavailableError, UnavailableError

from ._relay import PATIENCE, Address, Relay

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")

OWNER: Final = "contract"
COUNTER: Final = f"aqm:{{{OWNER}}}:taken"
_SECONDS: Final = 4 * PATIENCE
"""What a test may take, if it waits in an event loop."""
_READING_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class SeamSettings:
    """What a seam has to be made with.

    Attributes:
        port: where the server listens, on 127.0.0.1, without TLS; of its databases it's the first.
        username: who the server is told it is; None for the default user.
        password: the user's.
        timeout: for how many seconds the server may be silent before the link has failed.
        retries: how often a request that failed is sent again, at once.
        unavailable: what is raised when the server can't be reached.
    """

    port: int
    username: str | None = None
    password: str | None = None
    timeout: float = 5.0
    retries: int = 2
    unavailable: type[UnavailableError] = InventoryUnavailableError


class Maker(Protocol):
    """Who makes the seams that are tested."""

    suspends: ClassVar[bool]

    async def make_seam(self, settings: SeamSettings) -> Seam: ...
    async def close_seam(self, seam: Seam) -> None: ...


class Lab:
    """A seam on a link that can break, and one beside it.

    Args:
        maker: who makes them.
        link: the link that can break.
        other: one that is left whole.

    Attributes:
        seam: what is tested.
        link: its link.
        direct: another seam, on a link that is whole; it tells what is on the server.
        suspends: whether the coroutines of a seam wait in an event loop, so that callers go away
            by cancelling; by interrupting where they don't.
    """

    seam: Seam
    direct: Seam

    def __init__(self, maker: Maker, link: Relay, other: Relay) -> None:
        self.link = link
        self.suspends: bool = maker.suspends
        self._maker = maker
        self._other = other
        self._made: list[Seam] = []
        self._runner = asyncio.Runner() if maker.suspends else None

    @classmethod
    @contextmanager
    def open(cls, maker: Maker, address: Address) -> Generator[Self]:
        """A laboratory at a server, the first of whose databases is emptied."""
        with ExitStack() as stack:
            link, other = (stack.enter_context(Relay(address)) for _ in range(2))
            lab = cls(maker, link, other)
            stack.callback(lab._close)
            lab.run(lab._begin())
            # Whoever comes next to a server of somebody's finds nothing of this.
            stack.callback(lambda: lab.run(lab.direct.read(("FLUSHDB",))))
            yield lab

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine to its end, as those do who use such a seam."""
        if self._runner is None:
            return drive(work)
        return self._runner.run(asyncio.wait_for(work, _SECONDS))

    async def make(self, *, link: Relay | None = None, **settings: Any) -> Seam:
        """Makes another seam, which is closed with the laboratory.

        Args:
            link: its link; the one that is whole if it's None.
            settings: those of :class:`SeamSettings` that the others don't have.
        """
        port = (link or self._other).port
        seam = await self._maker.make_seam(SeamSettings(port, **settings))
        self._made.append(seam)
        return seam

    async def count_taken(self) -> int:
        """How many the server says were taken (:func:`take`), and not put back."""
        [count] = await self.direct.read(("GET", COUNTER))
        return int(count or 0)

    async def desert(self, call: Coroutine[Any, Any, object], *, for_good: bool = False) -> object:
        """Has a call's caller go away, when the server has answered and the reply hasn't come.

        Args:
            call: the call.
            for_good: whether the server can't be reached any more from then on.

        Returns:
            What the call ended with: an exception if it's as it should be.
        """
        desert = self._cancel if self.suspends else self._interrupt
        return await desert(call, for_good=for_good)

    async def _cancel(self, call: Coroutine[Any, Any, object], *, for_good: bool) -> object:
        with self.link.hold_replies() as is_held:
            task = asyncio.ensure_future(call)
            await asyncio.to_thread(is_held.wait, PATIENCE)
            task.cancel()
            if for_good:
                self.link.go_down()
        [ending] = await asyncio.gather(task, return_exceptions=True)
        return ending

    async def _interrupt(self, call: Coroutine[Any, Any, object], *, for_good: bool) -> object:
        caller, is_interrupted = threading.get_ident(), threading.Event()

        def interrupt(*_: object) -> None:
            is_interrupted.set()
            raise KeyboardInterrupt

        def send_interrupt() -> bool:
            if not is_interrupted.is_set():
                if for_good:
                    self.link.refuse()
                before = len(self.link.requests)
                # A server may be faster than the caller, who reads soon.
                time.sleep(_READING_SECONDS)
                signal.pthread_kill(caller, signal.SIGINT)
                is_interrupted.wait(PATIENCE)
                # It's for whoever is so careless as to go on with this connection.
                self.link.wait_for(before + 1)
            return True

        self.link.judge_replies(send_interrupt)
        handler = signal.signal(signal.SIGINT, interrupt)
        try:
            return await call
        except KeyboardInterrupt as ending:
            return ending
        finally:
            signal.signal(signal.SIGINT, handler)

    async def _begin(self) -> None:
        self.seam = await self.make(link=self.link)
        self.direct = await self.make()
        await self.direct.read(("FLUSHDB",))

    def _close(self) -> None:
        for seam in self._made:
            self.run(self._maker.close_seam(seam))
        if self._runner is not None:
            self._runner.close()


def scenario(
    test: Callable[Concatenate[S, Lab, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[S, Lab, P], None]:
    """A test as pytest runs it, of one that is written as a coroutine."""

    @wraps(test)
    def run(self: S, lab: Lab, *args: P.args, **kwargs: P.kwargs) -> None:
        lab.run(test(self, lab, *args, **kwargs))

    # pytest passes fixtures by their names.
    return cast("Callable[Concatenate[S, Lab, P], None]", run)


class _Snippet(Script):
    """A script that stands here."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.is_dated = False


_TAKE: Final = _Snippet(
    "take",
    """
    local number = redis.call('GET', KEYS[2])
    if not number then
      number = redis.call('INCR', KEYS[1])
      redis.call('SET', KEYS[2], number)
    end
    return {0, tonumber(number)}
    """,
)
_PUT_BACK: Final = _Snippet(
    "put_back",
    """
    if redis.call('DEL', KEYS[2]) == 1 then
      redis.call('DECR', KEYS[1])
    end
    return {0}
    """,
)
_MISTAKE: Final = _Snippet("mistake", "redis.call('HGET', KEYS[1], 'field') return {0}")
_REFUSE: Final = _Snippet("refuse", "redis.call('INCR', KEYS[1]) return {1}")


def take(request_id: str) -> Call:
    """Takes a number, the next one; the same request again takes the same number.

    That's how every script of the library does it, so that a request can be sent again.
    """
    return Call(_TAKE, _keys(request_id), ())


def put_back(request_id: str) -> Call:
    """Takes back what :func:`take` did."""
    return Call(_PUT_BACK, _keys(request_id), ())


def make_undo(request_id: str) -> Callable[[Reply], Call]:
    """The undo of :func:`take`."""
    return lambda _: put_back(request_id)


def meet_wrong_type() -> Call:
    """Reads what :func:`take` counts as if it were a hash, which the server refuses."""
    return Call(_MISTAKE, (COUNTER,), ())


def refuse(request_id: str) -> Call:
    """Counts, and says that it did nothing: so there is nothing to take back."""
    return Call(_REFUSE, _keys(request_id), ())


def _keys(request_id: str) -> tuple[str, str]:
    return COUNTER, f"aqm:{{{OWNER}}}:request:{request_id}"
