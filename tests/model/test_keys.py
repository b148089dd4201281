"""Key names: of the specification, one for each id, and the same on both sides."""

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st
from redis import Redis

from aqm_db import AsyncSecureVault, AsyncSmartInventory, config, sync
from aqm_db._model.keys import Keys, encode_id
from aqm_db._model.kinds import INVENTORY_KINDS, VAULT_KINDS, parse_name
from tests.conftest import INVENTORY_DB
from tests.support.backends import VALKEY_9, Servers

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60).filter(
    lambda value: len(value.encode()) <= 256
)
HOSTILE = st.text("ab:{}%*?[]\\\r\n\0\x7f\x1b\u202e3A", min_size=1, max_size=12)


def test_names_are_those_of_the_specification(servers: Servers) -> None:
    """An ordinary id reads as itself, on both faces."""
    fake = servers[VALKEY_9].client(INVENTORY_DB)
    with servers[VALKEY_9].sync_client(INVENTORY_DB) as client:
        for vault in (AsyncSecureVault(fake), sync.SecureVault(client)):
            assert vault._vault_key("k-1") == "vault:v1:key:k-1"
        for inventory in (AsyncSmartInventory(fake), sync.SmartInventory(client)):
            assert inventory._inv_key("bob", "k-1") == "inv:v1:key:bob:k-1"
            assert inventory._idx_key("bob", "GOLD") == "inv:v1:idx:bob:GOLD"
            assert inventory._meta_key("bob") == "inv:v1:meta:bob"


def test_a_matrix_id_is_a_contact() -> None:
    """Structure inside an id is no structure."""
    assert Keys().of("@bob:example.org").row("a:b") == "inv:v1:key:@bob%3Aexample.org:a%3Ab"
    assert Keys("a}b").of("bob").meta == "aqm:{a%7Db}:inv:v1:meta:bob"


@given(IDS | HOSTILE, IDS | HOSTILE)
def test_ids_come_back_from_their_names(contact_id: str, key_id: str) -> None:
    """A name is read as the ids that it was made of, whoever the owner is."""
    for keys in (Keys(), Keys("owner:*")):
        assert keys.inv_ids(keys.of(contact_id).row(key_id).encode()) == (contact_id, key_id)
        assert keys.meta_id(keys.of(contact_id).meta.encode()) == contact_id
        assert keys.vault_id(keys.vault(key_id).encode()) == key_id


@given(IDS | HOSTILE, IDS | HOSTILE, st.sampled_from([None, "owner:*"]))
def test_every_name_is_of_its_kind(contact_id: str, key_id: str, owner: str | None) -> None:
    """Whatever stands in it."""
    keys = Keys(owner)
    contact = keys.of(contact_id)
    names = {
        "private_half": (VAULT_KINDS, keys.vault(key_id), (key_id,)),
        "counters": (VAULT_KINDS, keys.vault_stats, ()),
        "expiry_index": (VAULT_KINDS, keys.vault_expiry, ()),
        "spent_ids": (VAULT_KINDS, keys.vault_spent, ()),
        "unpublished": (VAULT_KINDS, keys.vault_unpublished, ()),
        "public_half": (INVENTORY_KINDS, contact.row(key_id), (contact_id, key_id)),
        "queue": (INVENTORY_KINDS, contact.queues[1], (contact_id, "SILVER")),
        "contact": (INVENTORY_KINDS, contact.meta, (contact_id,)),
        "used_coins": (INVENTORY_KINDS, contact.used, (contact_id,)),
        "used_coins_until": (INVENTORY_KINDS, contact.used_until, (contact_id,)),
        "claim": (INVENTORY_KINDS, f"{contact.claims}a-_", (contact_id, "a-_")),
        "maintenance": (INVENTORY_KINDS, keys.maintenance, ()),
        "round": (INVENTORY_KINDS, keys.round, ()),
        "confirmation": (INVENTORY_KINDS, keys.confirm, ()),
        "leases": (INVENTORY_KINDS, keys.inv_leases, ()),
        "watch": (INVENTORY_KINDS, keys.inv_watch, ()),
        "vault_watch": (VAULT_KINDS, keys.vault_watch, ()),
        "vault_schema": (VAULT_KINDS, keys.vault_schema, ()),
        "contacts": (INVENTORY_KINDS, keys.inv_contacts, ()),
        "forgotten": (INVENTORY_KINDS, keys.inv_forgotten, ()),
        "aside": (INVENTORY_KINDS, keys.inv_aside, ()),
        "schema": (INVENTORY_KINDS, keys.inv_schema, ()),
        "leases_until": (INVENTORY_KINDS, keys.inv_leases_until, ()),
        "coming": (INVENTORY_KINDS, keys.inv_coming, ()),
        "totals": (INVENTORY_KINDS, keys.inv_totals, ()),
    }
    assert names.keys() == {kind.name for kind in (*VAULT_KINDS, *INVENTORY_KINDS)}
    for kind, (kinds, name, ids) in names.items():
        read = parse_name(keys, name.encode(), kinds)
        assert read is not None
        assert (read[0].name, read[1]) == (kind, ids)
        assert parse_name(Keys("other"), name.encode(), kinds) is None


