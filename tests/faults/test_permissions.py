"""A user whom the server forbids one command: whatever it is, nothing is lost or half written."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from aqm_db import AsyncSmartInventory, config
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._io.redispy.clients import make_seam
from aqm_db._io.seam import Argument, Call as ScriptCall
from aqm_db._lua.loader import Script, list_scripts
from aqm_db._model.defaults import now_ms
from aqm_db._model.keys import Keys
from aqm_db._operations import (
    Scope,
    collecting,
    contacts,
    layout,
    memory,
    private_halves,
    publishing,
    reservations,
    rounds,
    stock,
    turn,
)
from aqm_db._operations.memory import SpentHalf, UsedCoin
from aqm_db._operations.outcome import Progress
from aqm_db._operations.stock import build_store
from aqm_db.errors import AccessDeniedError, AQMDatabaseError, InventoryUnavailableError
from aqm_db.types import NewCoin, NewKey
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.faults.support.public_calls import CALLS, Call, Objects, errors_of, furnish, objects_over
from tests.faults.support.restored_database import Kept
from tests.faults.support.tried_calls import HALVES
from tests.support.backends import REDIS_6, VALKEY_9, RunningServer, Servers
from tests.support.samples import BOB, Clock

pytestmark = pytest.mark.asyncio

SCRIPTS = [
    script
    for folder in ("inventory", "vault", "turn")
    for script in list_scripts(folder)
    # The integrity check has tests of its own.
    if "_check_" not in script.name
]
_COMMAND = re.compile(r"(?:redis\.p?call|try_call)\('([A-Z]+)'")
FULL, ORPHANED, RELEASED, POOR = "full", "orphaned", "released", "poor"
"""Contacts: one whose queue is full of coins that can't be handed out, one who has a row that no
queue lists, one whose coin was selected and released, and one without any coin."""
STRANGER = "stranger"
"""One who is worth no coin, and hasn't written for long."""
LEFT = "left"
"""One of whom there is no more than what was used."""
USER = "limited"
LEASES = (*(Keys().inv_leases, Keys().inv_leases_until, Keys().inv_coming, Keys().inv_totals),)
HELD = f"held:GOLD:{BOB}"
MINTED = NewKey("minted", "GOLD", b"blob", b"iv", b"tag")
OVER = f"over:GOLD:{BOB}".encode()
"""A lease that is over may go, too."""
FORGOTTEN = Keys().inv_forgotten.encode()
ENDED = b"ended"
"""So may a contact of whom nothing is remembered any more."""


def commands_of(script: Script) -> set[str]:
    """The commands that a script's text names."""
    return set(_COMMAND.findall(script.source))


@dataclass
class Limited:
    """What a user may do, and what is there.

    Attributes:
        admin: a client that may do everything.
        client: a client of the user.
        kept: what is there before each call.
        now: the user's objects, at the time when everything was stored.
        later: the same, when some coins are stale.
    """

    admin: Redis
    client: Redis
    kept: Kept
    now: Objects
    later: Objects

    async def forbid(self, command: str) -> None:
        """Lets the user do everything but one command."""
        await self.admin.acl_setuser(
            USER,
            enabled=True,
            nopass=True,
            reset=True,
            keys=["*"],
            commands=["+@all", f"-{command}"],
        )


Step = Callable[[Limited], Awaitable[Any]]


def _run(
    limited: Limited, script: Script, keys: Sequence[str], *arguments: Argument
) -> Awaitable[Any]:
    """Runs a script that other calls come to only after a script that is forbidden as much."""
    return make_seam(limited.client, InventoryUnavailableError, "test", confirming=UNCONFIRMED).run(
        ScriptCall(script, keys, arguments)
    )


READING = {
    *("vault.fetch_key", "vault.exists", "vault.count_active(GOLD)", "vault.get_all_active_ids"),
    *("vault.get_all_active_ids(GOLD)", "inventory.get_contact_meta", "inventory.get_inventory"),
    *("inventory.get_inventory()", "inventory.has_keys_for", "inventory.get_available_tiers"),
    *("inventory.contact_pages", "inventory.list_coins"),
}
"""These run no script, or one that another call runs."""


