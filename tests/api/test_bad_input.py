"""Bad input for every parameter of every public function, and the error that each gets."""

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from redis.asyncio import Redis

from aqm_db import AsyncGarbageCollector, AsyncSecureVault, AsyncSmartInventory, config, connect
from aqm_db.errors import (
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidIdentifierError,
    InvalidPriorityError,
)
from aqm_db.types import InventoryEntry
from tests.support.backends import VALKEY_9, Backend
from tests.support.samples import BOB, snapshot

pytestmark = pytest.mark.asyncio

IDS: list[Any] = [
    *(None, 5, b"bytes", ["list"]),
    *("", "x" * 257, "é" * 129, "x" * 10_000_000),
    *("lone \ud800 surrogate", "\udfff"),
]
TIERS: list[Any] = [None, 5, b"GOLD", ["GOLD"], "", "gold", "GOLD ", "PLATINUM"]
OPTIONAL_TIERS = TIERS[1:]
PRIORITIES: list[Any] = [None, 5, b"MATE", {"MATE"}, "", "mate", "ENEMY"]
BLOBS: list[Any] = [None, 5, "text", bytearray(b"x"), memoryview(b"x"), b"", bytes(65_537)]
TEXTS: list[Any] = [None, 5, b"bytes", "\ud800", "x" * 65_537, "é" * 32_769]
DAYS: list[Any] = [None, "30", 30.0, True, -1, 36_501, 10**30, 10**5000]
TIMES: list[Any] = ["0", 1.5, True, -1, 10**18, -(10**5000)]

STORE = {
    "key_id": "k",
    "coin_category": "GOLD",
    "encrypted_blob": b"blob",
    "encryption_iv": b"iv",
    "auth_tag": b"tag",
}
CACHE = {
    "contact_id": BOB,
    "key_id": "k",
    "coin_category": "GOLD",
    "public_key": b"public",
    "signature": b"signature",
}


@pytest.fixture
def backend() -> Backend:
    """One is enough: what is refused before it's sent is refused on all of them."""
    return VALKEY_9


# Function, arguments that are right, and for each parameter what is wrong and how.
Case = tuple[str, dict[str, Any], dict[str, tuple[list[Any], type[InvalidArgumentError]]]]
CASES: list[Case] = [
    (
        "vault.store_key",
        STORE,
        {
            "key_id": (IDS, InvalidIdentifierError),
            "coin_category": (TIERS, InvalidCoinCategoryError),
            "encrypted_blob": (BLOBS, InvalidArgumentError),
            "encryption_iv": (BLOBS, InvalidArgumentError),
            "auth_tag": (BLOBS, InvalidArgumentError),
            "coin_version": (IDS, InvalidIdentifierError),
        },
    ),
    ("vault.burn_key", {}, {"key_id": (IDS, InvalidIdentifierError)}),
    ("vault.fetch_key", {}, {"key_id": (IDS, InvalidIdentifierError)}),
    ("vault.exists", {}, {"key_id": (IDS, InvalidIdentifierError)}),
    ("vault.count_active", {}, {"coin_category": (OPTIONAL_TIERS, InvalidCoinCategoryError)}),
    ("vault.get_all_active_ids", {}, {"coin_category": (OPTIONAL_TIERS, InvalidCoinCategoryError)}),
    ("vault.purge_expired", {}, {"max_age_days": (DAYS, InvalidArgumentError)}),
    (
        "inventory.register_contact",
        {"contact_id": BOB, "priority": "MATE"},
        {
            "contact_id": (IDS, InvalidIdentifierError),
            "priority": (PRIORITIES, InvalidPriorityError),
            "display_name": (TEXTS, InvalidArgumentError),
        },
    ),
    (
        "inventory.set_contact_priority",
        {"contact_id": BOB, "priority": "MATE"},
        {
            "contact_id": (IDS, InvalidIdentifierError),
            "priority": (PRIORITIES, InvalidPriorityError),
        },
    ),
    ("inventory.forget_contact", {}, {"contact_id": (IDS, InvalidIdentifierError)}),
    ("inventory.get_contact_meta", {}, {"contact_id": (IDS, InvalidIdentifierError)}),
    (
        "inventory.store_key",
        CACHE,
        {
            "contact_id": (IDS, InvalidIdentifierError),
            "key_id": (IDS, InvalidIdentifierError),
            "coin_category": (TIERS, InvalidCoinCategoryError),
            "public_key": (BLOBS, InvalidArgumentError),
            "signature": (BLOBS, InvalidArgumentError),
            # The last one is in seconds.
            "expires_at": ([*TIMES, 0, 1_800_000_000], InvalidArgumentError),
        },
    ),
    (
        "inventory.select_coin",
        {"contact_id": BOB, "desired_tier": "GOLD"},
        {
            "contact_id": (IDS, InvalidIdentifierError),
            "desired_tier": (TIERS, InvalidCoinCategoryError),
        },
    ),
    (
        "inventory.release_coin",
        {},
        {"entry": ([None, "coin", {"key_id": "k"}], InvalidArgumentError)},
    ),
    (
        "inventory.consume_key",
        {"contact_id": BOB, "key_id": "k"},
        {
            "contact_id": (IDS, InvalidIdentifierError),
            "key_id": (IDS, InvalidIdentifierError),
        },
    ),
    ("inventory.get_inventory", {}, {"contact_id": (IDS[1:], InvalidIdentifierError)}),
    ("inventory.has_keys_for", {}, {"contact_id": (IDS, InvalidIdentifierError)}),
    ("inventory.get_available_tiers", {}, {"contact_id": (IDS, InvalidIdentifierError)}),
    ("inventory.count_stale", {}, {"within_days": (DAYS, InvalidArgumentError)}),
    ("gc.garbage_collect", {}, {"inactive_days": (DAYS, InvalidArgumentError)}),
    ("gc.dry_run", {}, {"inactive_days": (DAYS, InvalidArgumentError)}),
    ("gc.collect_single_contact", {}, {"contact_id": (IDS, InvalidIdentifierError)}),
]


