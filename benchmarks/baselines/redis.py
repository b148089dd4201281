"""The variants of ``select_coin`` and of the inventory's ``store_key``, over redis.asyncio.

All work on rows that the library stored, in the specification's key schema.
"""

import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, cast

from redis.asyncio import Redis
from redis.exceptions import WatchError

from aqm_db import AsyncSmartInventory, config
from aqm_db._model.keys import Keys
from aqm_db.types import NewCoin
from benchmarks.baselines.raw_socket import ask, connected, exchange
from benchmarks.measuring import checks, names
from benchmarks.measuring.links import Link
from benchmarks.measuring.loops import Call, Variant
from benchmarks.measuring.scripts import (
    evalsha,
    in_parts,
    packed_evalsha,
    pipelined,
    selections,
    storings,
)
from benchmarks.measuring.stock import Coin, new_coins, stocked, storing

_KEYS = Keys()
_GOLD_BYTES = config.COIN_SIZE_BYTES["GOLD"]


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def ping(client: Redis) -> Variant:
    """A round trip that does nothing."""

    async def prepare(count: int) -> list[Call]:
        return [cast("Call", client.ping)] * count

    return Variant(names.PING, prepare, checks.all_true)


def own_ping(inventory: AsyncSmartInventory) -> Variant:
    """The same over the connection that the library's calls share."""
    # No public method does as little.
    seam = inventory.scope.seam

    async def prepare(count: int) -> list[Call]:
        return [partial(seam.read, ("PING",))] * count

    return Variant(names.OWN_PING, prepare, checks.all_true)


def get(client: Redis) -> Variant:
    """A round trip that brings as many bytes as a GOLD coin has."""

    async def prepare(count: int) -> list[Call]:
        await client.set("benchmark", bytes(_GOLD_BYTES))
        return [cast("Call", partial(client.get, "benchmark"))] * count

    return Variant(names.GET, prepare, checks.all_true)


def nothing() -> Variant:
    """No call at all: what is late here is the event loop, or the machine."""

    async def call() -> bool:
        return True

    async def prepare(count: int) -> list[Call]:
        return [call] * count

    return Variant(names.NOTHING, prepare, checks.all_true)


def library_select(inventory: AsyncSmartInventory) -> Variant:
    """The library."""

    async def prepare(count: int) -> list[Call]:
        contact_ids = await stocked(inventory, count)
        return [partial(inventory.select_coin, each, "GOLD") for each in contact_ids]

    return Variant(names.LIBRARY, prepare, checks.entries)


def batch_select(inventory: AsyncSmartInventory, size: int) -> Variant:
    """The library, a coin of each of so many contacts in one call."""

    async def prepare(count: int) -> list[Call]:
        contact_ids = await stocked(inventory, count)
        return [
            partial(inventory.select_coins, part, "GOLD") for part in in_parts(contact_ids, size)
        ]

    def check(results: Sequence[dict[str, Any]]) -> None:
        checks.entries([entry for selected in results for entry in selected.values()])

    return Variant(names.BATCH, prepare, check)


def evalsha_select(link: Link) -> Variant:
    """The library's script, sent by the default client, its reply left as it is."""

    async def prepare(count: int) -> list[Call]:
        return [evalsha(link.inventory_client, each) for each in await selections(link, count)]

    return Variant(names.EVALSHA, prepare, checks.script_coins)


def pipeline_select(link: Link, size: int) -> Variant:
    """The library's script, so many to a pipeline, one pipeline after another."""
    return pipelined(link.inventory_client, partial(selections, link), checks.script_coins, size)


def raw_select(link: Link, in_flight: int) -> Variant:
    """The library's script over a socket: what the server does, and no client can beat."""

    async def prepare(count: int) -> list[Call]:
        commands = [packed_evalsha(each) for each in await selections(link, count)]
        opened = connected(link.path, config.REDIS_INVENTORY_DB)
        return [partial(exchange, opened, commands, in_flight)]

    def check(results: Sequence[list[Any]]) -> None:
        [replies] = results
        checks.script_coins(replies)

    return Variant(names.RAW, prepare, check, callers=1)


def raw_lone_select(link: Link) -> Variant:
    """The same, one after another."""
    opened: list[socket.socket] = []

    async def prepare(count: int) -> list[Call]:
        commands = [packed_evalsha(each) for each in await selections(link, count)]
        opened.append(connected(link.path, config.REDIS_INVENTORY_DB))
        return [partial(ask, opened[-1], command) for command in commands]

    def check(replies: Sequence[Any]) -> None:
        opened.pop().close()
        checks.script_coins(replies)

    return Variant(names.RAW, prepare, check)


