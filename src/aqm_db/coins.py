"""Real coins: minted, signed, verified, sealed for the vault, and used, with ``cryptography``.

An optional extra: ``pip install 'aqm-db[coins]'``. The database itself never imports this module.

====== ======================= =========================== =============================
tier   key pair                signature                   public key + signature, bytes
====== ======================= =========================== =============================
GOLD   ML-KEM-768 (FIPS 203)   ML-DSA-44 (FIPS 204)        1184 + 2420 = 3604
SILVER ML-KEM-768 (FIPS 203)   Ed25519 (RFC 8032)          1184 + 64 = 1248
BRONZE X25519 (RFC 7748)       Ed25519 (RFC 8032)          32 + 64 = 96
====== ======================= =========================== =============================

Every function is synchronous, does no I/O and keeps no state. What the caller passes by mistake
raises an ``InvalidArgumentError`` that names the parameter; what others sent, or what storage gave
back, and is not as it was made, raises an ``InvalidCoinError``. A ``cryptography`` that was built
on an OpenSSL without ML-KEM or ML-DSA raises its own ``UnsupportedAlgorithm``; its wheels have
both.
"""

import os
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ._model.checks import check_category, check_id
from .errors import InvalidArgumentError, InvalidCoinError
from .types import CoinCategory, VaultEntry

try:
    from cryptography.exceptions import InvalidSignature, InvalidTag
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
    from cryptography.hazmat.primitives.asymmetric.mlkem import (
        MLKEM768PrivateKey,
        MLKEM768PublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF
except ImportError as _error:
    raise ImportError(
        "aqm_db.coins needs cryptography >= 50: pip install 'aqm-db[coins]'"
    ) from _error


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """What a contact's coins are verified with; get it over a channel that you trust.

    Attributes:
        ed25519: an Ed25519 public key, 32 bytes (RFC 8032).
        ml_dsa_44: an ML-DSA-44 public key, 1312 bytes (FIPS 204).

    Raises:
        InvalidArgumentError: a key isn't bytes of its length.
    """

    ed25519: bytes = field(repr=False)
    ml_dsa_44: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check_size("ed25519", self.ed25519, _ED25519_PUBLIC_SIZE)
        _check_size("ml_dsa_44", self.ml_dsa_44, _ML_DSA_44_PUBLIC_SIZE)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A signer's private keys, one for each signature algorithm.

    Raises:
        InvalidArgumentError: a key is of another type.
    """

    ed25519: Ed25519PrivateKey = field(repr=False)
    ml_dsa_44: MLDSA44PrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        _check_type("ed25519", self.ed25519, Ed25519PrivateKey)
        _check_type("ml_dsa_44", self.ml_dsa_44, MLDSA44PrivateKey)

    @classmethod
    def generate(cls) -> "Identity":
        """A new signer, from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate())

    @classmethod
    def from_private_bytes(cls, private_bytes: bytes) -> "Identity":
        """The signer that ``private_bytes`` saved.

        Args:
            private_bytes: 64 bytes.

        Raises:
            InvalidArgumentError: it isn't 64 bytes.
        """
        seeds = _check_size("private_bytes", private_bytes, 2 * _SEED_SIZE)
        return cls(
            Ed25519PrivateKey.from_private_bytes(seeds[:_SEED_SIZE]),
            MLDSA44PrivateKey.from_seed_bytes(seeds[_SEED_SIZE:]),
        )

    def private_bytes(self) -> bytes:
        """What to keep, and keep secret: the Ed25519 and the ML-DSA-44 seed, 32 bytes each."""
        return self.ed25519.private_bytes_raw() + self.ml_dsa_44.private_bytes_raw()

    @property
    def public(self) -> PublicIdentity:
        """What contacts verify this signer's coins with."""
        return PublicIdentity(
            self.ed25519.public_key().public_bytes_raw(),
            self.ml_dsa_44.public_key().public_bytes_raw(),
        )


