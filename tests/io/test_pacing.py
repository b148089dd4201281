"""Pauses in proportion to the time worked, before each request."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from aqm_db._io.pacing import Pace, PacedSeam
from aqm_db._io.seam import Call, Seam
from aqm_db._operations.turn import DROP

pytestmark = pytest.mark.asyncio
CALL = Call(DROP, ("turn",), ("me",))


class Server:
    """In the place of a seam: each request takes a second, on a clock of its own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[object] = []
        self.takes = 1.0

    def seconds(self) -> float:
        """The time that it is."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """A pause."""
        self.log.append(seconds)

    async def answer(self, *_: object) -> Any:
        """An answer, after a while."""
        self.now += self.takes
        self.log.append("asked")
        return []

    run = run_all = read = answer

    async def scan(self, *_: object) -> AsyncIterator[list[bytes]]:
        """Two pages."""
        for page in (b"1", b"2"):
            await self.answer()
            yield [page]

    def distrust(self) -> None:
        """It's out of step."""
        self.log.append("distrusted")

    async def aclose(self) -> None:
        """It's over."""
        self.log.append("closed")


async def _scan(seam: Seam) -> None:
    assert [page async for page in seam.scan("*")] == [[b"1"], [b"2"]]


ASK: list[Callable[[Seam], Awaitable[Any]]] = [
    lambda seam: seam.run(CALL),
    lambda seam: seam.run_all([CALL]),
    lambda seam: seam.read(),
]


@pytest.mark.parametrize("ask", ASK)
async def test_each_request_is_followed_by_a_pause(ask: Callable[[Seam], Awaitable[Any]]) -> None:
    """It's taken before the next one, so that nobody waits for an answer that is there."""
    server = Server()
    server.takes = 0.25
    seam = _pace(server, 2.0)
    await ask(seam)
    assert server.log == ["asked"]
    await ask(seam)
    await ask(seam)
    assert server.log == ["asked", 0.5, "asked", 0.5, "asked"]


async def test_walks_are_paced_page_by_page() -> None:
    """Whoever takes a page is in no pause."""
    server = Server()
    server.takes = 0.25
    await _scan(_pace(server, 2.0))
    assert server.log == ["asked", 0.5, "asked", 0.5]


async def test_no_pause_is_longer_than_a_second() -> None:
    """A server that was away needs no rest for that."""
    server = Server()
    seam = _pace(server, 3.0)
    await seam.read()
    await seam.read()
    assert server.log == ["asked", 1.0, "asked"]


async def test_a_request_that_fails_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one whose caller is gone."""
    server = Server()
    seam = _pace(server, 1.0)

    async def fail(*_: object) -> None:
        server.now += 0.5
        raise asyncio.CancelledError

    monkeypatch.setattr(server, "read", fail)
    with pytest.raises(asyncio.CancelledError):
        await seam.read()
    await seam.run(CALL)
    assert server.log == [0.5, "asked"]


async def test_the_rest_is_passed_on() -> None:
    """Ending takes no pause."""
    server = Server()
    seam = _pace(server, 1.0)
    await seam.read()
    seam.distrust()
    await seam.aclose()
    assert server.log == ["asked", "distrusted", "closed"]


def _pace(server: Any, rest: float) -> Seam:
    return PacedSeam(server, Pace(server.sleep, server.seconds, rest))
