"""Real coins: mint, verify, seal, unseal, encapsulate, decapsulate."""

import dataclasses
import importlib
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, strategies as st

from aqm_db import coins, config
from aqm_db.errors import (
    AQMDatabaseError,
    InvalidArgumentError,
    InvalidCoinCategoryError,
    InvalidCoinError,
    InvalidIdentifierError,
)
from aqm_db.types import CoinCategory, VaultEntry

TIERS: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
IDENTITY = coins.Identity.generate()
OTHER = coins.Identity.generate()
COINS = {tier: coins.mint(IDENTITY, f"key-{tier}", tier) for tier in TIERS}
KEY = bytes(range(100, 132))
OWNER = "alice"

Row = TypeVar("Row", coins.PublicCoin, coins.PublicIdentity, VaultEntry)
Call = Callable[..., object]

each_tier = pytest.mark.parametrize("tier", TIERS)


def flipped(data: bytes, position: int) -> bytes:
    """The bytes with one bit changed."""
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


def signed(
    key_id: str, tier: CoinCategory, public_key: bytes, version: str | None = None
) -> coins.PublicCoin:
    """What a faulty client publishes: its signature over whatever it takes for a coin."""
    version = version or coins.ALGORITHMS[tier].version
    message = coins._frame(coins._SIGNED, key_id, tier, version, public_key)
    signature = coins._TIERS[tier].signer.sign(IDENTITY, message)
    return coins.PublicCoin(key_id, tier, version, public_key, signature)


def sealed_row(coin: coins.MintedCoin) -> VaultEntry:
    """A coin's private half as the vault would give it back."""
    public = coin.public
    tier: Any = public.coin_category
    sealed = coins.seal(
        coin.private_key,
        KEY,
        owner=OWNER,
        key_id=public.key_id,
        coin_category=tier,
        coin_version=public.coin_version,
    )
    return VaultEntry(
        key_id=public.key_id,
        coin_category=tier,
        encrypted_blob=sealed.encrypted_blob,
        encryption_iv=sealed.encryption_iv,
        auth_tag=sealed.auth_tag,
        status="ACTIVE",
        created_at=0,
        coin_version=public.coin_version,
    )


def replaced(instance: Row, **changes: Any) -> Row:
    """A copy with changed fields, whatever their types."""
    return dataclasses.replace(instance, **changes)


# Sizes and round trips ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tier", "public_size", "signature_size", "private_size", "version"),
    [
        ("GOLD", 1184, 2420, 64, "kyber768_v1"),
        ("SILVER", 1184, 64, 64, "kyber768_v1"),
        ("BRONZE", 32, 64, 32, "x25519_v1"),
    ],
)
def test_mint_sizes_and_version(
    tier: CoinCategory, public_size: int, signature_size: int, private_size: int, version: str
) -> None:
    """A coin has exactly the sizes of its tier, and its default version."""
    coin = COINS[tier]
    assert len(coin.public.public_key) == public_size
    assert len(coin.public.signature) == signature_size
    assert len(coin.private_key) == private_size
    assert public_size + signature_size == config.COIN_SIZE_BYTES[tier]
    assert (coin.public.key_id, coin.public.coin_category) == (f"key-{tier}", tier)
    assert coin.public.coin_version == coins.ALGORITHMS[tier].version == version


def test_every_tier_has_its_algorithms() -> None:
    """A tier that only the database knows couldn't be minted."""
    assert {name: (of.key_pair, of.signature) for name, of in coins.ALGORITHMS.items()} == {
        "GOLD": ("ML-KEM-768", "ML-DSA-44"),
        "SILVER": ("ML-KEM-768", "Ed25519"),
        "BRONZE": ("X25519", "Ed25519"),
    }
    assert coins.ALGORITHMS.keys() == config.VALID_COIN_CATEGORIES


@each_tier
def test_minted_coin_verifies(tier: CoinCategory) -> None:
    """A coin verifies with its signer's public identity."""
    coins.verify(COINS[tier].public, IDENTITY.public)


@each_tier
def test_mint_named_version_and_longest_id(tier: CoinCategory) -> None:
    """The tier's version may be named, and an id of 256 bytes is signed and verifies."""
    version = coins.ALGORITHMS[tier].version
    coin = coins.mint(IDENTITY, "ü" * 128, tier, coin_version=version).public
    assert coin.coin_version == version
    coins.verify(coin, IDENTITY.public)


