"""What a seam makes of a link that fails."""

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from aqm_db._io.request import Request
from aqm_db.errors import InventoryUnavailableError

from ._lab import COUNTER, Lab, scenario, take


class FailingTests:
    """Links that fail: nobody is told that nothing was done when it may have been, or twice."""

    @scenario
    async def test_nobody_listens(self, lab: Lab) -> None:
        """Nothing was executed, whatever was asked for."""

        async def walk() -> object:
            return [page async for page in lab.seam.scan("*")]

        lab.link.go_down()
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: lab.seam.run(take("1")),
            lambda: lab.seam.run_all([take("1"), take("2")]),
            lambda: lab.seam.read(("GET", COUNTER)),
            walk,
        ]
        for call in calls:
            with pytest.raises(InventoryUnavailableError) as caught:
                await call()
            assert caught.value.outcome_unknown is False
        assert await lab.count_taken() == 0

    @scenario
    async def test_the_error_is_the_seams_own(self, lab: Lab) -> None:
        """The one that it was made with."""

        class OwnError(InventoryUnavailableError):
            pass

        seam = await lab.make(link=lab.link, unavailable=OwnError)
        lab.link.go_down()
        with pytest.raises(OwnError):
            await seam.run(take("1"))

    @scenario
    async def test_a_link_that_was_cut_is_made_again(self, lab: Lab) -> None:
        """Whoever calls next notices nothing."""
        assert await lab.seam.run(take("1")) == [0, 1]
        lab.link.cut()
        assert await lab.seam.run(take("2")) == [0, 2]
        lab.link.cut()
        assert await lab.seam.read(("GET", COUNTER)) == [b"2"]

    @scenario
    async def test_a_reply_that_is_lost(self, lab: Lab) -> None:
        """The same request is sent again, and carried out once."""
        assert await lab.seam.run(take("0")) == [0, 1]
        lab.link.lose(2)
        assert await lab.seam.run(take("1")) == [0, 2]
        assert await lab.count_taken() == 2
        *_, first, second, third = lab.link.requests
        assert first.arguments == second.arguments == third.arguments

    @scenario
    async def test_a_batchs_replies_that_are_lost(self, lab: Lab) -> None:
        """The same."""
        assert await lab.seam.run(take("0")) == [0, 1]
        lab.link.lose(1)
        assert await lab.seam.run_all([take("1"), take("2")]) == [[0, 2], [0, 3]]
        assert await lab.count_taken() == 3

    @scenario
    async def test_replies_that_are_always_lost(self, lab: Lab) -> None:
        """The seam gives up, and says that it doesn't know what was done."""
        assert await lab.seam.run(take("0")) == [0, 1]
        lab.link.lose(100)
        before = len(lab.link.requests)
        with pytest.raises(InventoryUnavailableError) as caught:
            await lab.seam.run(take("1"))
        assert caught.value.outcome_unknown is True
        assert len(lab.link.requests) - before == 3
        with pytest.raises(InventoryUnavailableError) as caught:
            await lab.seam.run_all([take("2"), take("3")])
        assert caught.value.outcome_unknown is True
        assert await lab.count_taken() == 4

    @scenario
    async def test_a_server_that_is_gone_after_the_first_attempt(self, lab: Lab) -> None:
        """Though the last attempt could not be sent, the first one may have been executed."""

        def go_down() -> bool:
            lab.link.go_down()
            return False

        assert await lab.seam.run(take("0")) == [0, 1]
        lab.link.judge_replies(go_down)
        with pytest.raises(InventoryUnavailableError) as caught:
            await lab.seam.run(take("1"))
        assert caught.value.outcome_unknown is True
        assert await lab.count_taken() == 2

    @scenario
    async def test_a_server_that_is_silent(self, lab: Lab) -> None:
        """It's waited for as long as the seam was told, each time."""
        assert await lab.seam.run(take("0")) == [0, 1]
        seam = await lab.make(link=lab.link, timeout=0.4, retries=1)
        with lab.link.hold_replies(), pytest.raises(InventoryUnavailableError) as caught:
            await seam.run(take("1"))
        assert caught.value.outcome_unknown is True
        assert await lab.count_taken() == 2

    @scenario
    async def test_a_request_is_not_sent_again_when_its_time_is_over(self, lab: Lab) -> None:
        """The server remembers a request for some time only: later, it would be another one."""
        assert await lab.seam.run(take("0")) == [0, 1]
        before = len(lab.link.requests)
        is_over = False

        def pass_time() -> bool:
            nonlocal is_over
            is_over = True
            return False

        lab.link.judge_replies(pass_time)

        def tell(_: Request) -> bool:
            return is_over

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(Request, "is_over", tell)
            with pytest.raises(InventoryUnavailableError) as caught:
                await lab.seam.run(take("1"))
        assert caught.value.outcome_unknown is True
        assert len(lab.link.requests) - before == 1

    @scenario
    async def test_a_link_that_is_out_of_step(self, lab: Lab) -> None:
        """It's hung up, and the next call goes out on another one."""
        assert await lab.seam.run(take("1")) == [0, 1]
        lab.seam.distrust()
        assert await lab.seam.run(take("2")) == [0, 2]
        first, *_, last = lab.link.requests
        assert first.connection != last.connection
