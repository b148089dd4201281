"""What each of the two has written down, and whether it's what it must be."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from aqm_db import connect
from aqm_db.integrity import Problem
from aqm_db.types import Dashboard

from .journal import Journal
from .party import text_of
from .person import Person


@dataclass(frozen=True, slots=True)
class Sent:
    """A message in an outbox.

    Attributes:
        message_id: the message.
        key_id: the coin that it took.
        coin_category: the coin's tier.
    """

    message_id: str
    key_id: str
    coin_category: str


@dataclass(frozen=True, slots=True)
class Read:
    """A message in a log.

    Attributes:
        message_id: the message.
        key_id: the key that opened it.
        text: what was read.
    """

    message_id: str
    key_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """What somebody leaves.

    Attributes:
        name: who.
        sent: their outbox, in its order.
        resent: how many messages were sent again after a kill.
        read: what they read, in this order.
        refused: how many messages they refused, by the name of the error.
        dashboard: what is stored in their database.
        problems: what doesn't fit in it.
    """

    name: str
    sent: Sequence[Sent]
    resent: int
    read: Sequence[Read]
    refused: Counter[str]
    dashboard: Dashboard
    problems: Sequence[Problem]

    @property
    def tiers(self) -> Counter[str]:
        """How many coins were used, by tier."""
        return Counter(message.coin_category for message in self.sent)


async def collect_evidence(person: Person) -> Evidence:
    """Reads somebody's files and database."""
    with Journal(person.outbox) as records:
        outbox = list(records)
    with Journal(person.log) as records:
        log = list(records)
    async with connect(person.url) as db:
        dashboard = await db.reporter.get_full_dashboard()
        report = await db.check()
    return Evidence(
        person.name,
        [
            Sent(
                record["message"]["message_id"],
                record["message"]["key_id"],
                record["coin_category"],
            )
            for record in outbox
            if "message" in record
        ],
        sum("resent" in record for record in outbox),
        [Read(**record) for record in log if "text" in record],
        Counter(record["refused"] for record in log if "refused" in record),
        dashboard,
        report.problems,
    )


def find_problems(alice: Evidence, bob: Evidence, messages: int) -> list[str]:
    """What isn't as it must be, one sentence each; nothing if all is well.

    Args:
        alice: what she left.
        bob: what he left.
        messages: how many each has sent.
    """
    return [
        *_check_way(alice, bob, messages),
        *_check_way(bob, alice, messages),
        *_check_database(alice),
        *_check_database(bob),
    ]


def _check_way(writer: Evidence, reader: Evidence, messages: int) -> Iterator[str]:
    """Says what is wrong with the messages from one to the other."""
    way = f"{writer.name} to {reader.name}"
    expected = [text_of(writer.name, number) for number in range(1, messages + 1)]
    texts = [message.text for message in reader.read]
    known = set(texts)
    if missing := [text for text in expected if text not in known]:
        yield f"{way}: {len(missing)} messages were lost, the first is {missing[0]!r}"
    elif len(texts) > len(expected):
        yield f"{way}: {len(texts) - len(expected)} messages were read again"
    elif texts != expected:
        yield f"{way}: messages were read in another order"
    keys = [message.key_id for message in writer.sent]
    if len(set(keys)) < len(keys):
        yield f"{way}: {len(keys) - len(set(keys))} coins were used again"
    if [message.key_id for message in reader.read] != keys:
        yield f"{way}: the keys that were burned aren't those of the messages"
    burned = reader.dashboard["vault"].total_burned
    if burned != messages:
        yield f"{reader.name}'s vault: {burned} keys were burned for {messages} messages"


def _check_database(evidence: Evidence) -> Iterator[str]:
    for problem in evidence.problems:
        yield f"{evidence.name}'s {problem.database}: {problem.kind} at {problem.key}"