def rows() -> Iterator[Any]:
    """A row for each parameter."""
    for function, right, parameters in CASES:
        for parameter, (wrong, error) in parameters.items():
            yield pytest.param(
                function, right, parameter, wrong, error, id=f"{function}-{parameter}"
            )


@pytest.mark.parametrize(("function", "right", "parameter", "wrong", "error"), list(rows()))
async def test_bad_input(
    vault: AsyncSecureVault,
    inventory: AsyncSmartInventory,
    gc: AsyncGarbageCollector,
    vault_client: Redis,
    inventory_client: Redis,
    registered_bestie: str,
    function: str,
    right: dict[str, Any],
    parameter: str,
    wrong: list[Any],
    error: type[InvalidArgumentError],
) -> None:
    """Each wrong value is refused by an error that names its parameter, and changes nothing."""
    owner, _, name = function.partition(".")
    method = getattr({"vault": vault, "inventory": inventory, "gc": gc}[owner], name)
    before = await snapshot(vault_client), await snapshot(inventory_client)
    for value in wrong:
        with pytest.raises(error, match=f"^{parameter}: ") as caught:
            await method(**{**right, parameter: value})
        assert caught.value.argument == parameter
        assert isinstance(caught.value, ValueError)
        assert len(str(caught.value)) < 500
    assert before == (await snapshot(vault_client), await snapshot(inventory_client))


ENTRY = InventoryEntry(BOB, "k", "GOLD", b"public", b"signature", 1, None, 2)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("contact_id", IDS),
        ("key_id", IDS),
        ("coin_category", TIERS),
        ("public_key", BLOBS),
        ("signature", BLOBS),
        ("fetched_at", [None, *TIMES]),
        ("expires_at", TIMES),
        ("used_at", [None, *TIMES]),
        ("origin", BLOBS[1:]),
    ],
)
async def test_bad_fields_of_a_coin(
    inventory: AsyncSmartInventory, field: str, wrong: list[Any]
) -> None:
    """A coin that no select_coin returned isn't released, and the error names the field."""
    values = {name: getattr(ENTRY, name) for name in ENTRY.__dataclass_fields__}
    for value in wrong:
        with pytest.raises(InvalidArgumentError, match=f"^entry.{field}: "):
            await inventory.release_coin(InventoryEntry(**{**values, field: value}))


async def test_use_key_checks_its_id(vault: AsyncSecureVault) -> None:
    """The block isn't entered for an id that is none."""
    for value in IDS:
        with pytest.raises(InvalidIdentifierError, match="^key_id: "):
            async with vault.use_key(value):
                pytest.fail("the block ran")