@each_tier
@pytest.mark.parametrize("version", ["kyber768_v1", "x25519_v1", "v9 ü"])
def test_no_other_version_is_minted_or_verified(tier: CoinCategory, version: str) -> None:
    """A coin of another format would be used as what it isn't, though its signer made it."""
    right = coins.ALGORITHMS[tier].version
    coin = signed("k", tier, COINS[tier].public.public_key, version)
    if version == right:
        coins.verify(coin, IDENTITY.public)
        return
    with pytest.raises(InvalidCoinError, match=right):
        coins.verify(coin, IDENTITY.public)
    with pytest.raises(InvalidArgumentError, match=f"^coin_version: .*{right}"):
        coins.mint(IDENTITY, "k", tier, coin_version=version)


@each_tier
def test_mint_gives_fresh_keys(tier: CoinCategory) -> None:
    """Minting the same id twice gives two key pairs."""
    first, second = (coins.mint(IDENTITY, "k", tier) for _ in range(2))
    assert first.private_key != second.private_key
    assert first.public.public_key != second.public.public_key


@each_tier
def test_coin_from_mint_to_message(tier: CoinCategory) -> None:
    """Minted, verified, sealed, unsealed: both sides find the same secret."""
    coin = COINS[tier]
    coins.verify(coin.public, IDENTITY.public)
    sent = coins.encapsulate(coin.public.public_key, tier)
    private_key = coins.unseal(sealed_row(coin), KEY, owner=OWNER)
    assert coins.decapsulate(private_key, tier, sent.ciphertext) == sent.shared_secret


# Identity ----------------------------------------------------------------------------------


def test_identity_saved_and_restored() -> None:
    """A restored signer has the same public keys, and both verify each other's coins."""
    saved = IDENTITY.private_bytes()
    restored = coins.Identity.from_private_bytes(saved)
    assert len(saved) == 64
    assert restored.private_bytes() == saved
    assert restored.public == IDENTITY.public
    for tier in TIERS:
        coins.verify(coins.mint(restored, "k", tier).public, IDENTITY.public)


def test_public_identity_sizes() -> None:
    """The public keys have the lengths of RFC 8032 and FIPS 204."""
    assert len(IDENTITY.public.ed25519) == 32
    assert len(IDENTITY.public.ml_dsa_44) == 1312


def test_identities_differ() -> None:
    """Two signers share no key."""
    assert IDENTITY.public.ed25519 != OTHER.public.ed25519
    assert IDENTITY.public.ml_dsa_44 != OTHER.public.ml_dsa_44


# Verify ------------------------------------------------------------------------------------