@dataclass(frozen=True, slots=True)
class PublicCoin:
    """A coin's public half, as it goes through the server; nothing in it is true until verified.

    Attributes:
        key_id: the coin's id.
        coin_category: its tier.
        coin_version: its format.
        public_key: an ML-KEM-768 (1184 bytes) or X25519 (32 bytes) public key.
        signature: an ML-DSA-44 (2420 bytes) or Ed25519 (64 bytes) signature over all of these.
    """

    key_id: str
    coin_category: str
    coin_version: str
    public_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class MintedCoin:
    """Both halves of a coin.

    Attributes:
        public: the half to publish.
        private_key: the half to seal: an ML-KEM-768 seed, 64 bytes (``d || z`` of FIPS 203), or
            an X25519 private key, 32 bytes (RFC 7748).
    """

    public: PublicCoin
    private_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class SealedKey:
    """An encrypted private half: what ``store_key`` of the vault takes.

    Attributes:
        encrypted_blob: as long as the private half.
        encryption_iv: the nonce, 12 bytes.
        auth_tag: 16 bytes.
    """

    encrypted_blob: bytes = field(repr=False)
    encryption_iv: bytes = field(repr=False)
    auth_tag: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Algorithms:
    """What the coins of a tier are made with.

    Attributes:
        version: the format that :func:`mint` gives a coin unless it's told another one.
        key_pair: the key pair's algorithm.
        signature: the signature's algorithm.
    """

    version: str
    key_pair: str
    signature: str


@dataclass(frozen=True, slots=True)
class Encapsulation:
    """A secret for one message, and what its recipient needs to find it.

    Attributes:
        shared_secret: 32 bytes; stays here.
        ciphertext: goes to the recipient: 1088 bytes for GOLD and SILVER, 32 for BRONZE.
    """

    shared_secret: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


def mint(
    identity: Identity,
    key_id: str,
    coin_category: str,
    *,
    coin_version: str | None = None,
) -> MintedCoin:
    """Make a one-time key pair and sign its public half.

    Args:
        identity: the signer.
        key_id: the coin's id, never used before.
        coin_category: its tier.
        coin_version: its format, which is the tier's: ``"kyber768_v1"`` for GOLD and SILVER and
            ``"x25519_v1"`` for BRONZE.

    Raises:
        InvalidIdentifierError: the key id or version isn't 1 to 256 bytes of UTF-8.
        InvalidCoinCategoryError: the tier is unknown.
        InvalidArgumentError: the version is none of the tier's, which nobody could verify, or
            another argument is of the wrong type.
    """
    _check_type("identity", identity, Identity)
    check_id("key_id", key_id)
    tier = _tier("coin_category", coin_category)
    version = tier.kem.version
    if coin_version is not None and check_id("coin_version", coin_version) != version:
        raise InvalidArgumentError("coin_version", f"must be {version!r} for {coin_category}")
    private_key, public_key = tier.kem.generate()
    message = _frame(_SIGNED, key_id, coin_category, version, public_key)
    signature = tier.signer.sign(identity, message)
    return MintedCoin(
        PublicCoin(key_id, coin_category, version, public_key, signature), private_key
    )