async def test_key_material_is_not_quoted(vault: AsyncSecureVault) -> None:
    """What was passed where a blob should be may be secret: only its type is named."""
    secret: Any = "my private key"
    with pytest.raises(InvalidArgumentError) as caught:
        await vault.store_key("k", "GOLD", secret, b"iv", b"tag")
    assert "private" not in str(caught.value)


@pytest.mark.parametrize("owner", [value for value in IDS if value is not None], ids=type)
async def test_bad_owner(inventory_client: Redis, owner: Any) -> None:
    """An owner is an id like any other."""
    with pytest.raises(InvalidIdentifierError, match="^owner: "):
        AsyncSecureVault(inventory_client, owner=owner)
    with pytest.raises(InvalidIdentifierError, match="^owner: "):
        AsyncSmartInventory(inventory_client, owner=owner)
    with pytest.raises(InvalidIdentifierError, match="^owner: "):
        connect("memory://", owner=owner)


FEW = {"GOLD": 1, "SILVER": 1}


@pytest.mark.parametrize(
    ("caps", "seen"),
    [
        (None, "BESTIE and BRONZE is missing"),
        (5, "BESTIE and BRONZE is missing"),
        ({}, "BESTIE and BRONZE is missing"),
        ({"BESTIE": 5}, "BESTIE and BRONZE is missing"),
        ({**config.BUDGET_CAPS, "MATE": {"GOLD": 1}}, "MATE and BRONZE is missing"),
        ({**config.BUDGET_CAPS, "MATE": {**FEW, "BRONZE": -1}}, "MATE and BRONZE is -1"),
        ({**config.BUDGET_CAPS, "MATE": {**FEW, "BRONZE": True}}, "MATE and BRONZE is True"),
        ({**config.BUDGET_CAPS, "MATE": {**FEW, "BRONZE": 1.5}}, "MATE and BRONZE is 1.5"),
        ({**config.BUDGET_CAPS, "MATE": {**FEW, "BRONZE": [1]}}, "MATE and BRONZE is list"),
        # More than a script's numbers hold.
        (
            {**config.BUDGET_CAPS, "MATE": {**FEW, "BRONZE": sys.maxsize}},
            f"MATE and BRONZE is {sys.maxsize}",
        ),
    ],
)
async def test_bad_caps(inventory_client: Redis, caps: Any, seen: str) -> None:
    """Every priority needs a whole number for every tier; the error says which is none."""
    wanted = f"^budget_caps: must map every priority to an int .*; that of {seen}$"
    with pytest.raises(InvalidArgumentError, match=wanted):
        AsyncSmartInventory(inventory_client, budget_caps=caps)
    with pytest.raises(InvalidArgumentError, match=wanted):
        connect("memory://", budget_caps=caps)


async def test_replicas_that_cannot_be() -> None:
    """It's told before anything is opened, and not by each call."""
    with pytest.raises(InvalidArgumentError, match="^confirm_replicas: memory:// has none"):
        connect("memory://", confirm_replicas=1)


@pytest.mark.parametrize("flag", [None, 0, 1, "yes"])
async def test_bad_flag(flag: Any) -> None:
    """What only counts as true is refused: a string "no" would."""
    with pytest.raises(InvalidArgumentError, match="^allow_unsafe: must be a bool, not "):
        connect("memory://", allow_unsafe=flag)


@pytest.mark.parametrize(
    "url",
    [
        *(5, b"memory://", "", "localhost", "http://localhost", "redis:///0:x", "redis://h:port"),
        *("redis://localhost/1", "rediss://localhost/1", "redis://localhost?db=1"),
        *("unix:///socket?db=1", "embedded://relative/path", "redis://[::1"),
        *("embedded:///tmp/c#/db", "embedded:///tmp/why?/db", "embedded:///", "embedded:////"),
        *("redis://a..b", f"redis://{'a' * 64}.example"),
    ],
)
async def test_bad_url(monkeypatch: pytest.MonkeyPatch, url: Any) -> None:
    """A url that names nothing known is refused before anything is opened."""
    monkeypatch.setenv("AQM_DB_URL", "nowhere://")
    with pytest.raises(InvalidArgumentError, match="^url: "):
        connect(url)


async def test_a_password_in_a_bad_url_is_not_quoted() -> None:
    """A url may hold a secret."""
    for url in ("reddis://:s3cret@host", "redis://:s3cret@host/1", "redis://:s3cret/x@host"):
        with pytest.raises(InvalidArgumentError) as caught:
            connect(url)
        assert "s3cret" not in str(caught.value)
