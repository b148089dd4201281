"""What the user of a connection may not do, of all that the library asks of a database.

Every command is tried in a form that changes nothing: it gets no further than the server's access
control, is malformed, or is about an empty id or member, which nothing has. So
the answer is the server's own, on every version, and needs no permission of its own.
"""

import re
from collections.abc import Iterator
from itertools import product
from typing import TypeAlias

from aqm_db._io.confirming import UNCONFIRMED, Confirming
from aqm_db._io.facts import read_unless_refused
from aqm_db._io.seam import Argument, ClientSeam, Seam
from aqm_db._lua.loader import Script, list_scripts
from aqm_db._model.keys import Keys
from aqm_db._model.kinds import DatabaseName

from .safety import Defect

_Need: TypeAlias = tuple[str, tuple[str, ...]]
"""A command, and the names of the keys that it's about."""

_FOLDERS: dict[DatabaseName, tuple[str, ...]] = {
    "vault": ("vault", "layout"),
    "inventory": ("inventory", "turn", "layout"),
}
"""The scripts that run in each of the two."""
_READS: dict[DatabaseName, dict[str, str]] = {
    "vault": {
        "fetch_key": "HGETALL row",
        "exists": "EXISTS row",
        "get_all_active_ids": "GET schema, ZRANGEBYSCORE expiry, HMGET row",
        "purge_expired": "GET schema, ZRANGEBYSCORE expiry, HGET row",
        "pending_upload": "ZRANGE unpublished, ZSCORE unpublished, HMGET row",
        "top_up": "GET schema, ZRANGEBYSCORE expiry, HMGET row",
        "sync": "GET schema, ZRANGEBYSCORE expiry, HMGET row",
        "reconcile": "GET schema, ZRANGEBYSCORE expiry, HMGET row, HEXISTS row",
        "export_backup": "ZRANGEBYSCORE spent, HGETALL row",
        "iter_owners": "SCAN",
        "delete_owner": (
            "ZRANGEBYSCORE expiry, ZRANGEBYSCORE spent, ZRANGEBYSCORE unpublished, EXISTS row, "
            "UNLINK row"
        ),
        "check": (
            "SCAN, ZRANGEBYSCORE expiry, EXISTS row, HGET stats, ZCARD expiry, ZCARD spent, "
            "ZCARD unpublished, HGET watch, STRLEN schema"
        ),
        "maintain_owners": "SCAN",
        "health": "DBSIZE",
    },
    "inventory": {
        "get_contact_meta": "HGETALL meta",
        "get_inventory of all contacts": "SSCAN contacts",
        "get_available_tiers": "ZCARD queues",
        "list_coins": "ZRANGE queues, HGETALL row",
        "contact_pages": "GET schema, SSCAN contacts",
        "garbage_collect": "SSCAN contacts",
        "dry_run": "SSCAN contacts",
        "enforce_budget": "SSCAN contacts, HMGET totals",
        "replenish": "SSCAN contacts",
        "maintenance": "SSCAN contacts",
        "maintenance of all owners": "SCAN",
        "maintain_owners": "SCAN",
        "get_maintenance_progress": "HGETALL round",
        "get_storage_usage": "SSCAN contacts",
        "get_replenish_needs": "SSCAN contacts",
        "get_full_dashboard": "SSCAN contacts",
        "check": (
            "SCAN, HGETALL meta, EXISTS meta, EXISTS row, ZRANGE queues, ZCARD used, "
            "ZCARD used_until, STRLEN turn, HGET leases, ZCARD leases_until, HGET coming, "
            "HGET totals, HGET watch, SCARD contacts, ZCARD forgotten, ZCARD aside, STRLEN schema, "
            "SSCAN contacts, ZRANGEBYSCORE forgotten, ZRANGEBYLEX aside"
        ),
        "count_stale": "SSCAN contacts",
        "export_backup": (
            "SSCAN contacts, HGETALL meta, ZRANGE queues, HGETALL row, ZRANGEBYSCORE forgotten, "
            "ZRANGEBYSCORE used, ZRANGEBYSCORE used_until, ZSCORE used, ZSCORE used_until, "
            "EXISTS row"
        ),
        "iter_owners": "SCAN",
        "delete_owner": (
            "SSCAN contacts, ZRANGEBYSCORE forgotten, ZRANGEBYLEX aside, ZRANGEBYSCORE queues, "
            "EXISTS row, UNLINK row"
        ),
        "health": "DBSIZE",
    },
}
"""What is read without a script, as the header of one would say it.

What calls another one of them names no more than the walk (SCAN). ``acl_rules`` says which of them
need what it doesn't give: ``generate_denials.py`` writes it there.
"""
_HARMLESS: dict[str, tuple[Argument, ...]] = {
    "HDEL": ("",),
    "HEXISTS": ("",),
    "HGET": ("",),
    "HMGET": ("",),
    # A field without its value.
    "HSET": ("", "", ""),
    # A number that is none.
    "HINCRBY": ("", ""),
    # A time that is none.
    "PEXPIRE": ("",),
    "PEXPIREAT": (1,),
    # A time that is none.
    "SET": ("", "PX", 0),
    "SISMEMBER": ("",),
    "SREM": ("",),
    # A number that is none.
    "WAIT": ("", 0),
    "WAITAOF": ("", 0, 0),
    "ZADD": ("XX", 0, ""),
    "ZCOUNT": (0, 0),
    "ZRANGE": (0, 0),
    "ZRANGEBYLEX": ("-", "-"),
    "ZRANGEBYSCORE": ("-inf", "-inf"),
    "ZREM": ("",),
    "ZREMRANGEBYSCORE": ("-inf", "-inf"),
    "ZREVRANGE": (0, 0),
    "ZSCORE": ("",),
}
"""What follows the keys of a command so that it changes nothing."""
_ASK_FOR_SADD = """
local may_run = redis.acl_check_cmd
if not may_run or not may_run('SREM', KEYS[1], '') then
  return 0
end
local is_known, may_add = pcall(may_run, 'SADD', KEYS[1], '')
if not is_known then
  return redis.error_reply('ERR unknown command')
end
return may_add and 0 or redis.error_reply('NOPERM SADD')
"""
"""SADD has no form that changes nothing, so a script asks for it, which Redis 6.2 can't answer.
Where SREM can't be run, that is told for itself."""
_ACTED_ON = re.compile(r"[^A-Za-z0-9_.:@+*?{}%-]")
"""What redis-cli or a shell may act on, if somebody types it there as a remedy says."""