def _reserve(
    limited: Limited, contact_id: str, leases: Sequence[str] = LEASES, cap: int = 9
) -> Awaitable[Any]:
    keys = (*leases, Keys().inv_watch, Keys().inv_aside)
    # One slot of each tier, of 96 bytes, where there's room; one lease is over.
    return _run(
        limited,
        reservations.RESERVE,
        keys,
        *(limited.later.inventory.scope.read_clock(), "new", 60_000, stock.COIN_TTL_MS, 65_536),
        *(Keys().metas, Keys().queues, Keys().rows),
        *(0, 0, 0, 0, 0, 0, 96, 96, 96),
        *(cap, cap, cap) * 3,
        *(contact_id, 1, 1, 1),
    )


def _store_reserved(inventory: AsyncSmartInventory) -> Awaitable[Any]:
    coin = NewCoin(BOB, "new", "GOLD", *HALVES)
    return inventory.scope.seam.run(build_store(inventory.scope, coin, config.BUDGET_CAPS, HELD))


def _learn_of_uses(limited: Limited, contact_id: str) -> Awaitable[Any]:
    now = Clock().now + 1
    coins = [UsedCoin(contact_id, "B2", now, now + 9), UsedCoin(contact_id, "other", None, now + 9)]
    return memory.remember_used(limited.later.inventory.scope, coins, Progress("test"))


def _called(call: Call, limited: Limited) -> Awaitable[Any]:
    return call(limited.later)


def _by_the_server(limited: Limited) -> Scope:
    """A scope in which the server's own clock decides."""
    return limited.later.inventory.scope._replace(clock=None)


def _ask(limited: Limited, build: Callable[[Scope], ScriptCall]) -> Awaitable[Any]:
    """Runs a script, by the server's own clock."""
    scope = _by_the_server(limited)
    return scope.seam.run(build(scope))


VISIT = turn.Visit(1, "visit")


