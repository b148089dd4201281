"""The demo's story as text and tables, in 80 columns."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aqm_db._model.tiers import counts_of
from aqm_db.coins import PublicCoin
from aqm_db.demo import Delivery, Home
from aqm_db.types import Dashboard, GCResult, HealthStatus, InventorySummary, StorageReport

from .tables import amounts, budget, table_of, tier

_ALGORITHMS: Final[Mapping[str, tuple[str, str]]] = {
    "GOLD": ("ML-KEM-768", "ML-DSA-44"),
    "SILVER": ("ML-KEM-768", "Ed25519"),
    "BRONZE": ("X25519", "Ed25519"),
}
_PROMISED_MS: Final = 2


class View:
    """Prints what the story tells.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0

    def homes(self, alice: Home, bob: Home) -> None:
        """Where the two databases are."""
        self._console.print(Text("Ten messages, a one-time key for each", style="bold"))
        self._say(f"Alice: {alice.description}")
        self._say(f"Bob:   {bob.description}")

    def met(self, summary: InventorySummary, days_ago: int) -> None:
        """Alice cached somebody's coins some time ago."""
        self._step(f"{days_ago} days ago, Alice cached {summary.contact_id.title()}'s coins")
        self._say(
            f"As a {summary.priority}: {amounts(counts_of(summary))}. She hasn't written since."
        )

    def minted(self, published: Sequence[PublicCoin]) -> None:
        """Bob has sealed the private halves, and published these."""
        self._step(f"Bob mints {len(published)} coins")
        self._say("Private halves are sealed into his vault, public halves are published.")
        table = table_of("tier", ">coins", "key pair", "signature", ">public half")
        minted = Counter(coin.coin_category for coin in published)
        sizes = {coin.coin_category: _size(coin) for coin in published}
        for name, count in minted.items():
            table.add_row(tier(name), str(count), *_ALGORITHMS[name], f"{sizes[name]:,} B")
        self._show(table)

    def cached(self, summary: InventorySummary, storage: StorageReport) -> None:
        """Alice has verified what Bob published, and cached it."""
        self._step(f"Alice verifies and caches {summary.contact_id.title()}'s coins")
        self._say(f"As a {summary.priority}: {amounts(counts_of(summary))}; {budget(storage)}.")

    def talked(self, deliveries: Sequence[Delivery]) -> None:
        """All messages were sent and read."""
        self._step("Alice writes, Bob reads and burns")
        table = table_of(">#", "wished", "coin", ">select_coin", ">on the wire", "Bob read")
        for number, delivery in enumerate(deliveries, 1):
            sent = delivery.sent
            table.add_row(
                str(number),
                tier(delivery.line.wish),
                tier(sent.coin_category),
                _duration(sent.select_ms),
                f"{sent.message.size:,} B",
                Text(delivery.read),
            )
        self._show(table)
        times = [delivery.sent.select_ms for delivery in deliveries]
        self._say(
            f"select_coin: p50 {median(times):.2f} ms, max {max(times):.2f} ms"
            f" (promised: under {_PROMISED_MS} ms)."
        )

    def forgery_refused(self, number: int) -> None:
        """An altered copy of a message didn't open, and burned nothing."""
        self._say(
            f"Forged copy of message {number}: refused; use_key kept the key for the genuine one."
        )

    def replay_refused(self, number: int) -> None:
        """A message came again, and its key was burned."""
        self._say(
            f"Replay of message {number}: refused; its key is burned (KeyAlreadyBurnedError)."
        )

    def ran_out(self, needs: Mapping[str, int]) -> None:
        """There was no coin for another message; this is what to ask the server for."""
        self._step("An 11th message finds no coin")
        self._say(f"To fetch from the server: {amounts(needs)}.")

    def collected(self, planned: GCResult, done: GCResult) -> None:
        """Garbage was collected, first as a dry run."""
        self._step("Alice collects garbage")
        self._say(f"Dry run:   {_garbage(planned)}")
        self._say(f"Collected: {_garbage(done)}")

    def dashboards(self, alice: Dashboard, bob: Dashboard) -> None:
        """What is stored at the end."""
        self._step("What is stored now")
        vaults = table_of("vault", ">GOLD", ">SILVER", ">BRONZE", ">burned", ">expired")
        contacts = table_of("contact", "priority", ">GOLD", ">SILVER", ">BRONZE", "to fetch")
        for name, dashboard in (("Alice's", alice), ("Bob's", bob)):
            stats = dashboard["vault"]
            active = stats.active_gold, stats.active_silver, stats.active_bronze
            vaults.add_row(name, *map(str, (*active, stats.total_burned, stats.total_expired)))
            for summary in sorted(dashboard["contacts"], key=lambda summary: summary.contact_id):
                needs = dashboard["replenish_needs"].get(summary.contact_id, {})
                contacts.add_row(
                    f"{name} {summary.contact_id}",
                    summary.priority,
                    *map(str, counts_of(summary).values()),
                    amounts(needs),
                )
            self._say(f"{name + ' cache:':14} {budget(dashboard['inventory_storage'])}.")
        self._show(vaults)
        self._console.print()
        self._show(contacts)

    def healthy(self, name: str, status: HealthStatus) -> None:
        """Somebody's databases answer."""
        self._say(
            f"{name}: vault answers, {status.vault_key_count} Redis keys; "
            f"inventory answers, {status.inventory_key_count} Redis keys."
        )

    def closed(self, left: str) -> None:
        """What is left, now that everything is closed."""
        self._console.print()
        self._say(left)

    def _step(self, title: str) -> None:
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {title}", style="bold"))

    def _say(self, line: str) -> None:
        # Unwrapped: a path or a call should come out whole when it's copied.
        self._console.print(Text(f"   {line}"), soft_wrap=True)

    def _show(self, table: Table) -> None:
        self._console.print(Padding.indent(table, 3))


def _duration(ms: float) -> Text:
    return Text(f"{ms:.2f} ms", style="green" if ms < _PROMISED_MS else "red")


def _size(coin: PublicCoin) -> int:
    return len(coin.public_key) + len(coin.signature)


def _garbage(result: GCResult) -> str:
    return (
        f"contacts cleaned {result.contacts_cleaned}, coins deleted {result.keys_deleted}, "
        f"bytes freed {result.bytes_freed:,}."
    )
