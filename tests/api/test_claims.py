"""Claims that are over: nobody asks for them again, and so the server needn't keep them."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory
from aqm_db._lua.loader import Code
from aqm_db.types import InventoryEntry
from tests.support.peers import ScriptedServer, answer_select, claim_of, encode_reply, listening
from tests.support.samples import Clock, stock

pytestmark = pytest.mark.asyncio

SMALL = 16
"""So few may be left."""
PORTION = 200
"""Coins that are asked for in one round trip; others of the same program follow."""


async def stock_many(inventory: AsyncSmartInventory, clock: Clock, count: int) -> list[str]:
    """As many contacts, each with a BRONZE coin, which nobody is storing any more."""
    contact_ids = [f"c{number}" for number in range(count)]
    for contact_id in contact_ids:
        await inventory.register_contact(contact_id, "BESTIE")
        await stock(inventory, contact_id, "BRONZE", "b")
    clock.advance(days=1)
    return contact_ids


async def count_claims(client: Redis) -> int:
    """How many the server keeps."""
    return len(await client.keys("inv:v1:claim:*"))


async def test_selected_one_by_one(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """However many were selected within half a minute, a few claims are left."""
    for contact_id in await stock_many(inventory, clock, 5 * SMALL):
        assert await inventory.select_coin(contact_id, "BRONZE") is not None
        assert 1 <= await count_claims(inventory_client) <= SMALL + 1


async def test_selected_together(
    inventory: AsyncSmartInventory, inventory_client: Redis, clock: Clock
) -> None:
    """Those of a portion go with the next one, and the last ones with the next call."""
    contact_ids = await stock_many(inventory, clock, 2 * PORTION + 1)
    found = await inventory.select_coins(contact_ids[:-1], "BRONZE")
    assert all(isinstance(entry, InventoryEntry) for entry in found.values())
    assert await count_claims(inventory_client) == PORTION
    assert await inventory.select_coin(contact_ids[-1], "BRONZE") is not None
    assert await count_claims(inventory_client) == 1


async def test_what_is_empty_leaves_none(
    inventory: AsyncSmartInventory, inventory_client: Redis
) -> None:
    """A selection that was given nothing has no claim, and has nothing deleted."""
    await inventory.register_contact("bob", "BESTIE")
    for _ in range(2 * SMALL):
        assert await inventory.select_coin("bob", "BRONZE") is None
    assert await count_claims(inventory_client) == 0


async def test_a_user_who_may_not_delete(tmp_path: Path) -> None:
    """Coins are handed out all the same; the claims expire."""
    coin = (b"k", b"GOLD", b"p", b"s", b"1", b"99999999999999", b"2 1 r")

    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"UNLINK":
            return b"-NOPERM User alice has no permissions to run the 'unlink' command\r\n"
        return answer_select(command, *coin)

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2)
        inventory = AsyncSmartInventory(client)
        for _ in range(2 * SMALL):
            assert isinstance(await inventory.select_coin("bob", "GOLD"), InventoryEntry)
        await client.aclose()
    assert b"UNLINK" in [command[0] for command in server.requests]


async def test_a_selection_that_takes_several_requests(tmp_path: Path) -> None:
    """Its claim isn't over before the last one."""
    coin = (b"k", b"GOLD", b"p", b"s", b"1", b"9", b"2 1 r")

    def answer(command: list[bytes]) -> bytes:
        if len(server.requests) % 2:
            return encode_reply([Code.UNFINISHED, claim_of(command), [], b"GOLD", 0])
        return answer_select(command, *coin)

    server = ScriptedServer(answer)
    async with listening(server, tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2)
        inventory = AsyncSmartInventory(client)
        for _ in range(SMALL - 1):
            assert isinstance(await inventory.select_coin("bob", "GOLD"), InventoryEntry)
        await client.aclose()
    assert b"UNLINK" not in [command[0] for command in server.requests]


async def test_many_that_were_selected_at_once(tmp_path: Path) -> None:
    """They go little by little, since others wait for the server meanwhile."""
    coin = (b"k", b"GOLD", b"p", b"s", b"1", b"9", b"2 1 r")
    server = ScriptedServer(lambda command: answer_select(command, *coin))
    async with listening(server, tmp_path / "s"):
        client = Redis(unix_socket_path=str(tmp_path / "s"), protocol=2)
        inventory = AsyncSmartInventory(client)
        await asyncio.gather(*(inventory.select_coin("bob", "GOLD") for _ in range(300)))
        for _ in range(3):
            await inventory.select_coin("bob", "GOLD")
        await client.aclose()
    deleted = [len(command) - 1 for command in server.requests if command[0] == b"UNLINK"]
    assert deleted == [256, 45]