def verify(coin: PublicCoin, identity: PublicIdentity) -> None:
    """Make sure that a signer made exactly this coin, and that it can be encrypted for.

    Do so before it is stored. An ML-KEM key is looked at by the rule of FIPS 203, section 7.2: each
    coefficient is below 3329. An X25519 key is below the field's prime, as every key that is
    computed is, so its high bit isn't set; and it isn't of small order, which would make the secret
    all zeros (RFC 7748, sections 5 and 6.1).

    Args:
        coin: as it came.
        identity: who is said to have made it.

    Raises:
        InvalidCoinError: a key or signature of another length than the tier's, a field that was
            altered, another signer, a version that isn't the tier's, or a public key that is none.
        InvalidIdentifierError: the coin's key id or version isn't 1 to 256 bytes of UTF-8.
        InvalidCoinCategoryError: the coin's tier is unknown.
        InvalidArgumentError: an argument, or another field of the coin, is of the wrong type.
    """
    _check_type("coin", coin, PublicCoin)
    _check_type("identity", identity, PublicIdentity)
    key_id = check_id("coin.key_id", coin.key_id)
    tier = _tier("coin.coin_category", coin.coin_category)
    version = check_id("coin.coin_version", coin.coin_version)
    _check_type("coin.public_key", coin.public_key, bytes)
    _check_type("coin.signature", coin.signature, bytes)
    sizes = len(coin.public_key), len(coin.signature)
    wanted = tier.kem.public_size, tier.signer.signature_size
    if sizes != wanted:
        raise InvalidCoinError(
            f"a {coin.coin_category} coin has a public key and a signature of {wanted} bytes,"
            f" not {sizes}"
        )
    if version != tier.kem.version:
        raise InvalidCoinError(f"a {coin.coin_category} coin is of version {tier.kem.version!r}")
    message = _frame(_SIGNED, key_id, coin.coin_category, version, coin.public_key)
    try:
        tier.signer.verify(identity, coin.signature, message)
    except InvalidSignature:
        raise InvalidCoinError(
            "the signature doesn't match: the coin was altered, or another signer made it"
        ) from None
    with _refuse_coin(f"what was signed is not a public key of a {coin.coin_category} coin"):
        tier.kem.check_public(coin.public_key)


def seal(
    private_key: bytes,
    key: bytes,
    *,
    owner: str,
    key_id: str,
    coin_category: str,
    coin_version: str,
    random: Callable[[int], bytes] = os.urandom,
) -> SealedKey:
    """Encrypt a private half for the vault, with AES-256-GCM (NIST SP 800-38D).

    What the vault stores beside it is authenticated too, so a row can't be passed off as another.
    The nonce is random: seal at most 2**32 private halves under one key (SP 800-38D, 8.3).

    Args:
        private_key: 64 bytes for GOLD and SILVER, 32 for BRONZE.
        key: the caller's secret, 32 bytes.
        owner: whose vault it goes to.
        key_id: the coin's id.
        coin_category: its tier.
        coin_version: its format.
        random: gives as many random bytes as it is asked for.

    Raises:
        InvalidIdentifierError: the owner, key id or version isn't 1 to 256 bytes of UTF-8.
        InvalidCoinCategoryError: the tier is unknown.
        InvalidArgumentError: another argument is of the wrong type or length.
    """
    tier = _tier("coin_category", coin_category)
    _check_size("private_key", private_key, tier.kem.private_size)
    cipher = AESGCM(_check_size("key", key, _SEAL_KEY_SIZE))
    context = _frame(
        _SEALED,
        check_id("owner", owner),
        check_id("key_id", key_id),
        coin_category,
        check_id("coin_version", coin_version),
    )
    if not callable(random):
        raise InvalidArgumentError("random", f"must be callable, not {type(random).__name__}")
    nonce = _check_size("random", random(_NONCE_SIZE), _NONCE_SIZE)
    sealed = cipher.encrypt(nonce, private_key, context)
    return SealedKey(sealed[:-_TAG_SIZE], nonce, sealed[-_TAG_SIZE:])


