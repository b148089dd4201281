"""What the user of a connection may not do, as ``doctor`` says it: all of it, and nothing else."""

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aqm_db import AsyncGarbageCollector, connect
from aqm_db.errors import AccessDeniedError
from tests.support.backends import REAL_BACKENDS, REDIS_6, VALKEY_9, RunningServer, Servers
from tests.support.diagnoses import FACES, OWN, allow, diagnose, pick_finding, socket_url
from tests.support.samples import BOB, sample_key, snapshot, stock

LUA = Path(sys.modules["aqm_db"].__path__[0]) / "_lua"
MINTING = ("top_up", "sync", "reconcile")
READS = {
    "HGETALL": {
        *("fetch_key", "get_contact_meta", "list_coins", "check"),
        *("export_backup", "get_maintenance_progress"),
    },
    "HEXISTS": {"reconcile"},
    "EXISTS": {"exists", "check", "export_backup", "delete_owner"},
    "GET": {"get_all_active_ids", "purge_expired", "contact_pages", *MINTING},
    "HMGET": {"get_all_active_ids", "pending_upload", "enforce_budget", *MINTING},
    "HGET": {"purge_expired", "check"},
    "ZCARD": {"get_available_tiers", "check"},
    "ZRANGE": {"list_coins", "pending_upload", "check", "export_backup"},
    "ZRANGEBYLEX": {"delete_owner", "check"},
    "ZRANGEBYSCORE": {
        *("check", "export_backup", "get_all_active_ids", "purge_expired", "delete_owner"),
        *MINTING,
    },
    "UNLINK": {"delete_owner"},
    "ZSCORE": {"pending_upload", "export_backup"},
    "STRLEN": {"check"},
    "SCARD": {"check"},
    "SCAN": {
        *("adoption", "check", "iter_owners", "maintain_owners", "maintenance of all owners"),
    },
    "SSCAN": {
        *(
            "check",
            "garbage_collect",
            "dry_run",
            "count_stale",
            "contact_pages",
            "enforce_budget",
            "replenish",
            "get_storage_usage",
            "maintenance",
        ),
        *("get_replenish_needs", "get_full_dashboard", "get_inventory of all contacts"),
        *("export_backup", "delete_owner"),
    },
    "DBSIZE": {"health"},
}
PATTERNS = (
    "vault:v1:key:*",
    "vault:v1:stats",
    "vault:v1:expiry",
    "vault:v1:spent",
    "vault:v1:unpublished",
    "vault:v1:watch",
    "vault:v1:schema",
    "inv:v1:key:*",
    "inv:v1:claim:*",
    "inv:v1:meta:*",
    "inv:v1:used:*",
    "inv:v1:used_until:*",
    "inv:v1:idx:*",
    "inv:v1:maintenance",
    "inv:v1:round",
    "inv:v1:leases",
    "inv:v1:leases_until",
    "inv:v1:coming",
    "inv:v1:totals",
    "inv:v1:watch",
    "inv:v1:contacts",
    "inv:v1:forgotten",
    "inv:v1:aside",
    "inv:v1:schema",
)


def commands_by_operation() -> dict[str, set[str]]:
    """Each command that the library sends, and the operations that send it: from the Lua itself."""

    def commands(path: Path) -> set[str]:
        text = path.read_text("utf-8")
        used = ", ".join(re.findall(r"^-- Uses: (.+)$", text, re.MULTILINE))
        names = set(re.findall(r"call\('([A-Z]+)'", text))
        for name in re.findall(r"(\w+)(?:\.\w+)?", used):
            names |= commands(LUA / "shared" / f"{name}.lua")
        return names

    needed = {command: set(operations) for command, operations in READS.items()}
    prefixes = {"inventory": "inv", "vault": "vault", "turn": "turn", "layout": "layout"}
    for folder, prefix in prefixes.items():
        for path in (LUA / folder).iterdir():
            for command in {*commands(path), "EVAL", "EVALSHA"}:
                needed.setdefault(command, set()).add(f"{prefix}_{path.stem}")
    return needed


NEEDED = commands_by_operation()
UNTOLD = ("SADD", REDIS_6)
"""A command that a server can't be asked for without adding something."""


@pytest.fixture(params=REAL_BACKENDS, ids=lambda backend: backend.name)
def shared(request: pytest.FixtureRequest, servers: Servers) -> Iterator[RunningServer]:
    """A server that other tests use too, with a user of this test's: u, whose password is p."""
    server = servers[request.param]
    yield server
    with server.sync_client(0) as admin:
        admin.acl_deluser("u")


