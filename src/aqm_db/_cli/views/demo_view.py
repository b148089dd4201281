"""The demo's story as text and tables, in 80 columns."""

from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from aqm_db._model.tiers import active_of, counts_of
from aqm_db.coins import ALGORITHMS, PublicCoin
from aqm_db.demo import Delivery, Home
from aqm_db.types import Dashboard, GCResult, HealthStatus, InventorySummary, StorageReport

from .tables import TIER_COLUMNS, describe_amounts, describe_budget, make_table, style_tier

_PROMISED_MS: Final = 2


class View:
    """Prints what the story tells.

    Args:
        console: where to.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps = 0

    def see_homes(self, alice: Home, bob: Home) -> None:
        """Where the two databases are."""
        self._console.print(Text("Ten messages, a one-time key for each", style="bold"))
        self._say(f"Alice: {alice.description}")
        self._say(f"Bob:   {bob.description}")

    def see_meeting(self, summary: InventorySummary, days_ago: int) -> None:
        """Alice cached somebody's coins some time ago."""
        self._begin_step(f"{days_ago} days ago, Alice cached {summary.contact_id.title()}'s coins")
        self._say(f"{_describe_stock(summary)}. She hasn't written since.")

    def see_minting(self, published: Sequence[PublicCoin]) -> None:
        """Bob has sealed the private halves, and published these."""
        self._begin_step(f"Bob mints {len(published)} coins")
        self._say("Private halves are sealed into his vault, public halves are published.")
        table = make_table("tier", ">coins", "key pair", "signature", ">public half")
        minted = Counter(coin.coin_category for coin in published)
        sizes = {coin.coin_category: _size_of(coin) for coin in published}
        for tier, count in minted.items():
            of = ALGORITHMS[tier]
            size = f"{sizes[tier]:,} B"
            table.add_row(style_tier(tier), str(count), of.key_pair, of.signature, size)
        self._show(table)

    def see_cache(self, summary: InventorySummary, storage: StorageReport) -> None:
        """Alice has verified what Bob published, and cached it."""
        self._begin_step(f"Alice verifies and caches {summary.contact_id.title()}'s coins")
        self._say(f"{_describe_stock(summary)}; {describe_budget(storage)}.")

    def see_talk(self, deliveries: Sequence[Delivery]) -> None:
        """All messages were sent and read."""
        self._begin_step("Alice writes, Bob reads and burns")
        table = make_table(">#", "wished", "coin", ">select_coin", ">on the wire", "Bob read")
        for number, delivery in enumerate(deliveries, 1):
            sent = delivery.sent
            table.add_row(
                str(number),
                style_tier(delivery.line.wish),
                style_tier(sent.coin_category),
                _format_duration(sent.select_ms),
                f"{sent.message.size:,} B",
                Text(delivery.read),
            )
        self._show(table)
        times = [delivery.sent.select_ms for delivery in deliveries]
        self._say(
            f"select_coin: p50 {median(times):.2f} ms, max {max(times):.2f} ms"
            f" (promised: under {_PROMISED_MS} ms)."
        )

    def see_forgery(self, number: int) -> None:
        """An altered copy of a message didn't open, and burned nothing."""
        self._say(
            f"Forged copy of message {number}: refused; use_key kept the key for the genuine one."
        )

    def see_replay(self, number: int) -> None:
        """A message came again, and its key was burned."""
        self._say(
            f"Replay of message {number}: refused; its key is burned (KeyAlreadyBurnedError)."
        )

    def see_shortage(self, needs: Mapping[str, int]) -> None:
        """There was no coin for another message; this is what to ask the server for."""
        self._begin_step("An 11th message finds no coin")
        self._say(f"To fetch from the server: {describe_amounts(needs)}.")

    def see_garbage(self, planned: GCResult, done: GCResult) -> None:
        """Garbage was collected, first as a dry run."""
        self._begin_step("Alice collects garbage")
        self._say(f"Dry run:   {_describe_garbage(planned)}")
        self._say(f"Collected: {_describe_garbage(done)}")

    def see_dashboards(self, alice: Dashboard, bob: Dashboard) -> None:
        """What is stored at the end."""
        self._begin_step("What is stored now")
        vaults = make_table("vault", *TIER_COLUMNS, ">burned", ">expired")
        contacts = make_table("contact", "priority", *TIER_COLUMNS, "to fetch")
        for name, dashboard in (("Alice's", alice), ("Bob's", bob)):
            stats = dashboard["vault"]
            numbers = (*active_of(stats).values(), stats.total_burned, stats.total_expired)
            vaults.add_row(name, *map(str, numbers))
            for summary in sorted(dashboard["contacts"], key=lambda summary: summary.contact_id):
                needs = dashboard["replenish_needs"].get(summary.contact_id, {})
                contacts.add_row(
                    f"{name} {summary.contact_id}",
                    summary.priority,
                    *map(str, counts_of(summary).values()),
                    describe_amounts(needs),
                )
            self._say(f"{name + ' cache:':14} {describe_budget(dashboard['inventory_storage'])}.")
        self._show(vaults)
        self._console.print()
        self._show(contacts)

    def see_health(self, name: str, status: HealthStatus) -> None:
        """Somebody's databases answer."""
        self._say(
            f"{name}: vault answers, {status.vault_key_count} Redis keys; "
            f"inventory answers, {status.inventory_key_count} Redis keys."
        )

    def show_end(self, left: str) -> None:
        """What is left, now that everything is closed."""
        self._console.print()
        self._say(left)

    def _begin_step(self, title: str) -> None:
        self._steps += 1
        self._console.print()
        self._console.print(Text(f"{self._steps}. {title}", style="bold"))

    def _say(self, line: str) -> None:
        # Unwrapped: a path or a call should come out whole when it's copied.
        self._console.print(Text(f"   {line}"), soft_wrap=True)

    def _show(self, table: Table) -> None:
        self._console.print(Padding.indent(table, 3))


def _format_duration(ms: float) -> Text:
    return Text(f"{ms:.2f} ms", style="green" if ms < _PROMISED_MS else "red")


def _size_of(coin: PublicCoin) -> int:
    return len(coin.public_key) + len(coin.signature)


def _describe_stock(summary: InventorySummary) -> str:
    return f"As a {summary.priority}: {describe_amounts(counts_of(summary))}"


def _describe_garbage(result: GCResult) -> str:
    return (
        f"contacts cleaned {result.contacts_cleaned}, coins deleted {result.keys_deleted}, "
        f"bytes freed {result.bytes_freed:,}."
    )
