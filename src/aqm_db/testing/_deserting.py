"""What becomes of calls whose callers go away: a cancellation, or an interruption."""

import asyncio
import logging
from typing import Any, Final

import pytest

from ._lab import Lab, make_undo, put_back, refuse, scenario, take
from ._relay import PATIENCE

_TURNS: Final = 40
GONE: Final = (asyncio.CancelledError, KeyboardInterrupt)


class DesertingTests:
    """Callers that go away: what was done for them is taken back."""

    @scenario
    async def test_a_call_that_was_deserted_is_taken_back(self, lab: Lab) -> None:
        """Its reply is waited for, or asked for again, and its undo carried out; then it ends."""
        undone: list[Any] = []

        def undo(reply: Any) -> Any:
            undone.append(reply)
            return put_back("1")

        assert await lab.seam.run(take("0")) == [0, 1]
        assert isinstance(await lab.desert(lab.seam.run(take("1"), undo)), GONE)
        assert undone == [[0, 2]]
        assert await lab.count_taken() == 1
        assert await lab.seam.run(take("2")) == [0, 2]

    @scenario
    async def test_a_batch_that_was_deserted_is_taken_back(self, lab: Lab) -> None:
        """As a whole."""
        assert await lab.seam.run(take("0")) == [0, 1]
        names = ["1", "2", "3"]
        call = lab.seam.run_all([*map(take, names)], [*map(make_undo, names)])
        assert isinstance(await lab.desert(call), GONE)
        assert await lab.count_taken() == 1

    @scenario
    async def test_nothing_is_taken_back_of_what_did_nothing(self, lab: Lab) -> None:
        """A reply of another code than OK has no effect; and a call may have no undo."""
        undone: list[Any] = []
        await lab.seam.run(refuse("0"))
        before = await lab.count_taken()
        assert isinstance(await lab.desert(lab.seam.run(refuse("1"), undone.append)), GONE)
        assert not undone
        assert await lab.count_taken() > before
        assert isinstance(await lab.desert(lab.seam.run(take("2"))), GONE)
        assert await lab.seam.run(take("2")) == [0, await lab.count_taken()]

    @scenario
    async def test_an_effect_that_needs_no_undo(self, lab: Lab) -> None:
        """An undo may find that there is none."""
        assert await lab.seam.run(take("0")) == [0, 1]
        assert isinstance(await lab.desert(lab.seam.run(take("1"), lambda _: None)), GONE)
        assert await lab.count_taken() == 2

    @scenario
    async def test_a_deserted_read_ends(self, lab: Lab) -> None:
        """Nothing is taken back, and whoever comes next gets its own replies."""
        assert await lab.seam.run(take("0")) == [0, 1]
        assert isinstance(await lab.desert(lab.seam.read(("EXISTS", "nothing"))), GONE)
        assert await lab.seam.run(take("1")) == [0, 2]

    @scenario
    async def test_a_deserted_call_that_can_not_be_settled(
        self, lab: Lab, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It ends, and all that can be done is to log that nobody knows what it did."""
        assert await lab.seam.run(take("0")) == [0, 1]
        call = lab.seam.run(take("1"), make_undo("1"))
        assert isinstance(await lab.desert(call, for_good=True), GONE)
        warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
        assert any(each.name.startswith("aqm_db") for each in warnings)

    @scenario
    async def test_a_call_that_is_cancelled_at_any_step(self, lab: Lab) -> None:
        """What its caller gets is taken, and nothing else."""
        if not lab.suspends:
            pytest.skip("between two steps of such a call there is no caller")
        assert await lab.seam.run(take("0")) == [0, 1]
        taken = 1
        for turns in range(_TURNS):
            name = f"after {turns}"
            task = asyncio.ensure_future(lab.seam.run(take(name), make_undo(name)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            [ending] = await asyncio.gather(task, return_exceptions=True)
            taken += not isinstance(ending, BaseException)
        assert await lab.count_taken() == taken

    @scenario
    async def test_closing_waits_for_what_is_in_flight(self, lab: Lab) -> None:
        """Whoever waits for a reply gets it."""
        if not lab.suspends:
            pytest.skip("whoever closes such a seam waits for nobody")
        assert await lab.seam.run(take("0")) == [0, 1]
        with lab.link.hold_replies() as is_held:
            call = asyncio.ensure_future(lab.seam.run(take("1")))
            await asyncio.to_thread(is_held.wait, PATIENCE)
            closing = asyncio.ensure_future(lab.seam.aclose())
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            assert not closing.done()
        assert await call == [0, 2]
        await closing
