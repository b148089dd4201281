"""The demo's story for machines: one JSON object."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aqm_db._model.tiers import counts_of
from aqm_db.coins import PublicCoin
from aqm_db.demo import Delivery, Home
from aqm_db.types import Dashboard, GCResult, HealthStatus, InventorySummary, StorageReport


class Record:
    """Remembers what the story tells.

    Attributes:
        content: the object, once it's over.
    """

    def __init__(self) -> None:
        self.content: dict[str, Any] = {}

    def see_homes(self, alice: Home, bob: Home) -> None:
        """Where the two databases are; a url may hold a password."""
        self.content["databases"] = {"alice": alice.description, "bob": bob.description}

    def see_meeting(self, summary: InventorySummary, days_ago: int) -> None:
        """Told by what is collected in the end."""

    def see_minting(self, published: Sequence[PublicCoin]) -> None:
        """How many coins Bob made, by tier."""
        self.content["minted"] = Counter(coin.coin_category for coin in published)

    def see_cache(self, summary: InventorySummary, storage: StorageReport) -> None:
        """How many of them Alice has, and how much room they take."""
        self.content["cached"] = counts_of(summary)
        self.content["cached_bytes"] = storage.total_bytes

    def see_talk(self, deliveries: Sequence[Delivery]) -> None:
        """Each message, by what it took."""
        self.content["messages"] = [
            {
                "wished": delivery.line.wish,
                "tier": delivery.sent.coin_category,
                "select_ms": round(delivery.sent.select_ms, 3),
                "bytes": delivery.sent.message.size,
                "read": delivery.read,
            }
            for delivery in deliveries
        ]

    def see_forgery(self, number: int) -> None:
        """Which message an altered copy was of."""
        self.content["forged"] = number

    def see_replay(self, number: int) -> None:
        """Which message came again."""
        self.content["replayed"] = number

    def see_shortage(self, needs: Mapping[str, int]) -> None:
        """What to ask the server for."""
        self.content["to_fetch"] = dict(needs)

    def see_garbage(self, planned: GCResult, done: GCResult) -> None:  # noqa: ARG002 - the same
        """What was garbage."""
        self.content["garbage"] = {
            "contacts_cleaned": done.contacts_cleaned,
            "coins_deleted": done.keys_deleted,
            "bytes_freed": done.bytes_freed,
        }

    def see_dashboards(self, alice: Dashboard, bob: Dashboard) -> None:
        """What is left in the vaults."""
        self.content["vaults"] = {"alice": asdict(alice["vault"]), "bob": asdict(bob["vault"])}

    def see_health(self, name: str, status: HealthStatus) -> None:
        """How many Redis keys each database holds."""
        keys = {"vault": status.vault_key_count, "inventory": status.inventory_key_count}
        self.content.setdefault("redis_keys", {})[name.lower()] = keys
