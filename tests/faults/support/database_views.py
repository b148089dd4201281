"""What a database holds, and what a model does, in the same shape."""

from itertools import pairwise
from typing import Any
from urllib.parse import unquote_to_bytes

import redis

from tests.faults.support.model import FATES, TIERS, Contact, InventoryModel, Row, VaultModel

OWN_FIELDS = {"by", "burned_by"}
"""What scripts note in rows for themselves."""
CLAIM_MS = 30_000
LIFE_MS = 2_592_000_000
View = dict[str, Any]
_APART = {
    *(b"inv:v1:watch", b"vault:v1:watch", b"inv:v1:schema", b"vault:v1:schema"),
    *(b"inv:v1:forgotten", b"inv:v1:totals", b"inv:v1:aside"),
}
"""What depends on the server's clock or on all calls before: other tests look at these."""


def modelled(vault: VaultModel, inventory: InventoryModel) -> View:
    """What the database must hold."""
    memories = inventory.memories | {
        contact_id: (each.used, each.until) for contact_id, each in inventory.contacts.items()
    }
    return {
        "keys": vault.rows,
        "counted": set(vault.counted),
        "counters": vault.counters(),
        "spent": {key_id: _about(*each) for key_id, each in vault.spent.items()},
        "contacts": {
            contact_id: (contact.priority, contact.last_msg_at, contact.display_name)
            for contact_id, contact in inventory.contacts.items()
        },
        "listed": set(inventory.contacts),
        "queues": {
            (contact_id, tier): queue
            for contact_id, contact in inventory.contacts.items()
            for tier, queue in contact.queues.items()
            if queue
        },
        "coins": {
            (contact_id, key_id): row
            for contact_id, contact in inventory.contacts.items()
            for key_id, row in contact.rows.items()
        },
        "used": {contact_id: used for contact_id, (used, _) in memories.items() if used},
        "used_until": {contact_id: until for contact_id, (_, until) in memories.items() if until},
    }


def stored(client: redis.Redis) -> View:
    """What the database holds, by names that are read here and nowhere else.

    It also makes sure that what must expire has an expiry.
    """
    found: Any = client.keys()
    names: list[Any] = sorted(name for name in found if name not in _APART)
    pipeline = client.pipeline(transaction=False)
    for name in names:
        _ask(pipeline, name)
        pipeline.pttl(name)
    replies = iter(pipeline.execute(raise_on_error=False))
    view: View = {
        **{
            part: {}
            for part in ("keys", "spent", "contacts", "queues", "coins", "used", "used_until")
        },
        "counted": set(),
        "listed": set(),
        "counters": VaultModel().counters(),
    }
    for name in names:
        _file(view, name, next(replies), next(replies))
    return view


def expiries(client: redis.Redis) -> dict[str, int]:
    """When the server expires private halves, by the index of them, in ms; tombstones come first.

    It also makes sure that the index is in the server's order.
    """
    names: Any = client.keys("vault:v1:key:*")
    rows = {_ids(name)[-1]: name for name in names}
    listed: Any = client.zrange("vault:v1:expiry", 0, -1, withscores=True)
    due = {member.decode(): int(at) for member, at in listed if member.decode() in rows}
    # The last one first: what passes meanwhile makes those before it fewer, and never more.
    left: Any = {key_id: client.pttl(rows[key_id]) for key_id in reversed(due)}
    for (earlier, at), (later, then) in pairwise(due.items()):
        assert at == then or left[earlier] <= left[later], "the index is in another order"
    return {key_id: due.get(key_id, 0) for key_id in rows}


def _ids(name: bytes) -> list[str]:
    return [unquote_to_bytes(part).decode() for part in name.split(b":")[3:]]


def _ask(pipeline: Any, name: bytes) -> None:
    _, _, kind, *_ = name.split(b":")
    if kind in {b"idx", b"used", b"used_until", b"expiry", b"spent"}:
        pipeline.zrange(name, 0, -1, withscores=True)
    elif kind == b"claim":
        pipeline.exists(name)
    elif kind == b"contacts":
        pipeline.smembers(name)
    else:
        pipeline.hgetall(name)


def _file(view: View, name: bytes, value: Any, left: int) -> None:  # noqa: C901 - a case for each kind
    room, _, kind, *_ = name.split(b":")
    match room, kind, _ids(name):
        case b"vault", b"key", [key_id]:
            assert 0 < left <= LIFE_MS, f"{name!r} has no expiry"
            view["keys"][key_id] = _row(value)
        case b"vault", b"stats", []:
            view["counters"] = _counters(value)
        case b"vault", b"expiry", []:
            view["counted"] = {member.decode() for member, _ in value}
        case b"vault", b"spent", []:
            view["spent"] = {
                member.decode(): _about(FATES[int(at % 1 * 4)], int(at)) for member, at in value
            }
        case b"inv", b"contacts", []:
            view["listed"] = {member.decode() for member in value}
        case b"inv", b"meta", [contact_id]:
            view["contacts"][contact_id] = _contact(value)
        case b"inv", b"idx", [contact_id, tier]:
            view["queues"][contact_id, tier] = [member.decode() for member, _ in value]
        case b"inv", b"key", [contact_id, key_id]:
            view["coins"][contact_id, key_id] = _row(value)
        case b"inv", b"used" | b"used_until", [contact_id]:
            view[kind.decode()][contact_id] = {member.decode(): int(at) for member, at in value}
        case b"inv", b"claim", [_, _]:
            assert 0 < left <= CLAIM_MS, f"{name!r} has no expiry"
        case _:
            raise AssertionError(f"a name that is none of ours: {name!r}")


def _about(fate: str, ends: int) -> tuple[str, int]:
    """What is known of a key that is gone: of one that the server expired, only its clock's end."""
    return fate, 0 if fate == "gone" else ends


def _row(value: Any) -> Row:
    if isinstance(value, redis.ResponseError):
        return {}
    return {name.decode(): text for name, text in value.items() if name.decode() not in OWN_FIELDS}


def _counters(value: dict[bytes, bytes]) -> Any:
    names = [*(f"active_{tier.lower()}" for tier in TIERS), "total_burned", "total_expired"]
    return type(VaultModel().counters())(*(int(value.get(name.encode(), 0)) for name in names))


def _contact(value: dict[bytes, bytes]) -> tuple[str, int, str]:
    contact = Contact(
        value[b"priority"].decode(), int(value[b"last_msg_at"]), value[b"display_name"].decode()
    )
    return contact.priority, contact.last_msg_at, contact.display_name
