"""Something that happens in the middle of a call, before one of its requests is sent."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from aqm_db._io import answers
from aqm_db._io.request import Request
from aqm_db._io.seam import Call, Command


def act_halfway(
    monkeypatch: pytest.MonkeyPatch, due: str, times: int, act: Callable[[], object]
) -> Callable[[], bool]:
    """Lets something happen once, on either face.

    Args:
        monkeypatch: ends it with the test.
        due: the script, or the command, before which it happens.
        times: at which request of this kind.
        act: what happens; it may block.

    Returns:
        Whether it has happened.
    """
    run, run_all, read = answers.run, answers.run_all, answers.read
    met = 0

    def meet(name: str) -> None:
        nonlocal met
        if name == due:
            met += 1
            if met == times:
                act()

    async def run_one(ask: answers.Ask, call: Call, request: Request) -> Any:
        meet(call.script.name)
        return await run(ask, call, request)

    async def run_many(ask: answers.Ask, calls: Sequence[Call], request: Request) -> Any:
        if calls:
            meet(calls[0].script.name)
        return await run_all(ask, calls, request)

    async def look(ask: answers.Ask, commands: Sequence[Command], request: Request) -> Any:
        if commands:
            meet(str(commands[0][0]))
        return await read(ask, commands, request)

    monkeypatch.setattr(answers, "run", run_one)
    monkeypatch.setattr(answers, "run_all", run_many)
    monkeypatch.setattr(answers, "read", look)
    return lambda: met >= times
