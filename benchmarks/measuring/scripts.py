"""The library's scripts, with the arguments that it would send, for other clients to send."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar, cast

from redis.asyncio import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory
from aqm_db._io.redispy.replies import pack_command
from aqm_db._io.seam import Call as ScriptCall
from aqm_db._lua.loader import Code
from benchmarks.measuring import names
from benchmarks.measuring.links import Link
from benchmarks.measuring.loops import Call, Variant
from benchmarks.measuring.stock import keeping, new_coins, new_secret, stocked, storing

_Item = TypeVar("_Item")
_Store = TypeVar("_Store", AsyncSecureVault, AsyncSmartInventory)


class _Recorder:
    """In the place of the library's seam: notes what it would send, and sends nothing."""

    def __init__(self) -> None:
        self.calls: list[ScriptCall] = []

    async def run(self, call: ScriptCall, _undo: object = None) -> list[Any]:
        """Answers that all went well, without a coin."""
        self.calls.append(call)
        return [Code.OK, call.keys[0].encode(), []]


async def recorded(
    store: _Store, client: Redis, calls: Callable[[_Store], Sequence[Call]]
) -> list[ScriptCall]:
    """What a vault or an inventory would send; the server knows the script afterwards.

    Args:
        store: of this object's own use; it can't be used again.
        client: a client of the server.
        calls: makes calls of the store.
    """
    recorder = _Recorder()
    store.scope = store.scope.replace_seam(cast("Any", recorder))
    for call in calls(store):
        await call()
    await client.script_load(recorder.calls[0].script.source)
    return dated(recorder.calls)


def dated(calls: Sequence[ScriptCall]) -> list[ScriptCall]:
    """Calls with what their seam would add: that they were first sent now, by the server's clock.

    Servers take that for half a minute.
    """
    sent = int(time.time() * 1000)
    return [
        ScriptCall(script, keys, (sent, *arguments) if script.is_dated else arguments)
        for script, keys, arguments, *_ in calls
    ]


async def selections(link: Link, count: int) -> list[ScriptCall]:
    """Stores GOLD coins, and returns the scripts that select them."""
    contact_ids = await stocked(link.inventory, count)
    return await recorded(
        AsyncSmartInventory(link.inventory_client),
        link.inventory_client,
        lambda inventory: [partial(inventory.select_coin, each, "GOLD") for each in contact_ids],
    )


async def storings(link: Link, count: int) -> list[ScriptCall]:
    """Registers contacts, and returns the scripts that store GOLD coins of theirs."""
    coins = await new_coins(link.inventory, count)
    return await recorded(
        AsyncSmartInventory(link.inventory_client),
        link.inventory_client,
        lambda inventory: [storing(inventory, coin) for coin in coins],
    )


async def keepings(link: Link, count: int) -> list[ScriptCall]:
    """The scripts that store GOLD private halves."""
    secrets = [new_secret("GOLD") for _ in range(count)]
    return await recorded(
        AsyncSecureVault(link.vault_client),
        link.vault_client,
        lambda vault: [keeping(vault, secret) for secret in secrets],
    )


def evalsha(client: Redis, call: ScriptCall) -> Call:
    """A script, sent by the default client."""
    script, keys, arguments, *_ = call
    return cast(
        "Call",
        partial(client.evalsha, script.sha, len(keys), *keys, *cast("Any", arguments)),
    )


def packed_evalsha(call: ScriptCall) -> bytes:
    """A script as it goes over the wire."""
    script, keys, arguments, *_ = call
    return pack_command(("EVALSHA", script.sha, len(keys), *keys, *arguments))


def pipelined(
    client: Redis,
    scripts: Callable[[int], Awaitable[Sequence[ScriptCall]]],
    check: Callable[[Sequence[Any]], None],
    size: int,
) -> Variant:
    """Pipelines of scripts, as one writes them with redis-py, one after another.

    Args:
        client: the default client.
        scripts: prepares a number of scripts.
        check: takes their replies.
        size: how many a pipeline has.
    """

    async def call(part: Sequence[ScriptCall]) -> list[Any]:
        async with client.pipeline(transaction=False) as pipeline:
            for script, keys, arguments, *_ in part:
                pipeline.evalsha(script.sha, len(keys), *keys, *cast("Any", arguments))
            return await pipeline.execute()

    async def prepare(count: int) -> list[Call]:
        return [partial(call, part) for part in in_parts(await scripts(count), size)]

    return Variant(names.pipeline_of(size), prepare, flat(check), callers=1)


def together(single: Variant, size: int) -> Variant:
    """So many calls of a variant at once, and all of their results awaited."""

    async def call(part: Sequence[Call]) -> list[Any]:
        return await asyncio.gather(*(each() for each in part))

    async def prepare(count: int) -> list[Call]:
        return [partial(call, part) for part in in_parts(await single.prepare(count), size)]

    return Variant(names.TOGETHER, prepare, flat(single.check))


def in_parts(items: Sequence[_Item], size: int) -> list[Sequence[_Item]]:
    """Cuts a sequence into parts of one size."""
    return [items[first : first + size] for first in range(0, len(items), size)]


def flat(check: Callable[[Sequence[Any]], None]) -> Callable[[Sequence[Any]], None]:
    """A check of lists of results, from a check of results."""

    def check_all(lists: Sequence[Sequence[Any]]) -> None:
        check([result for results in lists for result in results])

    return check_all
