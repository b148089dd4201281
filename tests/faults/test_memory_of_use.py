"""What was used, burned or has expired is offered again: by a source, a replay, or a restore."""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from aqm_db.errors import (
    AQMDatabaseError,
    KeyAlreadyBurnedError,
    KeyAlreadyUsedError,
    KeyExpiredError,
)
from aqm_db.types import NewCoin
from tests.faults.support.fault_table import Tally
from tests.faults.support.furnished_database import library_client
from tests.faults.support.tried_calls import CAPS, HALVES
from tests.support.backends import REDIS_8, VALKEY_9, RunningServer
from tests.support.faces import FACES, Face
from tests.support.samples import BOB, DAY_MS, Clock, sample_key

pytestmark = pytest.mark.asyncio

ROW = "what was used, burned or has expired, offered again"
LIVES = [None, 10, 90]
"""Days until a coin's end; None if it has none of its own."""


@pytest.fixture(params=[VALKEY_9, REDIS_8], ids=lambda backend: backend.name)
def server(request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """A server."""
    with RunningServer(request.param) as running:
        yield running


@pytest.fixture(params=FACES, ids=str)
def face(request: pytest.FixtureRequest) -> Face:
    """Which face."""
    chosen: Face = request.param
    return chosen


@pytest_asyncio.fixture
async def client(server: RunningServer, face: Face) -> AsyncGenerator[Any]:
    """A client of that face."""
    async with library_client(face, server.socket_path) as opened:
        yield opened


@pytest.mark.parametrize("life", LIVES)
@pytest.mark.parametrize("how", ["selected", "consumed"])
async def test_a_used_coin_is_offered_every_day_of_its_life(
    face: Face, client: Any, clock: Clock, life: int | None, how: str, tally: Tally
) -> None:
    """It's stored on none of them, and so handed out once."""
    inventory = face.inventory(client, clock=clock, budget_caps=CAPS)
    await inventory.register_contact(BOB, "BESTIE")
    ends = None if life is None else clock.now + life * DAY_MS
    coin = NewCoin(BOB, "b1", "BRONZE", *HALVES, ends)
    assert await inventory.store_keys([coin]) == [True]
    if how == "selected":
        assert await inventory.select_coin(BOB, "BRONZE") is not None
    else:
        assert await inventory.consume_key(BOB, "b1")
    for _ in range(life or 30):
        [outcome] = await inventory.store_keys([coin])
        stored = outcome is True
        tally.add(ROW, duplicated=int(stored), case=(life, how))
        assert isinstance(outcome, KeyAlreadyUsedError)
        clock.advance(days=1)


async def test_private_halves_come_back_neither_by_a_replay_nor_by_a_restore(
    face: Face, client: Any, clock: Clock, tally: Tally
) -> None:
    """A burned one and an expired one, on every day of the time that they could have come back."""
    vault = face.vault(client, clock=clock)
    entries: list[Any] = []
    for key_id in ("burned", "purged"):
        await vault.store_key(**sample_key(key_id, "GOLD"))
        entries.append(await vault.fetch_key(key_id))
    await vault.burn_key("burned")
    clock.advance(days=1)
    assert await vault.purge_expired(0) == 1
    for _ in range(28):
        errors: list[Any] = []
        for key_id in ("burned", "purged"):
            with pytest.raises(AQMDatabaseError) as caught:
                await vault.burn_key(key_id)
            errors.append(caught.value)
        errors += await vault.restore_keys(entries)
        wanted = [KeyAlreadyBurnedError, KeyExpiredError] * 2
        wrong = sum(type(each) is not kind for each, kind in zip(errors, wanted, strict=True))
        back = sum(each is True for each in errors)
        tally.add(ROW, runs=4, duplicated=back, wrong=wrong, case=errors)
        clock.advance(days=1)