# Together they reach every command of every script.
STEPS: dict[str, Step] = {
    **{
        name: partial(_called, call)
        for name, call in CALLS.items()
        if not name.startswith("reporter.") and name not in READING
    },
    "store into a full queue": lambda limited: limited.later.inventory.store_key(
        FULL, "new", "BRONZE", *HALVES
    ),
    "select from a full queue": lambda limited: limited.later.inventory.select_coin(FULL, "BRONZE"),
    "select a released coin": lambda limited: limited.now.inventory.select_coin(RELEASED, "BRONZE"),
    "consume a released coin": lambda limited: limited.now.inventory.consume_key(RELEASED, "1"),
    "select where there is none": lambda limited: limited.now.inventory.select_coin(POOR, "GOLD"),
    "change who isn't registered": lambda limited: limited.now.inventory.set_contact_priority(
        "nobody", "MATE"
    ),
    "collect a row that no queue lists": lambda limited: limited.later.gc.collect_single_contact(
        ORPHANED
    ),
    "purge": lambda limited: _run(
        limited,
        private_halves.PURGE,
        (
            *(Keys().vault("k1"), Keys().vault_stats, Keys().vault_expiry),
            *(Keys().vault_spent, Keys().vault_watch),
        ),
        *(limited.later.inventory.scope.read_clock(), "k1", 0, private_halves.TTL_MS),
    ),
    "use what isn't there": lambda limited: private_halves.read_known_row(
        limited.later.vault.scope, "nobody"
    ),
    "learn of burned keys": lambda limited: memory.remember_spent(
        limited.later.vault.scope,
        [SpentHalf("k1", "burned", Clock().now), SpentHalf("new", "gone", Clock().now)],
        Progress("test"),
    ),
    "learn of used coins": lambda limited: _learn_of_uses(limited, BOB),
    "learn of a stranger's used coins": lambda limited: _learn_of_uses(limited, "nobody"),
    "mint": lambda limited: publishing.store_fresh(
        limited.later.vault.scope,
        [
            publishing.FreshCoin(
                NewKey("minted", "GOLD", b"blob", b"iv", b"tag"), b"public", b"signature"
            )
        ],
        20,
    ),
    "publish": lambda limited: _run(
        limited,
        publishing.PUBLISHED,
        (Keys().vault("k1"), Keys().vault_unpublished),
        *("k1", "published"),
    ),
    "reserve": lambda limited: _reserve(limited, BOB),
    "reserve where a queue is full": lambda limited: _reserve(limited, FULL, cap=5),
    "reserve where nothing is reserved": lambda limited: _reserve(
        limited, BOB, ("no leases", "none listed", "nothing coming", Keys().inv_totals)
    ),
    "store for the first time": lambda limited: limited.later.inventory.store_key(
        POOR, "new", "BRONZE", *HALVES
    ),
    "reserve for who isn't registered": lambda limited: _reserve(limited, "nobody"),
    "store in a reserved slot": lambda limited: _store_reserved(limited.later.inventory),
    "end a reservation": lambda limited: _run(limited, reservations.UNRESERVE, LEASES, HELD),
    "take a lease": lambda limited: _run(limited, turn.TAKE, ("lease",), "someone", 1000),
    "take another's lease": lambda limited: _run(limited, turn.TAKE, ("lease",), "another", 1000),
    "drop a lease": lambda limited: _run(limited, turn.DROP, ("lease",), "someone"),
    "keep a lease": lambda limited: _run(limited, turn.KEEP, ("lease",), "someone", "done", 1000),
    "visit": lambda limited: _ask(
        limited,
        lambda scope: turn.build_visit(scope, VISIT, working_ms=1000, inactive_ms=1000),
    ),
    "visit who is cared for": lambda limited: _ask(
        limited,
        lambda scope: turn.build_visit(scope, VISIT, working_ms=1000, inactive_ms=1000)._replace(
            keys=("lease", *3 * (Keys().inv_watch,))
        ),
    ),
    "look at a vault": lambda limited: _run(
        limited, turn.LOOK, ("listed",), "", Keys().vault_prefix, 1000
    ),
    "begin a round": lambda limited: _ask(limited, lambda scope: rounds.build_begin(scope, 1000)),
    "advance a round": lambda limited: _ask(
        limited, lambda scope: rounds.build_advance(scope, 1, "someone", 1, 1, is_over=True)
    ),
    "find garbage": lambda limited: collecting.find_garbage(
        _by_the_server(limited), [BOB, STRANGER], 1000
    ),
    "count what is stale": lambda limited: stock.count_stale(_by_the_server(limited), [BOB], 0),
    "summarize nobody": lambda limited: contacts.summarize(_by_the_server(limited), "nobody"),
    "adopt a half": lambda limited: _ask(
        limited, lambda scope: layout.build_adopt_half(scope, "k1")
    ),
    "adopt a contact": lambda limited: _ask(
        limited, lambda scope: layout.build_adopt_contact(scope, BOB)
    ),
    "adopt what is left of a contact": lambda limited: _ask(
        limited, lambda scope: layout.build_adopt_contact(scope, LEFT)
    ),
    "adopt a row": lambda limited: _ask(
        limited, lambda scope: layout.build_adopt_row(scope, ORPHANED, "1")
    ),
}
SET_ASIDE = {
    f"inv:v1:idx:{FULL}:BRONZE".encode(),
    *(f"inv:v1:key:{FULL}:{number}".encode() for number in range(4)),
}
"""What can't be handed out may go at any time."""
PASSING: tuple[bytes, ...] = (
    *(b"inv:v1:used:", b"inv:v1:used_until:", b"inv:v1:claim:"),
    *(b"inv:v1:leases_until", b"inv:v1:coming", b"inv:v1:totals"),
)
"""What these hold is no coin, and is changed in passing."""
SEVERAL = {
    *("vault.purge_expired", "vault.purge_expired(0)", "vault.store_keys", "inventory.store_keys"),
    "vault.restore_keys",
    *("gc.garbage_collect", "gc.garbage_collect(0)", "inventory.select_coins"),
    *("inventory.store_key(budget)", "db.check", "db.check(repair)"),
}
"""These run several scripts, of which the first ones may have been allowed."""
UNNOTICED = {
    # Reading the counters needs no right to write.
    *{("vault_counters", "HSET"), ("vault_counters", "ZREM")},
    *(("vault_counters", command) for command in ("HGET", "ZADD", "ZRANGEBYSCORE", "ZSCORE")),
    # It shares a file with those that write, and only reads.
    ("vault_explain", "ZADD"),
    # What a visit can't look at is for the collector to tell.
    *(("turn_visit", command) for command in ("SCARD", "SMEMBERS", "ZRANGEBYLEX")),
    # These take back what failed for another reason, as far as they may.
    *{("inv_select", "HDEL"), ("inv_consume", "HDEL"), ("inv_consume", "DEL")},
}
"""Commands of scripts that don't raise when they are forbidden."""