@each_tier
def test_verify_refuses_every_altered_field(tier: CoinCategory) -> None:
    """Any other id, tier, version, or bit of key or signature fails."""
    coin = COINS[tier].public
    altered = [
        replaced(coin, key_id=coin.key_id + "x"),
        replaced(coin, coin_version=coin.coin_version + "x"),
        replaced(
            signed(coin.key_id, tier, coin.public_key, coin.coin_version + "x"),
            coin_version=coin.coin_version,
        ),
        *(replaced(coin, coin_category=other) for other in TIERS if other != tier),
    ]
    for name in ("public_key", "signature"):
        data: bytes = getattr(coin, name)
        positions = (0, len(data) // 2, len(data) - 1)
        altered += [replaced(coin, **{name: flipped(data, position)}) for position in positions]
    for changed in altered:
        with pytest.raises(InvalidCoinError):
            coins.verify(changed, IDENTITY.public)


@each_tier
@pytest.mark.parametrize("field", ["public_key", "signature"])
def test_verify_refuses_other_lengths(tier: CoinCategory, field: str) -> None:
    """A truncated, extended or empty key or signature fails, and the message has the lengths."""
    coin = COINS[tier].public
    data: bytes = getattr(coin, field)
    for changed in (b"", data[:-1], data[1:], data + b"\0", data * 2):
        with pytest.raises(InvalidCoinError, match=rf"not \(.*\b{len(changed)}\b.*\)"):
            coins.verify(replaced(coin, **{field: changed}), IDENTITY.public)


@each_tier
def test_verify_refuses_a_border_moved_between_key_and_signature(tier: CoinCategory) -> None:
    """The total length alone isn't enough."""
    coin = COINS[tier].public
    moved = replaced(
        coin,
        public_key=coin.public_key + coin.signature[:1],
        signature=coin.signature[1:],
    )
    with pytest.raises(InvalidCoinError):
        coins.verify(moved, IDENTITY.public)


def test_verify_refuses_gold_as_silver_with_a_fitting_length() -> None:
    """A GOLD key doesn't become a SILVER coin by cutting its signature, nor with a SILVER's."""
    gold, silver = COINS["GOLD"].public, COINS["SILVER"].public
    for signature in (gold.signature[:64], silver.signature):
        with pytest.raises(InvalidCoinError):
            coins.verify(
                replaced(gold, coin_category="SILVER", signature=signature), IDENTITY.public
            )


def test_tier_is_signed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tiers of the same lengths could still not be swapped."""
    tiers = cast("dict[str, object]", coins._TIERS)
    monkeypatch.setitem(tiers, "GOLD", tiers["SILVER"])
    coin = coins.mint(IDENTITY, "k", "GOLD").public
    coins.verify(coin, IDENTITY.public)
    with pytest.raises(InvalidCoinError):
        coins.verify(replaced(coin, coin_category="SILVER"), IDENTITY.public)


@each_tier
def test_verify_refuses_another_signer(tier: CoinCategory) -> None:
    """A coin of one signer isn't another's."""
    with pytest.raises(InvalidCoinError):
        coins.verify(COINS[tier].public, OTHER.public)


@pytest.mark.parametrize(("tier", "own"), [("GOLD", "ml_dsa_44"), ("SILVER", "ed25519")])
def test_verify_uses_the_key_of_the_tier(tier: CoinCategory, own: str) -> None:
    """GOLD stands on ML-DSA-44 alone, the others on Ed25519 alone."""
    mixed = replaced(OTHER.public, **{own: getattr(IDENTITY.public, own)})
    coins.verify(COINS[tier].public, mixed)
    mixed = replaced(IDENTITY.public, **{own: getattr(OTHER.public, own)})
    with pytest.raises(InvalidCoinError):
        coins.verify(COINS[tier].public, mixed)


@given(text=st.text(min_size=3, max_size=40), data=st.data())
def test_no_bytes_move_between_signed_fields(text: str, data: st.DataObject) -> None:
    """Text that is split elsewhere into id and version is another text to sign."""
    size = len(text)
    here = data.draw(st.integers(1, size - 1))
    there = data.draw(st.integers(1, size - 1).filter(lambda border: border != here))
    assert coins._frame(text[:here], text[here:]) != coins._frame(text[:there], text[there:])


def encode_coefficients(coefficients: list[int]) -> bytes:
    """An ML-KEM-768 public key with these coefficients (ByteEncode of FIPS 203), one by one."""
    bits = "".join(f"{coefficient:012b}"[::-1] for coefficient in coefficients)
    places = range(0, len(bits), 8)
    return bytes(int(bits[place : place + 8][::-1], 2) for place in places) + bytes(32)


@pytest.mark.parametrize("tier", ["GOLD", "SILVER"])
@pytest.mark.parametrize("rest", [0, 3328])
def test_a_key_with_a_coefficient_that_is_too_large(
    monkeypatch: pytest.MonkeyPatch, tier: CoinCategory, rest: int
) -> None:
    """Wherever it stands, the coin is refused, by whichever library its key would be used with."""
    largest = encode_coefficients([rest] * 768)
    coins.verify(signed("k", tier, largest), IDENTITY.public)
    coins.encapsulate(largest, tier)
    # Not every library looks for itself.
    monkeypatch.setattr(coins, "MLKEM768PublicKey", None)
    for place in (0, 1, 2, 255, 256, 511, 766, 767):
        for value in (3329, 4095):
            changed = [rest] * 768
            changed[place] = value
            public_key = encode_coefficients(changed)
            with pytest.raises(InvalidCoinError, match=f"public key of a {tier} coin"):
                coins.verify(signed("k", tier, public_key), IDENTITY.public)
            with pytest.raises(InvalidCoinError, match=f"public key of a {tier} coin"):
                coins.encapsulate(public_key, tier)


@given(st.lists(st.sampled_from([0, 1, 3327, 3328, 3329, 3330, 4095]), min_size=768, max_size=768))
def test_the_modulus_check_is_that_of_the_standard(coefficients: list[int]) -> None:
    """It says the same as a look at each coefficient."""
    public_key = encode_coefficients(coefficients)
    if max(coefficients) < 3329:
        coins.encapsulate(public_key, "SILVER")
    else:
        with pytest.raises(InvalidCoinError):
            coins.encapsulate(public_key, "SILVER")


PRIME = 2**255 - 19
ORDER_8 = 325606250916557431795983626356110631294008115727848805560023387167927233504
"""The x-coordinate of a point of order 8; there is one more."""
OTHER_ORDER_8 = 39382357235489614581723060781553021112529911719440698176882885853963445705823
HIGH_BIT = 2**255


@pytest.mark.parametrize(
    "value",
    [
        *(
            number + bit
            for number in (0, 1, ORDER_8, OTHER_ORDER_8, PRIME - 1)
            for bit in (0, HIGH_BIT)
        ),
        *(PRIME, PRIME + 1, PRIME + 9, 2**255 - 1, 2**256 - 1, 9 + HIGH_BIT),
    ],
    ids=hex,
)
def test_an_x25519_key_that_is_none(value: int) -> None:
    """One of small order makes the secret known; another spelling makes a secret nobody finds."""
    public_key = value.to_bytes(32, "little")
    with pytest.raises(InvalidCoinError, match="public key of a BRONZE coin"):
        coins.verify(signed("k", "BRONZE", public_key), IDENTITY.public)
    with pytest.raises(InvalidCoinError, match="public key of a BRONZE coin"):
        coins.encapsulate(public_key, "BRONZE")


def test_the_high_bit_of_a_minted_x25519_key() -> None:
    """With it, the key would be the same point, and the message could not be read."""
    public = COINS["BRONZE"].public
    spelt = (int.from_bytes(public.public_key, "little") + HIGH_BIT).to_bytes(32, "little")
    with pytest.raises(InvalidCoinError):
        coins.verify(signed("k", "BRONZE", spelt), IDENTITY.public)


Fields = tuple[str, CoinCategory, str, bytes]
short_text = st.text("ab\0", max_size=4)
fields = st.tuples(short_text, st.sampled_from(TIERS), short_text, st.binary(max_size=4))


@given(first=fields, second=fields)
def test_framing_is_injective(first: Fields, second: Fields) -> None:
    """Two coins give the same signed message only if they are the same."""
    assert (coins._frame(*first) == coins._frame(*second)) == (first == second)


def test_framing_is_length_prefixed() -> None:
    """Every part stands after its length, 4 bytes big endian."""
    assert coins._frame("ü", b"", "a" * 258) == (
        b"\0\0\0\2\xc3\xbc" + b"\0\0\0\0" + b"\0\0\1\2" + b"a" * 258
    )


# Seal and unseal ---------------------------------------------------------------------------


@each_tier
def test_seal_sizes(tier: CoinCategory) -> None:
    """The blob is as long as the key, the iv 12 bytes and the tag 16."""
    row = sealed_row(COINS[tier])
    assert len(row.encrypted_blob) == len(COINS[tier].private_key)
    assert (len(row.encryption_iv), len(row.auth_tag)) == (12, 16)
    assert row.encrypted_blob != COINS[tier].private_key


@each_tier
def test_unseal_gives_the_private_half_back(tier: CoinCategory) -> None:
    """What was sealed is unsealed."""
    coin = COINS[tier]
    assert coins.unseal(sealed_row(coin), KEY, owner=OWNER) == coin.private_key


def test_seal_takes_its_nonce_from_random() -> None:
    """An injected source is asked once, for 12 bytes; the default never repeats one."""
    asked: list[int] = []

    def source(size: int) -> bytes:
        asked.append(size)
        return b"n" * size

    sealed = coins.seal(
        COINS["BRONZE"].private_key,
        KEY,
        owner=OWNER,
        key_id="k",
        coin_category="BRONZE",
        coin_version="v",
        random=source,
    )
    assert asked == [12]
    assert sealed.encryption_iv == b"n" * 12
    assert len({sealed_row(COINS["BRONZE"]).encryption_iv for _ in range(50)}) == 50


@each_tier
@pytest.mark.parametrize("field", ["encrypted_blob", "encryption_iv", "auth_tag"])
def test_unseal_refuses_altered_bytes(tier: CoinCategory, field: str) -> None:
    """A bit flipped at the start, middle or end, and any other length, fails."""
    row = sealed_row(COINS[tier])
    data: bytes = getattr(row, field)
    flips = [flipped(data, position) for position in (0, len(data) // 2, len(data) - 1)]
    for changed in (*flips, b"", data[:-1], data[1:], data + b"\0"):
        with pytest.raises(InvalidCoinError):
            coins.unseal(replaced(row, **{field: changed}), KEY, owner=OWNER)


@each_tier
@pytest.mark.parametrize("field", ["encrypted_blob", "encryption_iv", "auth_tag", "key_id"])
def test_unseal_refuses_fields_swapped_between_rows(tier: CoinCategory, field: str) -> None:
    """Each field of one row fails in another row of the same owner and tier."""
    one = sealed_row(coins.mint(IDENTITY, "one", tier))
    two = sealed_row(coins.mint(IDENTITY, "two", tier))
    for row, other in ((one, two), (two, one)):
        with pytest.raises(InvalidCoinError):
            coins.unseal(replaced(row, **{field: getattr(other, field)}), KEY, owner=OWNER)


def test_unseal_refuses_a_whole_seal_under_another_id() -> None:
    """Blob, iv and tag together, moved to another row, fail."""
    one = sealed_row(COINS["GOLD"])
    with pytest.raises(InvalidCoinError):
        coins.unseal(replaced(one, key_id="two"), KEY, owner=OWNER)


@pytest.mark.parametrize("shift", [-1, 1])
def test_unseal_refuses_a_border_moved_between_blob_and_tag(shift: int) -> None:
    """The same bytes, cut elsewhere, fail."""
    row = sealed_row(COINS["GOLD"])
    joined = row.encrypted_blob + row.auth_tag
    border = len(row.encrypted_blob) + shift
    moved = replaced(row, encrypted_blob=joined[:border], auth_tag=joined[border:])
    with pytest.raises(InvalidCoinError, match=r"12, 16.*12, 1[57]"):
        coins.unseal(moved, KEY, owner=OWNER)


@each_tier
def test_unseal_refuses_other_context(tier: CoinCategory) -> None:
    """Another id, tier, version, owner or key fails."""
    row = sealed_row(COINS[tier])
    altered = [
        replaced(row, key_id="other"),
        replaced(row, coin_version="other"),
        *(replaced(row, coin_category=other) for other in TIERS if other != tier),
    ]
    for changed in altered:
        with pytest.raises(InvalidCoinError):
            coins.unseal(changed, KEY, owner=OWNER)
    with pytest.raises(InvalidCoinError):
        coins.unseal(row, KEY, owner="bob")
    with pytest.raises(InvalidCoinError):
        coins.unseal(row, flipped(KEY, 31), owner=OWNER)


def test_unseal_refuses_a_burned_row() -> None:
    """A tombstone holds nothing to open."""
    burned = replaced(
        sealed_row(COINS["GOLD"]),
        encrypted_blob=b"",
        encryption_iv=b"",
        auth_tag=b"",
        status="BURNED",
    )
    with pytest.raises(InvalidCoinError):
        coins.unseal(burned, KEY, owner=OWNER)


def test_unseal_ignores_what_changes_in_the_vault() -> None:
    """Status and creation time aren't sealed: the vault sets them."""
    row = replaced(sealed_row(COINS["GOLD"]), status="BURNED", created_at=12)
    assert coins.unseal(row, KEY, owner=OWNER) == COINS["GOLD"].private_key


# Encapsulate and decapsulate ---------------------------------------------------------------


@pytest.mark.parametrize(("tier", "size"), [("GOLD", 1088), ("SILVER", 1088), ("BRONZE", 32)])
def test_encapsulation_sizes(tier: CoinCategory, size: int) -> None:
    """A secret has 32 bytes, a ciphertext the size of its algorithm."""
    sent = coins.encapsulate(COINS[tier].public.public_key, tier)
    assert (len(sent.shared_secret), len(sent.ciphertext)) == (32, size)


@each_tier
def test_encapsulations_differ(tier: CoinCategory) -> None:
    """Two messages to one key have two secrets."""
    first, second = (coins.encapsulate(COINS[tier].public.public_key, tier) for _ in range(2))
    assert first.shared_secret != second.shared_secret
    assert first.ciphertext != second.ciphertext


@each_tier
def test_decapsulate_with_another_key_gives_another_secret(tier: CoinCategory) -> None:
    """Another coin's private half finds nothing."""
    sent = coins.encapsulate(COINS[tier].public.public_key, tier)
    other = coins.mint(IDENTITY, "other", tier).private_key
    assert coins.decapsulate(other, tier, sent.ciphertext) != sent.shared_secret


@each_tier
def test_decapsulate_tampered_gives_another_secret(tier: CoinCategory) -> None:
    """A changed ciphertext of the right length gives another secret, not an error."""
    coin = COINS[tier]
    sent = coins.encapsulate(coin.public.public_key, tier)
    size = len(sent.ciphertext)
    for position in (0, size // 2, size - 1):
        tampered = flipped(sent.ciphertext, position)
        found = coins.decapsulate(coin.private_key, tier, tampered)
        assert len(found) == 32
        assert found != sent.shared_secret


def test_decapsulate_bronze_binds_the_ignored_bit() -> None:
    """X25519 ignores its key's top bit (RFC 7748, 5); the secret doesn't."""
    coin = COINS["BRONZE"]
    sent = coins.encapsulate(coin.public.public_key, "BRONZE")
    tampered = sent.ciphertext[:-1] + bytes([sent.ciphertext[-1] ^ 0x80])
    assert coins.decapsulate(coin.private_key, "BRONZE", tampered) != sent.shared_secret


@each_tier
def test_decapsulate_refuses_malformed(tier: CoinCategory) -> None:
    """A ciphertext of another length is refused."""
    coin = COINS[tier]
    ciphertext = coins.encapsulate(coin.public.public_key, tier).ciphertext
    for changed in (b"", ciphertext[:-1], ciphertext + b"\0"):
        with pytest.raises(InvalidCoinError):
            coins.decapsulate(coin.private_key, tier, changed)


@each_tier
def test_encapsulate_refuses_malformed(tier: CoinCategory) -> None:
    """A public key of another length is refused."""
    public_key = COINS[tier].public.public_key
    for changed in (b"", public_key[:-1], public_key + b"\0"):
        with pytest.raises(InvalidCoinError):
            coins.encapsulate(changed, tier)


def test_encapsulate_refuses_keys_that_are_none() -> None:
    """An ML-KEM key out of range (FIPS 203, 7.2) and an X25519 key of small order are refused."""
    with pytest.raises(InvalidCoinError):
        coins.encapsulate(b"\xff" * 1184, "GOLD")
    with pytest.raises(InvalidCoinError):
        coins.encapsulate(bytes(32), "BRONZE")
    with pytest.raises(InvalidCoinError):
        coins.decapsulate(COINS["BRONZE"].private_key, "BRONZE", bytes(32))


# Bad input ---------------------------------------------------------------------------------

GOLD = COINS["GOLD"]
ROW = sealed_row(GOLD)
BAD_IDS: tuple[object, ...] = (None, 7, b"k", "", "k" * 257, "ü" * 129, "\ud800")
BAD_TIERS: tuple[object, ...] = (None, 7, b"GOLD", "", "gold", "PLATINUM", ["GOLD"], {})
NOT_BYTES: tuple[object, ...] = (None, 7, "a" * 32, bytearray(32), memoryview(bytes(32)), [0] * 32)
BAD_KEYS: tuple[object, ...] = (*NOT_BYTES, b"", KEY[:-1], KEY + b"\0")


def nothing_random(_size: int) -> None:
    """A source that forgets to return."""


def one_too_many(size: int) -> bytes:
    """A source that gives another length."""
    return b"x" * (size + 1)


def text_instead(size: int) -> str:
    """A source of another type."""
    return "x" * size


SEALING: dict[str, Any] = {
    "private_key": GOLD.private_key,
    "key": KEY,
    "owner": OWNER,
    "key_id": "k",
    "coin_category": "GOLD",
    "coin_version": "v",
}
GOOD: dict[str, tuple[Call, dict[str, Any]]] = {
    "mint": (coins.mint, {"identity": IDENTITY, "key_id": "k", "coin_category": "GOLD"}),
    "verify": (coins.verify, {"coin": GOLD.public, "identity": IDENTITY.public}),
    "seal": (coins.seal, SEALING),
    "unseal": (coins.unseal, {"entry": ROW, "key": KEY, "owner": OWNER}),
    "encapsulate": (
        coins.encapsulate,
        {"public_key": GOLD.public.public_key, "coin_category": "GOLD"},
    ),
    "decapsulate": (
        coins.decapsulate,
        {"private_key": GOLD.private_key, "coin_category": "GOLD", "ciphertext": bytes(1088)},
    ),
    "from_private_bytes": (
        coins.Identity.from_private_bytes,
        {"private_bytes": IDENTITY.private_bytes()},
    ),
    "Identity": (
        coins.Identity,
        {"ed25519": IDENTITY.ed25519, "ml_dsa_44": IDENTITY.ml_dsa_44},
    ),
    "PublicIdentity": (
        coins.PublicIdentity,
        {"ed25519": IDENTITY.public.ed25519, "ml_dsa_44": IDENTITY.public.ml_dsa_44},
    ),
}
BAD: list[tuple[str, str, tuple[object, ...], type[InvalidArgumentError]]] = [
    ("mint", "identity", (None, IDENTITY.public, "x", coins.Identity), InvalidArgumentError),
    ("mint", "key_id", BAD_IDS, InvalidIdentifierError),
    ("mint", "coin_category", BAD_TIERS, InvalidCoinCategoryError),
    ("mint", "coin_version", BAD_IDS[1:], InvalidIdentifierError),
    ("verify", "coin", (None, GOLD, "x", coins.PublicCoin), InvalidArgumentError),
    ("verify", "identity", (None, IDENTITY, bytes(32)), InvalidArgumentError),
    ("seal", "private_key", (*NOT_BYTES, b"", bytes(32), bytes(65)), InvalidArgumentError),
    ("seal", "key", BAD_KEYS, InvalidArgumentError),
    ("seal", "owner", BAD_IDS, InvalidIdentifierError),
    ("seal", "key_id", BAD_IDS, InvalidIdentifierError),
    ("seal", "coin_category", BAD_TIERS, InvalidCoinCategoryError),
    ("seal", "coin_version", BAD_IDS, InvalidIdentifierError),
    (
        "seal",
        "random",
        (None, 7, nothing_random, one_too_many, text_instead),
        InvalidArgumentError,
    ),
    ("unseal", "entry", (None, GOLD, {}, VaultEntry), InvalidArgumentError),
    ("unseal", "key", BAD_KEYS, InvalidArgumentError),
    ("unseal", "owner", BAD_IDS, InvalidIdentifierError),
    ("encapsulate", "public_key", NOT_BYTES, InvalidArgumentError),
    ("encapsulate", "coin_category", BAD_TIERS, InvalidCoinCategoryError),
    ("decapsulate", "private_key", (*NOT_BYTES, b"", bytes(32)), InvalidArgumentError),
    ("decapsulate", "coin_category", BAD_TIERS, InvalidCoinCategoryError),
    ("decapsulate", "ciphertext", NOT_BYTES, InvalidArgumentError),
    ("from_private_bytes", "private_bytes", (*BAD_KEYS, bytes(65)), InvalidArgumentError),
    ("Identity", "ed25519", (None, bytes(32), IDENTITY.ml_dsa_44), InvalidArgumentError),
    ("Identity", "ml_dsa_44", (None, bytes(32), IDENTITY.ed25519), InvalidArgumentError),
    ("PublicIdentity", "ed25519", BAD_KEYS, InvalidArgumentError),
    ("PublicIdentity", "ml_dsa_44", (*NOT_BYTES, b"", bytes(1311)), InvalidArgumentError),
]
BAD_FIELDS: list[tuple[str, str, str, tuple[object, ...], type[InvalidArgumentError]]] = [
    ("verify", "coin", "key_id", BAD_IDS, InvalidIdentifierError),
    ("verify", "coin", "coin_category", BAD_TIERS, InvalidCoinCategoryError),
    ("verify", "coin", "coin_version", BAD_IDS, InvalidIdentifierError),
    ("verify", "coin", "public_key", NOT_BYTES, InvalidArgumentError),
    ("verify", "coin", "signature", NOT_BYTES, InvalidArgumentError),
    ("unseal", "entry", "key_id", BAD_IDS, InvalidIdentifierError),
    ("unseal", "entry", "coin_category", BAD_TIERS, InvalidCoinCategoryError),
    ("unseal", "entry", "coin_version", BAD_IDS, InvalidIdentifierError),
    ("unseal", "entry", "encrypted_blob", NOT_BYTES, InvalidArgumentError),
    ("unseal", "entry", "encryption_iv", NOT_BYTES, InvalidArgumentError),
    ("unseal", "entry", "auth_tag", NOT_BYTES, InvalidArgumentError),
]


def refusals() -> list[tuple[Call, dict[str, Any], str, type[InvalidArgumentError]]]:
    """Every bad call: function, arguments, the name it must be refused by, and the error."""
    calls: list[tuple[Call, dict[str, Any], str, type[InvalidArgumentError]]] = []
    for name, argument, values, error in BAD:
        call, good = GOOD[name]
        calls += [(call, good | {argument: value}, argument, error) for value in values]
    for name, argument, field, values, error in BAD_FIELDS:
        call, good = GOOD[name]
        for value in values:
            bad = replaced(good[argument], **{field: value})
            calls.append((call, good | {argument: bad}, f"{argument}.{field}", error))
    return calls


@pytest.mark.parametrize("name", GOOD)
def test_good_input_is_taken(name: str) -> None:
    """The calls that the bad ones below are made of work."""
    call, good = GOOD[name]
    call(**good)


@pytest.mark.parametrize(("call", "arguments", "argument", "error"), refusals())
def test_bad_input_is_refused_by_name(
    call: Call, arguments: dict[str, Any], argument: str, error: type[InvalidArgumentError]
) -> None:
    """Each wrong argument raises the right error, which names it."""
    with pytest.raises(InvalidArgumentError) as caught:
        call(**arguments)
    assert type(caught.value) is error
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: ")


# Nothing leaks -----------------------------------------------------------------------------

SENT = coins.encapsulate(GOLD.public.public_key, "GOLD")
SEALED = coins.SealedKey(ROW.encrypted_blob, ROW.encryption_iv, ROW.auth_tag)
SECRETS = (
    KEY,
    IDENTITY.private_bytes()[:32],
    IDENTITY.private_bytes()[32:],
    *(coin.private_key for coin in COINS.values()),
    *(coin.public.public_key for coin in COINS.values()),
    *(coin.public.signature for coin in COINS.values()),
    IDENTITY.public.ed25519,
    IDENTITY.public.ml_dsa_44,
    SENT.shared_secret,
    SENT.ciphertext,
    ROW.encrypted_blob,
    ROW.encryption_iv,
    ROW.auth_tag,
)


def assert_shows_no_secret(text: str) -> None:
    """No key, nor 8 bytes of its start or end, in any usual spelling."""
    for secret in SECRETS:
        for part in (secret[:8], secret[-8:]):
            for spelled in (repr(part)[2:-1], part.hex(), str(list(part))[1:-1]):
                assert spelled.lower() not in text.lower()


def failures() -> list[Callable[[], object]]:
    """A failure of each kind that comes from the data, not from the argument's type."""
    other_key = flipped(KEY, 0)
    return [
        lambda: coins.verify(GOLD.public, OTHER.public),
        lambda: coins.verify(replaced(GOLD.public, coin_category="SILVER"), IDENTITY.public),
        lambda: coins.verify(COINS["BRONZE"].public, OTHER.public),
        lambda: coins.unseal(ROW, other_key, owner=OWNER),
        lambda: coins.unseal(replaced(ROW, auth_tag=KEY), KEY, owner=OWNER),
        lambda: coins.encapsulate(GOLD.public.public_key[1:], "GOLD"),
        lambda: coins.encapsulate(GOLD.public.public_key, "BRONZE"),
        lambda: coins.decapsulate(GOLD.private_key, "GOLD", SENT.ciphertext[1:]),
        lambda: coins.decapsulate(COINS["BRONZE"].private_key, "BRONZE", KEY[1:]),
    ]


def swaps() -> list[Callable[[], object]]:
    """Key material passed where something else belongs."""
    anything: Any = coins
    key, public_key = GOLD.private_key, GOLD.public.public_key
    return [
        lambda: anything.mint(key, "k", "GOLD"),
        lambda: anything.mint(IDENTITY, key, "GOLD"),
        lambda: anything.mint(IDENTITY, "k", key),
        lambda: anything.mint(IDENTITY, "k", "GOLD", coin_version=key),
        lambda: anything.encapsulate("GOLD", public_key),
        lambda: anything.decapsulate(key, SENT.ciphertext, "GOLD"),
        lambda: anything.seal(**SEALING | {"private_key": KEY, "key": key}),
        lambda: anything.seal(**SEALING | {"key": key}),
        lambda: anything.seal(**SEALING | {"coin_version": key}),
        lambda: anything.unseal(ROW, KEY, owner=KEY),
        lambda: anything.unseal(ROW, key, owner=OWNER),
        lambda: anything.Identity(key, key),
        lambda: anything.Identity.from_private_bytes(KEY),
        lambda: anything.PublicIdentity(public_key, public_key),
    ]


@pytest.mark.parametrize(
    "shown",
    [IDENTITY, IDENTITY.public, *COINS.values(), GOLD.public, SEALED, SENT],
    ids=lambda shown: type(shown).__name__,
)
def test_reprs_show_no_key_material(shown: object) -> None:
    """Neither repr nor str of any object has a key, signature, secret or sealed byte in it."""
    assert_shows_no_secret(f"{shown!r} {shown!s}")


@pytest.mark.parametrize("fail", [*failures(), *swaps()])
def test_exceptions_show_no_key_material(fail: Callable[[], object]) -> None:
    """Neither an exception, nor its traceback, nor what it chains has key material in it."""
    with pytest.raises(AQMDatabaseError) as caught:
        fail()
    error = caught.value
    assert_shows_no_secret(f"{error!r} {error!s} {error.args!r} {vars(error)!r}")
    assert_shows_no_secret("".join(traceback.format_exception(error)))
    assert error.__cause__ is None
    assert error.__context__ is None or error.__suppress_context__


def test_objects_are_frozen() -> None:
    """No object can be changed, or given another attribute."""
    for value in (IDENTITY, IDENTITY.public, GOLD, GOLD.public, SEALED, SENT):
        for name in (dataclasses.fields(value)[0].name, "other"):
            with pytest.raises((AttributeError, TypeError)):
                setattr(value, name, KEY)


# The optional extra ------------------------------------------------------------------------


def test_import_without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    for name in [name for name in sys.modules if name.split(".")[0] == "cryptography"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "aqm_db.coins")
    with pytest.raises(ImportError, match=r"pip install 'aqm-db\[coins\]'"):
        importlib.import_module("aqm_db.coins")


def test_core_needs_no_cryptography() -> None:
    """The package imports without the extra, and its coins then fail with the same message."""
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "import aqm_db\n"
        "assert 'aqm_db.coins' not in sys.modules\n"
        "try:\n"
        "    import aqm_db.coins\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "pip install 'aqm-db[coins]'" in ran.stdout