def unseal(entry: VaultEntry, key: bytes, *, owner: str) -> bytes:
    """Decrypt a private half that the vault gave back.

    Args:
        entry: the vault's row.
        key: the secret that it was sealed under, 32 bytes.
        owner: whose vault it comes from.

    Returns:
        The private half: 64 bytes for GOLD and SILVER, 32 for BRONZE.

    Raises:
        InvalidCoinError: any field was altered or is another row's, the row was burned, or it was
            sealed under another key or for another owner.
        InvalidIdentifierError: the owner, or the entry's key id or version, isn't 1 to 256 bytes
            of UTF-8.
        InvalidCoinCategoryError: the entry's tier is unknown.
        InvalidArgumentError: another argument, or field of the entry, is of the wrong type.
    """
    _check_type("entry", entry, VaultEntry)
    cipher = AESGCM(_check_size("key", key, _SEAL_KEY_SIZE))
    context = _frame(
        _SEALED,
        check_id("owner", owner),
        check_id("entry.key_id", entry.key_id),
        check_category("entry.coin_category", entry.coin_category),
        check_id("entry.coin_version", entry.coin_version),
    )
    _check_type("entry.encrypted_blob", entry.encrypted_blob, bytes)
    _check_type("entry.encryption_iv", entry.encryption_iv, bytes)
    _check_type("entry.auth_tag", entry.auth_tag, bytes)
    # The cipher sees blob and tag joined: only their lengths keep the border where it was.
    sizes, wanted = (len(entry.encryption_iv), len(entry.auth_tag)), (_NONCE_SIZE, _TAG_SIZE)
    if sizes != wanted:
        raise InvalidCoinError(
            f"a sealed private half has an iv and a tag of {wanted} bytes, not {sizes}"
        )
    try:
        return cipher.decrypt(entry.encryption_iv, entry.encrypted_blob + entry.auth_tag, context)
    except InvalidTag:
        raise InvalidCoinError(
            "the private half doesn't open: it was altered or moved, or the key or owner is another"
        ) from None


def encapsulate(public_key: bytes, coin_category: str) -> Encapsulation:
    """Make a secret that only the owner of a verified coin can find.

    GOLD and SILVER: ML-KEM-768 (FIPS 203). BRONZE: X25519 (RFC 7748) with an ephemeral key, whose
    public half is the ciphertext, and HKDF-SHA256 (RFC 5869) over the result and both public keys.

    Args:
        public_key: the coin's, 1184 bytes for GOLD and SILVER, 32 for BRONZE.
        coin_category: the coin's tier.

    Raises:
        InvalidCoinError: it isn't a public key of this tier. Don't release such a coin: it would be
            selected, and fail, again.
        InvalidCoinCategoryError: the tier is unknown.
        InvalidArgumentError: the key isn't bytes.
    """
    tier = _tier("coin_category", coin_category)
    _check_type("public_key", public_key, bytes)
    with _refuse_coin(f"this is not a public key of a {coin_category} coin"):
        return tier.kem.encapsulate(public_key)


def decapsulate(private_key: bytes, coin_category: str, ciphertext: bytes) -> bytes:
    """Find the secret that a sender made with the coin's public half.

    A ciphertext of the right length that was tampered with gives *another secret*, not an error:
    ML-KEM rejects implicitly (FIPS 203, 6.3), and a changed X25519 key is another key. Only
    decrypting the message with the secret, authenticated, tells.

    Args:
        private_key: the coin's, 64 bytes for GOLD and SILVER, 32 for BRONZE.
        coin_category: the coin's tier.
        ciphertext: as it came.

    Returns:
        The secret, 32 bytes.

    Raises:
        InvalidCoinError: the ciphertext is malformed: of another length, or an X25519 key of
            small order.
        InvalidCoinCategoryError: the tier is unknown.
        InvalidArgumentError: the private key isn't bytes of the tier's length, or the ciphertext
            isn't bytes.
    """
    tier = _tier("coin_category", coin_category)
    _check_size("private_key", private_key, tier.kem.private_size)
    _check_type("ciphertext", ciphertext, bytes)
    with _refuse_coin(f"this is not a ciphertext for a {coin_category} coin"):
        return tier.kem.decapsulate(private_key, ciphertext)


# Sizes in bytes: FIPS 203 table 3, FIPS 204 table 2, RFC 7748, RFC 8032, NIST SP 800-38D.
_ED25519_PUBLIC_SIZE: Final = 32
_ML_DSA_44_PUBLIC_SIZE: Final = 1312
_SEED_SIZE: Final = 32
_SECRET_SIZE: Final = 32
_SEAL_KEY_SIZE: Final = 32
_NONCE_SIZE: Final = 12
_TAG_SIZE: Final = 16