def commands_select(link: Link) -> Variant:
    """The specification's five commands."""
    client = link.inventory_client

    async def call(contact_id: str) -> str | None:
        of = _KEYS.of(contact_id)
        if not await client.exists(of.meta):
            return None
        popped = await client.zpopmin(of.queues[0])
        if not popped:
            return None
        key_id = _first(popped)
        await client.hgetall(of.row(key_id))
        await client.delete(of.row(key_id))
        await client.hset(of.meta, "last_msg_at", str(now_ms()))
        return key_id

    return _by_contact(names.COMMANDS, link.inventory, call)


def pipelines_select(link: Link) -> Variant:
    """The fewest round trips that commands can do: the row's name is known after the first."""
    client = link.inventory_client

    async def call(contact_id: str) -> str | None:
        of = _KEYS.of(contact_id)
        async with client.pipeline(transaction=False) as first:
            first.exists(of.meta)
            first.zpopmin(of.queues[0])
            _, popped = await first.execute()
        if not popped:
            return None
        key_id = _first(popped)
        async with client.pipeline(transaction=False) as second:
            second.hgetall(of.row(key_id))
            second.delete(of.row(key_id))
            second.hset(of.meta, "last_msg_at", str(now_ms()))
            await second.execute()
        return key_id

    return _by_contact(names.PIPELINES, link.inventory, call)


def _first(popped: Any) -> str:
    """The member that ZPOPMIN popped."""
    [[member, _]] = popped
    return cast("bytes", member).decode()


def _by_contact(
    name: str, inventory: AsyncSmartInventory, call: Callable[[str], Awaitable[str | None]]
) -> Variant:
    async def prepare(count: int) -> list[Call]:
        return [partial(call, contact_id) for contact_id in await stocked(inventory, count)]

    return Variant(name, prepare, checks.distinct)


def library_store(inventory: AsyncSmartInventory) -> Variant:
    """The library."""

    async def prepare(count: int) -> list[Call]:
        return [storing(inventory, coin) for coin in await new_coins(inventory, count)]

    return Variant(names.LIBRARY, prepare, checks.all_true)


def batch_store(inventory: AsyncSmartInventory, size: int) -> Variant:
    """The library, so many coins in one call."""

    async def prepare(count: int) -> list[Call]:
        coins = [
            NewCoin(coin.contact_id, coin.key_id, coin.tier, coin.public_key, coin.signature)
            for coin in await new_coins(inventory, count)
        ]
        return [partial(inventory.store_keys, part) for part in in_parts(coins, size)]

    return Variant(names.BATCH, prepare, checks.all_stored)


def evalsha_store(link: Link) -> Variant:
    """The library's script, sent by the default client."""

    async def prepare(count: int) -> list[Call]:
        return [evalsha(link.inventory_client, each) for each in await storings(link, count)]

    return Variant(names.EVALSHA, prepare, checks.script_ok)


def pipeline_store(link: Link, size: int) -> Variant:
    """The library's script, so many to a pipeline, one pipeline after another."""
    return pipelined(link.inventory_client, partial(storings, link), checks.script_ok, size)


def watch_store(link: Link) -> Variant:
    """The specification's optimistic lock."""
    client = link.inventory_client

    async def attempt(coin: Coin, cap: int) -> bool:
        of, at = _KEYS.of(coin.contact_id), now_ms()
        async with client.pipeline() as transaction:
            await transaction.watch(of.queues[0])
            if await transaction.zcard(of.queues[0]) >= cap:
                return False
            transaction.multi()  # type: ignore[no-untyped-call]
            fields: dict[Any, Any] = {
                "coin_category": coin.tier,
                "public_key": coin.public_key,
                "signature": coin.signature,
                "fetched_at": at,
            }
            transaction.hset(of.row(coin.key_id), mapping=fields)
            transaction.zadd(of.queues[0], {coin.key_id: at})
            await transaction.execute()
        return True

    async def call(coin: Coin) -> bool:
        priority = await client.hget(_KEYS.of(coin.contact_id).meta, "priority")
        cap = config.BUDGET_CAPS[cast("bytes", priority).decode()][coin.tier]
        for _ in range(config.INV_OPTIMISTIC_LOCK_RETRIES):
            try:
                return await attempt(coin, cap)
            except WatchError:
                continue
        return False

    async def prepare(count: int) -> list[Call]:
        return [partial(call, coin) for coin in await new_coins(link.inventory, count)]

    return Variant(names.WATCH, prepare, checks.all_true)