@pytest.mark.asyncio
@FACES
async def test_every_forbidden_command_is_named(face: str, shared: RunningServer) -> None:
    """Whatever is forbidden, the finding says so, and names each operation that runs it."""
    assert {"RENAMENX", "ZREVRANGE", "PTTL", "EVALSHA", "SET"} <= NEEDED.keys()
    for command, operations in NEEDED.items():
        allow(shared, "~*", "+@all", f"-{command.lower()}")
        diagnosis = await diagnose(face, socket_url(shared, "u:p@"))
        if (command, shared.backend) == UNTOLD:
            assert pick_finding(diagnosis, "permissions").severity == "ok"
            continue
        named: set[str] = set()
        for finding in diagnosis.findings:
            if finding.name == "permissions":
                assert finding.severity == "error"
                assert finding.remedy == f"Run ACL SETUSER u +{command.lower()}"
                _, separator, rest = finding.message.partition(f" may not run {command}, as ")
                assert separator, finding
                named.update(rest.removesuffix(" must.").split(", "))
        assert named == operations, command


@pytest.mark.asyncio
@FACES
@pytest.mark.parametrize("owner", [None, "al:ice"])
async def test_every_forbidden_key_is_named(
    face: str, shared: RunningServer, owner: str | None
) -> None:
    """Keys are the owner's: who may use another's is told which pattern is missing."""
    prefix = "" if owner is None else "aqm:{al%3Aice}:"
    patterns = [prefix + pattern for pattern in PATTERNS]
    allow(shared, "+@all", *(f"~{pattern}" for pattern in patterns))
    diagnosis = await diagnose(face, socket_url(shared, "u:p@"), owner=owner)
    assert pick_finding(diagnosis, "permissions").severity == "ok"
    for missing in patterns:
        allow(shared, "+@all", *(f"~{pattern}" for pattern in patterns if pattern != missing))
        diagnosis = await diagnose(face, socket_url(shared, "u:p@"), owner=owner)
        finding = pick_finding(diagnosis, "permissions")
        assert finding.severity == "error"
        assert f" may not reach the keys {missing}, as " in finding.message
        assert finding.remedy == f"Run ACL SETUSER u ~{missing}"
    diagnosis = await diagnose(face, socket_url(shared, "u:p@"), owner="someone else")
    assert len([f for f in diagnosis.findings if f.name == "permissions"]) == len(PATTERNS)


@pytest.mark.asyncio
@FACES
async def test_a_remedy_is_typed_as_it_is(face: str, shared: RunningServer) -> None:
    """Whoever chose the owner, redis-cli takes the pattern for one word, and a shell does, too."""
    owner = "a ~b;c$d'e\"f\u00e9"
    remedy = "~aqm:{a??b?c?d?e?f??}:inv:v1:used:*"
    rest = [f"~aqm:*:{pattern}" for pattern in PATTERNS if "used:" not in pattern]
    allow(shared, "+@all", *rest)
    diagnosis = await diagnose(face, socket_url(shared, "u:p@"), owner=owner)
    assert pick_finding(diagnosis, "permissions").remedy == f"Run ACL SETUSER u {remedy}"
    allow(shared, "+@all", *rest, remedy)
    diagnosis = await diagnose(face, socket_url(shared, "u:p@"), owner=owner)
    assert pick_finding(diagnosis, "permissions").severity == "ok"


@pytest.mark.asyncio
@FACES
async def test_a_user_whose_name_is_no_word(face: str, shared: RunningServer) -> None:
    """They know their name themselves."""
    with shared.sync_client(0) as admin:
        admin.execute_command("ACL", "SETUSER", "u;u", "on", ">p", "~*", "+@all", "-renamenx")
        try:
            diagnosis = await diagnose(face, socket_url(shared, "u%3Bu:p@"))
        finally:
            admin.acl_deluser("u;u")
    assert pick_finding(diagnosis, "permissions").remedy == "Run ACL SETUSER USER +renamenx"


@pytest.mark.asyncio
@FACES
@OWN
async def test_several_things_are_forbidden(face: str, own_server: RunningServer) -> None:
    """Each is found at once: a forbidden command on a forbidden key, and another key."""
    allow(own_server, "+@all", "-hdel", "-zcard", *(f"~{p}" for p in PATTERNS if "used:" not in p))
    diagnosis = await diagnose(face, socket_url(own_server, "u:p@"))
    assert {f.remedy for f in diagnosis.findings if f.name == "permissions"} == {
        "Run ACL SETUSER u +hdel",
        "Run ACL SETUSER u +zcard",
        "Run ACL SETUSER u ~inv:v1:used:*",
    }


READABLE = (
    "~vault:v1:key:*",
    "~vault:v1:stats",
    "~vault:v1:spent",
    "~vault:v1:unpublished",
    "~vault:v1:watch",
    "~vault:v1:schema",
)