# ML-KEM's modulus, and 3 polynomials of 256 coefficients with 12 bits each (FIPS 203, table 2).
_Q: Final = 3329
_COEFFICIENT_BYTES: Final = 3 * 256 * 12 // 8
_ONES: Final = int.from_bytes(b"\x01\0\0" * (_COEFFICIENT_BYTES // 3), "little")
"""1 in the place of every second coefficient."""
_EVERY_SECOND: Final = _ONES * 0xFFF
_UP_TO_CARRY: Final = _ONES * (0x1000 - _Q)
_CARRIES: Final = _ONES * 0x1000
_X25519_PRIME: Final = 2**255 - 19

# Each use of a key says what for, so that bytes made for one can't serve as another.
_SIGNED: Final = "aqm-db coin signature v1"
_SEALED: Final = "aqm-db sealed private half v1"
_AGREED: Final = "aqm-db x25519 hkdf-sha256 v1"


@dataclass(frozen=True, slots=True)
class _Kem:
    """A way to agree on a secret; ``generate`` gives the private and the public key, raw.

    ``check_public`` takes a public key of the right size, and refuses what is none.
    """

    name: str
    version: str
    private_size: int
    public_size: int
    generate: Callable[[], tuple[bytes, bytes]]
    check_public: Callable[[bytes], None]
    encapsulate: Callable[[bytes], Encapsulation]
    decapsulate: Callable[[bytes, bytes], bytes]


@dataclass(frozen=True, slots=True)
class _Signer:
    """A signature algorithm; ``verify`` takes signature and message."""

    name: str
    signature_size: int
    sign: Callable[[Identity, bytes], bytes]
    verify: Callable[[PublicIdentity, bytes, bytes], None]


@dataclass(frozen=True, slots=True)
class _Tier:
    kem: _Kem
    signer: _Signer


def _tier(argument: str, coin_category: object) -> _Tier:
    return _TIERS[check_category(argument, coin_category)]


def _check_type(argument: str, value: object, wanted: type[object]) -> None:
    if not isinstance(value, wanted):
        raise InvalidArgumentError(
            argument, f"must be {wanted.__name__}, not {type(value).__name__}"
        )


def _check_size(argument: str, value: bytes, size: int) -> bytes:
    _check_type(argument, value, bytes)
    if len(value) != size:
        raise InvalidArgumentError(argument, f"must be {size} bytes, not {len(value)}")
    return value


def _frame(*parts: str | bytes) -> bytes:
    """The parts, each after its length (4 bytes, big endian), so that no border can move."""
    encoded = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


class _MalformedError(Exception):
    """Some bytes are of no use; the cause, if any, says why, and holds none of them."""


@contextmanager
def _refuse_malformed() -> Generator[None]:
    """Tells what ``cryptography`` refuses from what goes wrong elsewhere."""
    try:
        yield
    except ValueError as error:
        raise _MalformedError from error


@contextmanager
def _refuse_coin(reason: str) -> Generator[None]:
    """Tells the caller of malformed bytes."""
    try:
        yield
    except _MalformedError:
        raise InvalidCoinError(reason) from None


def _raw_pair(key: MLKEM768PrivateKey | X25519PrivateKey) -> tuple[bytes, bytes]:
    return key.private_bytes_raw(), key.public_key().public_bytes_raw()


def _x25519_check(public_key: bytes) -> None:
    _x25519_agree(X25519PrivateKey.generate(), public_key)


def _x25519_encapsulate(public_key: bytes) -> Encapsulation:
    ephemeral = X25519PrivateKey.generate()
    ciphertext = ephemeral.public_key().public_bytes_raw()
    agreed = _x25519_agree(ephemeral, public_key)
    return Encapsulation(_x25519_secret(agreed, ciphertext, public_key), ciphertext)


def _x25519_decapsulate(private_key: bytes, ciphertext: bytes) -> bytes:
    key = X25519PrivateKey.from_private_bytes(private_key)
    with _refuse_malformed():
        agreed = key.exchange(X25519PublicKey.from_public_bytes(ciphertext))
    return _x25519_secret(agreed, ciphertext, key.public_key().public_bytes_raw())


def _x25519_agree(key: X25519PrivateKey, public_key: bytes) -> bytes:
    """The raw secret with a coin's public key; one of small order is refused by ``exchange``."""
    # Another spelling of the same point: the owner's half of the secret names the usual one, so a
    # message for this one could never be read.
    if int.from_bytes(public_key, "little") >= _X25519_PRIME:
        raise _MalformedError
    with _refuse_malformed():
        return key.exchange(X25519PublicKey.from_public_bytes(public_key))


def _x25519_secret(agreed: bytes, ciphertext: bytes, public_key: bytes) -> bytes:
    info = _frame(_AGREED, ciphertext, public_key)
    return HKDF(SHA256(), _SECRET_SIZE, salt=None, info=info).derive(agreed)


def _ml_kem_check(public_key: bytes) -> None:
    """The modulus check of FIPS 203, section 7.2; not every library that is built on makes it.

    The coefficients are 12 bits each (ByteDecode of section 4.2.1), and lie side by side in one
    number. Every second one is looked at at once: what is added carries over if it's too large.
    """
    coefficients = int.from_bytes(public_key[:_COEFFICIENT_BYTES], "little")
    for shift in (0, 12):
        if ((coefficients >> shift & _EVERY_SECOND) + _UP_TO_CARRY) & _CARRIES:
            raise _MalformedError


def _ml_kem_encapsulate(public_key: bytes) -> Encapsulation:
    _ml_kem_check(public_key)
    with _refuse_malformed():
        secret, ciphertext = MLKEM768PublicKey.from_public_bytes(public_key).encapsulate()
    return Encapsulation(secret, ciphertext)


def _ml_kem_decapsulate(private_key: bytes, ciphertext: bytes) -> bytes:
    key = MLKEM768PrivateKey.from_seed_bytes(private_key)
    with _refuse_malformed():
        return key.decapsulate(ciphertext)


_ML_KEM_768: Final = _Kem(
    name="ML-KEM-768",
    version="kyber768_v1",
    private_size=64,
    public_size=1184,
    generate=lambda: _raw_pair(MLKEM768PrivateKey.generate()),
    check_public=_ml_kem_check,
    encapsulate=_ml_kem_encapsulate,
    decapsulate=_ml_kem_decapsulate,
)
_X25519: Final = _Kem(
    name="X25519",
    version="x25519_v1",
    private_size=32,
    public_size=32,
    generate=lambda: _raw_pair(X25519PrivateKey.generate()),
    check_public=_x25519_check,
    encapsulate=_x25519_encapsulate,
    decapsulate=_x25519_decapsulate,
)
_ML_DSA_44: Final = _Signer(
    name="ML-DSA-44",
    signature_size=2420,
    sign=lambda identity, message: identity.ml_dsa_44.sign(message),
    verify=lambda identity, signature, message: MLDSA44PublicKey.from_public_bytes(
        identity.ml_dsa_44
    ).verify(signature, message),
)
_ED25519: Final = _Signer(
    name="Ed25519",
    signature_size=64,
    sign=lambda identity, message: identity.ed25519.sign(message),
    verify=lambda identity, signature, message: Ed25519PublicKey.from_public_bytes(
        identity.ed25519
    ).verify(signature, message),
)

_TIERS: Final[Mapping[CoinCategory, _Tier]] = {
    "GOLD": _Tier(_ML_KEM_768, _ML_DSA_44),
    "SILVER": _Tier(_ML_KEM_768, _ED25519),
    "BRONZE": _Tier(_X25519, _ED25519),
}

ALGORITHMS: Final[Mapping[str, Algorithms]] = {
    name: Algorithms(tier.kem.version, tier.kem.name, tier.signer.name)
    for name, tier in _TIERS.items()
}
"""What coins are made with, by tier."""
