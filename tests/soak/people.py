"""Who takes part in the soak: their secrets, and whom they know."""

import json
import os
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path

from aqm_db import coins

NAMES = ("alice", "bob", "carol")


@dataclass(frozen=True, slots=True)
class Secrets:
    """One of them.

    Attributes:
        name: who it is.
        directory: where their things are.
        identity: signs their coins and messages.
        vault_key: seals their private halves.
        friends: the others.
        identities: what the others' coins and messages are verified with.
    """

    name: str
    directory: Path
    identity: coins.Identity = field(repr=False)
    vault_key: bytes = field(repr=False)
    friends: tuple[str, ...]
    identities: dict[str, coins.PublicIdentity]


def make_people(root: Path) -> None:
    """Makes people who have met, each with a directory."""
    identities = {name: coins.Identity.generate() for name in NAMES}
    public = {
        name: [_encode(identity.public.ed25519), _encode(identity.public.ml_dsa_44)]
        for name, identity in identities.items()
    }
    for name, identity in identities.items():
        (root / name).mkdir()
        secrets = {
            "identity": _encode(identity.private_bytes()),
            "vault_key": _encode(os.urandom(32)),
            "public": public,
        }
        (root / name / "secrets").write_text(json.dumps(secrets), "ascii")


def read_secrets(root: Path, name: str) -> Secrets:
    """Reads one of them, as :func:`make_people` made them."""
    directory = root / name
    secrets = json.loads((directory / "secrets").read_text("ascii"))
    return Secrets(
        name,
        directory,
        coins.Identity.from_private_bytes(b64decode(secrets["identity"])),
        b64decode(secrets["vault_key"]),
        tuple(other for other in NAMES if other != name),
        {
            other: coins.PublicIdentity(*map(b64decode, halves))
            for other, halves in secrets["public"].items()
        },
    )


def _encode(value: bytes) -> str:
    return b64encode(value).decode()
