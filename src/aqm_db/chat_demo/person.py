"""Who takes part: their secrets, and where their things are."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aqm_db import coins

PAIR: Final = ("alice", "bob")

_SECRETS = "secrets"
_IDENTITY_BYTES = 64
_ED25519_BYTES = 32


@dataclass(frozen=True, slots=True)
class Person:
    """Alice or Bob.

    Attributes:
        name: who it is.
        directory: where their things are.
        identity: signs their coins and messages.
        vault_key: seals their private halves, 32 bytes.
        friend: whom they chat with.
        friends_identity: what the friend's coins and messages are verified with.
    """

    name: str
    directory: Path
    identity: coins.Identity = field(repr=False)
    vault_key: bytes = field(repr=False)
    friend: str
    friends_identity: coins.PublicIdentity

    @property
    def url(self) -> str:
        """Their database."""
        return f"embedded://{quote(str(self.database))}"

    @property
    def database(self) -> Path:
        """The directory of their database."""
        return self.directory.resolve() / "database"

    @property
    def outbox(self) -> Path:
        """What they sent."""
        return self.directory / "outbox"

    @property
    def log(self) -> Path:
        """What they read, and what they refused."""
        return self.directory / "log"


def make_people(root: Path, names: Sequence[str] = PAIR) -> None:
    """Makes two people who have met: each has the other's public identity from themselves.

    Args:
        root: a directory for each is made in it.
        names: who they are.
    """
    identities = {name: coins.Identity.generate() for name in names}
    for name, friend in zip(names, reversed(names), strict=True):
        directory = root / name
        directory.mkdir(mode=0o700)
        secrets = directory / _SECRETS
        secrets.touch(mode=0o600)
        # A real client keeps them in the system's keyring, or seals them with a passphrase.
        secrets.write_bytes(identities[name].private_bytes() + os.urandom(32))
        public = identities[friend].public
        (directory / friend).write_bytes(public.ed25519 + public.ml_dsa_44)


def load_person(root: Path, name: str) -> Person:
    """Reads one of the two, as :func:`make_people` made them."""
    [friend] = [other for other in PAIR if other != name]
    secrets = (root / name / _SECRETS).read_bytes()
    public = (root / name / friend).read_bytes()
    return Person(
        name,
        root / name,
        coins.Identity.from_private_bytes(secrets[:_IDENTITY_BYTES]),
        secrets[_IDENTITY_BYTES:],
        friend,
        coins.PublicIdentity(public[:_ED25519_BYTES], public[_ED25519_BYTES:]),
    )
