"""What is left of a chat in which all went well."""

from collections import Counter

from aqm_db.chat_demo.findings import Evidence, Read, Sent
from aqm_db.chat_demo.party import text_of
from aqm_db.types import Dashboard, StorageReport, VaultStats


def make_pair_of_evidence() -> tuple[Evidence, Evidence]:
    """What Alice and Bob leave when all went well."""
    return make_evidence("alice"), make_evidence("bob")


def make_evidence(name: str) -> Evidence:
    """What somebody leaves who has sent and read two messages."""
    friend = "bob" if name == "alice" else "alice"
    return Evidence(
        name,
        [Sent(f"{name}-{number}", f"{friend}-key-{number}", "GOLD") for number in (1, 2)],
        0,
        [
            Read(f"{friend}-{number}", f"{name}-key-{number}", text_of(friend, number))
            for number in (1, 2)
        ],
        Counter({"KeyNotFoundError": 1, "ForgedMessageError": 1}),
        make_dashboard(burned=2),
        [],
    )


def make_dashboard(burned: int) -> Dashboard:
    """A database where so many keys were burned."""
    return Dashboard(
        vault=VaultStats(0, 0, 0, burned, 0),
        inventory_storage=StorageReport(0, {}, 65_536, 0.0),
        replenish_needs={},
        contacts=[],
    )