def test_every_kind_of_key_is_known() -> None:
    """A key that the library writes is foreign to no check."""
    prefixes = {
        value
        for name, value in vars(config).items()
        if name.endswith(("_PREFIX", "_KEY")) and isinstance(value, str)
    }
    assert prefixes == {kind.prefix for kind in (*VAULT_KINDS, *INVENTORY_KINDS)}


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
@example("a", "b:c", "a:b", "c")
def test_different_ids_have_different_names(a: str, b: str, c: str, d: str) -> None:
    """No two pairs of ids share a key."""
    assert (Keys().of(a).row(b) == Keys().of(c).row(d)) == ((a, b) == (c, d))


@pytest.fixture
def client(servers: Servers) -> Redis:
    """A client of a real server."""
    return servers[VALKEY_9].sync_client(INVENTORY_DB)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(IDS | HOSTILE)
def test_the_server_encodes_ids_as_the_client_does(client: Redis, value: str) -> None:
    """A coin's row is found by either side."""
    from aqm_db._lua import loader  # noqa: PLC0415

    source = loader._read_text("shared/encode_id")
    assert client.eval(f"{source} return encode_id(ARGV[1])", 0, value) == encode_id(value).encode()
    client.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.binary(max_size=8)
    | IDS.map(str.encode)
    | st.lists(st.sampled_from([0xC2, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0x80, 0x8F, 0x9F, 0xBF])).map(
        bytes
    )
)
def test_the_server_knows_text_as_the_client_does(client: Redis, value: bytes) -> None:
    """What the one decodes the other takes for text."""
    from aqm_db._lua import loader  # noqa: PLC0415

    source = loader._read_text("shared/is_utf8")
    is_text = value.decode("utf-8", "ignore").encode() == value
    assert client.eval(f"{source} return is_utf8(ARGV[1])", 0, value) == (1 if is_text else None)
    client.close()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(contact_ids=st.lists(IDS | HOSTILE, min_size=2, max_size=4, unique=True))
@example(contact_ids=["a:b", "a"])
def test_contacts_do_not_meet(client: Redis, contact_ids: list[str]) -> None:
    """What is done to one contact leaves every other as it is, whatever they're called."""
    client.flushdb()
    inventory = sync.SmartInventory(client)
    for contact_id in contact_ids:
        inventory.register_contact(contact_id, "MATE")
        inventory.store_key(contact_id, contact_id, "SILVER", b"p", contact_id.encode())
    first, *others = contact_ids
    entry = inventory.select_coin(first, "SILVER")
    assert entry is not None
    assert entry.signature == first.encode()
    inventory.set_contact_priority(first, "STRANGER")
    sync.GarbageCollector(inventory, client).collect_single_contact(first)
    for contact_id in others:
        assert inventory.get_inventory(contact_id).silver_count == 1
    assert set(inventory.get_inventory()) == set(contact_ids)
    client.flushdb()
    client.close()
