"""The demo's story for machines: one JSON object, written once it's over."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aqm_db._model.tiers import counts_of
from aqm_db.coins import PublicCoin
from aqm_db.demo import Delivery, Home
from aqm_db.types import Dashboard, GCResult, HealthStatus, InventorySummary, StorageReport

from .output import write


class Record:
    """Remembers what the story tells."""

    def __init__(self) -> None:
        self._told: dict[str, Any] = {}

    def homes(self, alice: Home, bob: Home) -> None:
        """Where the two databases are; a url may hold a password."""
        self._told["databases"] = {"alice": alice.description, "bob": bob.description}

    def met(self, summary: InventorySummary, days_ago: int) -> None:
        """Told by what is collected in the end."""

    def minted(self, published: Sequence[PublicCoin]) -> None:
        """How many coins Bob made, by tier."""
        self._told["minted"] = Counter(coin.coin_category for coin in published)

    def cached(self, summary: InventorySummary, storage: StorageReport) -> None:
        """How many of them Alice has, and how much room they take."""
        self._told["cached"] = counts_of(summary)
        self._told["cached_bytes"] = storage.total_bytes

    def talked(self, deliveries: Sequence[Delivery]) -> None:
        """Each message, by what it took."""
        self._told["messages"] = [
            {
                "wished": delivery.line.wish,
                "tier": delivery.sent.coin_category,
                "select_ms": round(delivery.sent.select_ms, 3),
                "bytes": delivery.sent.message.size,
                "read": delivery.read,
            }
            for delivery in deliveries
        ]

    def forgery_refused(self, number: int) -> None:
        """Which message an altered copy was of."""
        self._told["forged"] = number

    def replay_refused(self, number: int) -> None:
        """Which message came again."""
        self._told["replayed"] = number

    def ran_out(self, needs: Mapping[str, int]) -> None:
        """What to ask the server for."""
        self._told["to_fetch"] = dict(needs)

    def collected(self, planned: GCResult, done: GCResult) -> None:  # noqa: ARG002 - the same
        """What was garbage."""
        self._told["garbage"] = {
            "contacts_cleaned": done.contacts_cleaned,
            "coins_deleted": done.keys_deleted,
            "bytes_freed": done.bytes_freed,
        }

    def dashboards(self, alice: Dashboard, bob: Dashboard) -> None:
        """What is left in the vaults."""
        self._told["vaults"] = {"alice": asdict(alice["vault"]), "bob": asdict(bob["vault"])}

    def healthy(self, name: str, status: HealthStatus) -> None:
        """How many Redis keys each database holds."""
        keys = {"vault": status.vault_key_count, "inventory": status.inventory_key_count}
        self._told.setdefault("redis_keys", {})[name.lower()] = keys

    def closed(self, _: str) -> None:
        """Everything is over; what is left is where ``databases`` says."""
        write(self._told)
