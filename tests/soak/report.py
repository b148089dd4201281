"""What the soak tells in the end: a compact table."""

from collections import Counter
from collections.abc import Iterator

from tests.soak.director import Director
from tests.soak.growth import bound_of, split_weeks
from tests.soak.ledger import USED


def make_report(director: Director, days: int) -> str:
    """What became of everything in so many days, and what was measured."""
    return "\n".join(
        [f"{days} days", *_tell_counts(director), "", *_tell_measures(director.measured)]
    )


def _tell_counts(director: Director) -> Iterator[str]:
    ledger = director.ledger
    coins = ledger.coins.values()
    messages = ledger.messages.values()
    counts = Counter(
        {
            "coins minted": len(coins),
            "coins handed out": sum(coin.state == USED for coin in coins),
            "messages sent": len(messages),
            "messages read": sum(message.reads == 1 for message in messages),
        }
    )
    counts.update(f"coin: refused, {coin.refused}" for coin in coins if coin.refused)
    counts.update(ledger.reasons)
    counts.update(ledger.events)
    for name, count in counts.items():
        yield f"{count:>10,}  {name}"


def _tell_measures(measured: dict[str, list[float]]) -> Iterator[str]:
    yield f"{'earlier':>14} {'later':>14} {'bound':>14}  the most that was measured in a week"
    for name, weeks in sorted(measured.items()):
        earlier, later = split_weeks(weeks)
        if later:
            numbers = (max(earlier), max(later), bound_of(name, earlier))
            yield " ".join(f"{number:>14,.0f}" for number in numbers) + f"  {name}"
