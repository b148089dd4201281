"""Two days of ``nox -s soak``: deaths, a restore, and a clock set back."""

import asyncio
from pathlib import Path
from random import Random

import pytest

from tests.soak.director import Director
from tests.soak.plan import TWO_DAYS

pytestmark = pytest.mark.chat


def test_two_days_add_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every coin is somewhere, and every message was read once."""
    root = tmp_path_factory.mktemp("s")

    async def live(root: Path) -> None:
        random = Random(1)  # noqa: S311 - days that can be lived again
        async with Director.open(root, random) as director:
            for day in TWO_DAYS:
                await director.live_through(day)
            messages = director.ledger.messages.values()
            assert all(message.reads == 1 for message in messages)
            assert len(messages) > 12

    asyncio.run(live(root))