@pytest_asyncio.fixture(params=[VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
async def limited(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Limited]:
    """A database with something for each script to do, and a user who may do everything."""
    server: RunningServer = servers[request.param]
    admin = server.client(INVENTORY_DB)
    await admin.flushdb()
    objects, later = objects_over(admin), Clock()
    later.advance(ms=1)
    await objects.vault.store_key("k0", "GOLD", b"blob", b"nonce", b"tag")
    await admin.delete("vault:v1:key:k0")
    entry = await furnish(objects)
    for contact_id in (FULL, ORPHANED, RELEASED, POOR):
        await objects.inventory.register_contact(contact_id, "BESTIE")
    for number in range(5):
        await objects.inventory.store_key(
            FULL, f"{number}", "BRONZE", *HALVES, expires_at=later.now if number < 3 else None
        )
    await admin.delete(f"inv:v1:key:{FULL}:3")
    await objects.inventory.store_key(ORPHANED, "1", "BRONZE", *HALVES)
    await admin.delete(f"inv:v1:idx:{ORPHANED}:BRONZE")
    await admin.zadd("inv:v1:aside", {f"{ORPHANED}:1": 0})
    await objects.inventory.store_key(RELEASED, "1", "BRONZE", *HALVES)
    released = await objects.inventory.select_coin(RELEASED, "BRONZE")
    assert released is not None
    assert await objects.inventory.release_coin(released)
    await objects.inventory.register_contact(STRANGER, "STRANGER")
    await admin.set("lease", "someone")
    await admin.zadd("listed", {"k1": 1})
    await admin.hset(Keys().round, mapping={"began": 1, "seen": 1, "expected": 0})
    uses: dict[Any, Any] = {f"{LEFT}{number}": now_ms() + 1000 * number for number in range(3)}
    await admin.zadd(Keys().of(LEFT).used, uses)
    await admin.zadd(Keys().of(LEFT).used_until, uses)
    await admin.zadd(Keys().inv_forgotten, {ENDED: 1})
    # Nothing is adopted by who tries.
    await admin.mset({"vault:v1:schema": 2, "inv:v1:schema": 2})
    # By the server's clock, whatever theirs shows.
    ends = now_ms() + 3_600_000
    leases = {OVER: "1 0 1 1 1", HELD: f"1 0 {ends} {ends} 3600000"}
    await admin.hset(Keys().inv_leases, mapping=leases)  # type: ignore[arg-type]
    await admin.zadd(Keys().inv_leases_until, {OVER: 1})
    await admin.zadd(Keys().inv_leases_until, {HELD: ends})
    await admin.hset(Keys().inv_coming, f"GOLD:{BOB}", "2")
    await admin.hset(Keys().inv_totals, "coming_GOLD", "2")
    await admin.zadd(Keys().vault_unpublished, {"k1": 1})
    kept = Kept(admin)
    await kept.keep()
    client = server.client(INVENTORY_DB, username=USER, password="any")
    yield Limited(
        admin,
        client,
        kept,
        objects_over(client, entry=entry, name="now"),
        objects_over(client, clock=later, entry=entry, name="later"),
    )
    await client.aclose()
    await admin.acl_deluser(USER)
    await admin.flushdb()
    await admin.aclose()


async def test_a_forbidden_command_changes_nothing(
    limited: Limited, tally: Tally, *, thorough: bool
) -> None:
    """Each command of each script is forbidden in turn: the call says so, and nothing happened."""
    wanted = {(script.name, command) for script in SCRIPTS for command in commands_of(script)}
    denied: set[tuple[str, str]] = set()
    commands = sorted({"EVALSHA", *(command for _, command in wanted)})
    for number, command in enumerate(commands):
        await limited.forbid(command)
        before = await limited.kept.put_back()
        for name in [*STEPS] if thorough else [*STEPS][number % 5 :: 5]:
            told = f"{name} without {command}"
            errors = await errors_of(STEPS[name](limited))
            assert all(isinstance(error, AQMDatabaseError) for error in errors), told
            refused = [error for error in errors if isinstance(error, AccessDeniedError)]
            denied |= {(str(error).rsplit(" ", 1)[1], command) for error in refused}
            after = await limited.kept.content()
            assert unpaired(after) <= unpaired(before), told
            assert find_promised(after) == find_coming(after), told
            if refused and name not in SEVERAL:
                assert usable(after) == usable(before), told
            if after != before:
                before = await limited.kept.put_back()
            tally.add("forbidden command")
    if thorough:
        assert sorted(wanted - denied - UNNOTICED) == []


def unpaired(content: dict[Any, Any]) -> set[bytes]:
    """Rows that no queue lists, and rows that aren't there and that a queue lists."""
    rows = {key for key in content if key.startswith(b"inv:v1:key:")}
    listed = {
        b"inv:v1:key:" + key.split(b":")[3] + b":" + key_id
        for key, members in content.items()
        if key.startswith(b"inv:v1:idx:")
        for key_id, _ in members
    }
    return rows ^ listed


def find_promised(content: dict[Any, Any]) -> tuple[dict[bytes, int], set[bytes]]:
    """The slots that the leases have left, by place, and the names of all leases."""
    promised: dict[bytes, int] = {}
    leases = content.get(b"inv:v1:leases", {})
    for name, value in leases.items():
        slots, filled, *_ = map(int, value.split())
        place = name.partition(b":")[2]
        promised[place] = promised.get(place, 0) + slots - filled
    return {place: count for place, count in promised.items() if count}, set(leases)


def find_coming(content: dict[Any, Any]) -> tuple[dict[bytes, int], set[bytes]]:
    """The same, as it is kept beside them."""
    coming = {place: int(count) for place, count in content.get(b"inv:v1:coming", {}).items()}
    return coming, {name for name, _ in content.get(b"inv:v1:leases_until", [])}


def usable(content: dict[Any, Any]) -> dict[Any, Any]:
    """What there is to use; what was set aside, used or noted in passing isn't."""
    found: dict[Any, Any] = {}
    for key, value in content.items():
        if key.startswith(b"inv:v1:meta:"):
            noted = (b"last_msg_at", b"looked_")
            found[key] = {name: each for name, each in value.items() if not name.startswith(noted)}
        elif key == b"inv:v1:leases":
            found[key] = {name: each for name, each in value.items() if name != OVER}
        elif key == FORGOTTEN:
            found |= {(key, name): end for name, end in value if name != ENDED}
        elif not key.startswith(PASSING) and key not in SET_ASIDE:
            found[key] = value
    return found