async def find_missing_permissions(
    seam: ClientSeam, database: DatabaseName, keys: Keys, confirming: Confirming = UNCONFIRMED
) -> list[Defect]:
    """What the user lacks in one of the two databases: a defect for each command or key pattern.

    Args:
        seam: asks the server that has the database.
        database: which of the two.
        keys: the names of the owner's keys.
        confirming: what has to have each change.
    """
    needs = _list_needs(database, keys, confirming)
    denials = await seam.probe(*(_make_harmless(need) for need in needs))
    refused: dict[tuple[str, str], set[str]] = {}
    found = dict(zip(needs, denials, strict=True))
    for need, operations in needs.items():
        command, names = need
        # Who may run no scripts is not asked by one.
        denial = None if command == "SADD" and found["EVAL", names] else found[need]
        # Of two keys nobody says which one it is; each is tried alone by another command.
        if denial is not None and (denial != "key" or len(names) == 1):
            what = _find_pattern(names[0]) if denial == "key" else command
            refused.setdefault((denial, what), set()).update(operations)
    user = await _read_user(seam) if refused else ""
    return [
        _describe_denial(database, user, denial, what, ", ".join(sorted(operations)))
        for (denial, what), operations in refused.items()
    ]


def list_operations(database: DatabaseName) -> Iterator[tuple[str, list[str]]]:
    """All operations on one of the two databases: each command of them, with its keys' roles."""
    for name, commands in _READS[database].items():
        yield name, commands.split(", ")
    for folder in _FOLDERS[database]:
        for script in list_scripts(folder):
            yield script.name, _list_script_commands(script)


def list_commands(database: DatabaseName) -> set[str]:
    """Every command that one of the two databases needs."""
    return {command.split()[0] for _, commands in list_operations(database) for command in commands}