@pytest.mark.asyncio
@FACES
async def test_keys_that_may_only_be_read(face: str) -> None:
    """Since Redis 7 a pattern may allow reading alone, which isn't enough."""
    with RunningServer(VALKEY_9) as server:
        allow(server, "+@all", "%R~*", "~inv:*", *READABLE)
        diagnosis = await diagnose(face, socket_url(server, "u:p@"))
    assert pick_finding(diagnosis, "permissions").remedy == "Run ACL SETUSER u ~vault:v1:expiry"


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [VALKEY_9, REDIS_6], ids=lambda backend: backend.name)
@pytest.mark.parametrize("owner", [None, "alice"])
async def test_an_examination_changes_nothing(own_server: RunningServer, owner: str | None) -> None:
    """Not a byte, in either database, whatever the user may do."""
    url = socket_url(own_server)
    async with connect(url, owner=owner) as database:
        await database.vault.store_key(**sample_key("k", "GOLD"))
        await database.vault.store_key(**sample_key("burned", "SILVER"))
        await database.vault.burn_key("burned")
        await database.inventory.register_contact(BOB, "BESTIE")
        await stock(database.inventory, BOB, "GOLD", "g1", "g2")
        await database.inventory.select_coin(BOB, "GOLD")
        async with own_server.client(0) as vault, own_server.client(1) as inventory:
            await inventory.set(database.inventory.keys.maintenance, "holder")
            before = [await snapshot(client) for client in (vault, inventory)]
            changes = (await vault.info("persistence"))["rdb_changes_since_last_save"]
            for face in ("aio", "sync"):
                diagnosis = await diagnose(face, url, owner=owner)
                assert pick_finding(diagnosis, "permissions").severity == "ok"
            assert [await snapshot(client) for client in (vault, inventory)] == before
            after = (await vault.info("persistence"))["rdb_changes_since_last_save"]
            assert after == changes


WALKS = ("get_inventory", "inv_count_stale", "get_all_active_ids")
"""What asks for all contacts, or all keys."""


async def denied_operations(server: RunningServer) -> set[str]:
    """The operations that the user can't do, of everything that there is to do."""
    async with connect(socket_url(server)) as everything:
        for client in (0, 1):
            async with server.client(client) as admin:
                await admin.flushdb()
        await everything.vault.store_key(**sample_key("k", "GOLD"))
        await everything.vault.store_key(**sample_key("old", "GOLD"))
        await everything.inventory.register_contact(BOB, "BESTIE")
        await stock(everything.inventory, BOB, "GOLD", "g1", "g2", "g3")
        entry = await everything.inventory.select_coin(BOB, "GOLD")
        assert entry is not None
    denied: set[str] = set()
    async with connect(socket_url(server, "u:p@")) as database:
        vault, inventory = database.vault, database.inventory
        gc: AsyncGarbageCollector = database.gc
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("vault_store", lambda: vault.store_key(**sample_key("new", "GOLD"))),
            ("fetch_key", lambda: vault.fetch_key("k")),
            ("exists", lambda: vault.exists("k")),
            ("vault_burn", lambda: vault.burn_key("k")),
            ("vault_counters", vault.get_stats),
            ("get_all_active_ids", vault.get_all_active_ids),
            ("inv_register", lambda: inventory.register_contact("carol", "MATE")),
            ("inv_store", lambda: inventory.store_key(BOB, "g4", "GOLD", b"p", b"s")),
            ("inv_select", lambda: inventory.select_coin(BOB, "GOLD")),
            ("inv_consume", lambda: inventory.consume_key(BOB, "g3")),
            ("inv_release", lambda: inventory.release_coin(entry)),
            ("inv_set_priority", lambda: inventory.set_contact_priority(BOB, "MATE")),
            ("get_contact_meta", lambda: inventory.get_contact_meta(BOB)),
            ("get_available_tiers", lambda: inventory.get_available_tiers(BOB)),
            ("get_inventory", inventory.get_inventory),
            ("inv_count_stale", inventory.count_stale),
            ("inv_collect", lambda: gc.collect_single_contact(BOB)),
            ("check", lambda: database.check(repair=True)),
            ("inv_forget", lambda: inventory.forget_contact(BOB)),
        ]
        for name, call in calls:
            try:
                await call()
            except AccessDeniedError:
                denied.add(name)
    return denied


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", REAL_BACKENDS, ids=lambda backend: backend.name)
async def test_what_is_denied_was_named(own_server: RunningServer) -> None:
    """No operation fails for want of a permission that the doctor missed."""
    rules: list[tuple[str, ...]] = [("~*", "+@all", f"-{command.lower()}") for command in NEEDED]
    rules += [("+@all", *(f"~{other}" for other in PATTERNS if other != key)) for key in PATTERNS]
    failed = 0
    for chosen in rules:
        allow(own_server, *chosen)
        denied = await denied_operations(own_server)
        diagnosis = await diagnose("aio", socket_url(own_server, "u:p@"))
        text = " ".join(f.message for f in diagnosis.findings if f.name == "permissions")
        missed = {
            name
            for name in denied
            if name not in text
            # It lists the contacts first.
            and not (name == "inv_count_stale" and "count_stale" in text)
            and not (name == "get_inventory" and "inv_summarize" in text)
            # The first that asks for everything has it adopted.
            and not (name in WALKS and ("adopt" in text or "layout_mark" in text))
        }
        is_untold = chosen[-1] == "-sadd" and own_server.backend is UNTOLD[1]
        assert missed == ({"inv_register"} if is_untold else set()), (chosen, text)
        failed += len(denied)
    assert failed > 50
