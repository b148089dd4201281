"""The chat from its beginning to its end: processes started, killed, and looked at."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import EmbeddedServerError

from .children import Child, start_child
from .findings import Evidence, collect_evidence, find_problems
from .person import PAIR, load_person, make_people

OnRead: TypeAlias = Callable[[str, int], None]
Start: TypeAlias = Callable[..., AbstractAsyncContextManager[Child]]
"""Starts a process, told its name and its arguments."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended.

    Attributes:
        messages: how many each of the two has sent.
        kills: whose process was killed, and what it had told last.
        seconds: how long the chat took, with all processes started and stopped.
        alice: what she left.
        bob: what he left.
        problems: what isn't as it must be, one sentence each.
    """

    messages: int
    kills: Mapping[str, str]
    seconds: float
    alice: Evidence
    bob: Evidence
    problems: Sequence[str]


async def tell(
    messages: int,
    *,
    kill: bool = False,
    on_read: OnRead = lambda _, __: None,
    module: str = "aqm_db.chat_demo",
) -> Outcome:
    """Lets Alice and Bob chat, and looks at what is left of it.

    Args:
        messages: how many each of the two sends.
        kill: whether to kill Alice after a third of what she sends, and Bob after two thirds of
            what he reads.
        on_read: told who has read another message, and how many it were so far.
        module: what the processes run; another one than this package has to run this package.

    Raises:
        DemoError: a process ended too early.
        AQMDatabaseError: what the library's calls raise.
    """
    kills = _plan_kills(messages) if kill else {}
    with tempfile.TemporaryDirectory(prefix="aqm-db-chat-") as directory:
        root = Path(directory)
        start = partial(start_child, root, module)
        began = time.monotonic()
        make_people(root)
        try:
            async with start("the coin server") as server:
                await server.hear("ready")
                await _chat(start, messages, kills, on_read)
            seconds = time.monotonic() - began
            alice, bob = [await collect_evidence(load_person(root, name)) for name in PAIR]
        except BaseException:
            for name in PAIR:
                await asyncio.to_thread(_stop_database, load_person(root, name).database)
            raise
    return Outcome(messages, kills, seconds, alice, bob, find_problems(alice, bob, messages))


async def _chat(start: Start, messages: int, kills: Mapping[str, str], on_read: OnRead) -> None:
    # Who is done stays, to acknowledge and to accept, until the other is done too.
    both = asyncio.Barrier(len(PAIR))

    async def live(name: str) -> None:
        start_party = partial(start, name.title(), name, str(messages))
        hear = partial(_report_reading, name, on_read)
        if name in kills:
            async with start_party() as party:
                await party.hear(kills[name], hear)
                await party.kill()
        async with start_party() as party:
            await party.hear("done", hear)
            await both.wait()

    try:
        async with asyncio.TaskGroup() as group:
            for name in PAIR:
                group.create_task(live(name))
    except ExceptionGroup as failures:
        # The other one fails, if it does, since this one did.
        raise failures.exceptions[0] from None


def _report_reading(name: str, on_read: OnRead, line: str) -> None:
    event, _, number = line.partition(" ")
    if event == "received":
        on_read(name, int(number))


def _plan_kills(messages: int) -> dict[str, str]:
    third = max(messages // 3, 1)
    alice, bob = PAIR
    return {alice: f"sent {third}", bob: f"received {min(2 * third, messages)}"}


def _stop_database(directory: Path) -> None:
    """Stops a database's server that was left behind by a kill, if it can be."""
    # What made the chat fail is told, and not this.
    with suppress(EmbeddedServerError):
        if directory.exists():
            EmbeddedServer.open(directory).close()