def _list_needs(
    database: DatabaseName, keys: Keys, confirming: Confirming
) -> dict[_Need, set[str]]:
    """Every command on every key, and the operations that need it."""
    names = _list_key_names(database, keys) | {"confirm": (keys.confirm,)}
    needs: dict[_Need, set[str]] = {}
    waits = [str(command[0]) for command in confirming.list_waits()]
    others = {
        "confirmation": ["SET confirm", *waits] if confirming.is_wanted else [],
        # What an owner has was written with its indexes.
        "adoption": [] if keys.prefix else ["SCAN"],
    }
    for operation, commands in (*list_operations(database), *others.items()):
        for command, *roles in map(str.split, commands):
            # A turn may be taken, and would be gone: it's tried on two keys that aren't.
            tried = ["row", "claim"] if (command, roles) == ("DEL", ["turn"]) else roles
            for chosen in product(*(names[role] for role in tried)):
                needs.setdefault((command, chosen), set()).add(operation)
    return needs


def _list_script_commands(script: Script) -> list[str]:
    """What a script runs and how it's run itself, as its header and those that it uses say."""
    roles = sorted(key.name for key in script.header.keys)
    run_by = [f"{call} {role}" for call in ("EVALSHA", "EVAL") for role in roles]
    return [*run_by, *script.commands]


def _list_key_names(database: DatabaseName, keys: Keys) -> dict[str, tuple[str, ...]]:
    """By role: keys of ids that are empty, and so nobody's; the vault's others have no id."""
    if database == "vault":
        return {
            "row": (keys.vault(""),),
            "stats": (keys.vault_stats,),
            "expiry": (keys.vault_expiry,),
            "spent": (keys.vault_spent,),
            "unpublished": (keys.vault_unpublished,),
            "watch": (keys.vault_watch,),
            "schema": (keys.vault_schema,),
        }
    names = keys.of("")
    return {
        "row": (names.row(""),),
        "claim": (names.claims,),
        "meta": (names.meta,),
        "metas": (names.meta,),
        "used": (names.used,),
        "used_until": (names.used_until,),
        "queue": names.queues,
        "queues": names.queues,
        "lower": names.queues,
        "turn": (keys.maintenance,),
        "round": (keys.round,),
        "leases": (keys.inv_leases,),
        "leases_until": (keys.inv_leases_until,),
        "coming": (keys.inv_coming,),
        "totals": (keys.inv_totals,),
        "watch": (keys.inv_watch,),
        "contacts": (keys.inv_contacts,),
        "forgotten": (keys.inv_forgotten,),
        "aside": (keys.inv_aside,),
        "schema": (keys.inv_schema,),
    }


def _make_harmless(need: _Need) -> tuple[Argument, ...]:
    command, names = need
    match command:
        case "EVALSHA":
            return command, "0" * 40, len(names), *names
        case "EVAL":
            return command, "", len(names), *names
        case "SADD":
            return "EVAL", _ASK_FOR_SADD, len(names), *names
        case "SCAN":
            return command, 0, "COUNT", 1
        case "SSCAN":
            return command, *names, 0, "COUNT", 1
        case _:
            return command, *names, *_HARMLESS.get(command, ())


def _find_pattern(name: str) -> str:
    """The pattern of all keys like one of an empty id; a key without an id is its own."""
    before, id_follows, _ = f"{name}:".partition("::")
    return f"{before}:*" if id_follows else name


async def _read_user(seam: Seam) -> str:
    replies = await read_unless_refused(seam, ("ACL", "WHOAMI"))
    name = "USER" if replies is None else str(replies[0].decode("utf-8", "replace"))
    return "USER" if _ACTED_ON.search(name) else name


def _mask_pattern(pattern: str) -> str:
    """A pattern that stays one word, whoever chose the owner in it; it matches the same keys."""
    return _ACTED_ON.sub(lambda found: "?" * len(found[0].encode()), pattern)


def _describe_denial(
    database: DatabaseName, user: str, denial: str, what: str, operations: str
) -> Defect:
    match denial:
        case "key":
            return Defect(
                f"The {database}'s user may not reach the keys {what}, as {operations} must.",
                f"Run ACL SETUSER {user} ~{_mask_pattern(what)}",
            )
        case "command":
            return Defect(
                f"The {database}'s user may not run {what}, as {operations} must.",
                f"Run ACL SETUSER {user} +{what.lower()}",
            )
        case _:
            return Defect(
                f"The {database}'s server doesn't know {what}, which {operations} must run.",
                "Give the command its name back (rename-command), or use another server.",
            )
