"""Whatever went wrong is found."""

from dataclasses import replace

from aqm_db.chat_demo.findings import find_problems
from aqm_db.integrity import Problem
from tests.support.chat_evidence import make_dashboard, make_pair_of_evidence


def test_all_is_well() -> None:
    """Nothing to say."""
    assert find_problems(*make_pair_of_evidence(), 2) == []


def test_a_lost_message() -> None:
    """Which, and how many."""
    alice, bob = make_pair_of_evidence()
    problems = find_problems(alice, replace(bob, read=bob.read[1:]), 2)
    assert problems[0] == 'alice to bob: 1 messages were lost, the first is "Alice\'s message 1"'


def test_a_message_that_was_read_again() -> None:
    """How many."""
    alice, bob = make_pair_of_evidence()
    problems = find_problems(replace(alice, read=[*alice.read, alice.read[0]]), bob, 2)
    assert problems[0] == "bob to alice: 1 messages were read again"


def test_another_order() -> None:
    """All of them, and none twice."""
    alice, bob = make_pair_of_evidence()
    problems = find_problems(alice, replace(bob, read=bob.read[::-1]), 2)
    assert problems[0] == "alice to bob: messages were read in another order"


def test_a_coin_that_was_used_again() -> None:
    """In the sender's outbox."""
    alice, bob = make_pair_of_evidence()
    first, second = alice.sent
    sent = [first, replace(second, key_id=first.key_id)]
    assert find_problems(replace(alice, sent=sent), bob, 2) == [
        "alice to bob: 1 coins were used again",
        "alice to bob: the keys that were burned aren't those of the messages",
    ]


def test_a_key_that_was_not_burned() -> None:
    """As the vault counts."""
    alice, bob = make_pair_of_evidence()
    assert find_problems(alice, replace(bob, dashboard=make_dashboard(burned=1)), 2) == [
        "bob's vault: 1 keys were burned for 2 messages"
    ]


def test_a_database_that_does_not_fit() -> None:
    """As its check says."""
    alice, bob = make_pair_of_evidence()
    problem = Problem("wrong_counter", "vault", "vault:v1:stats", "off by one", repaired=False)
    assert find_problems(replace(alice, problems=[problem]), bob, 2) == [
        "alice's vault: wrong_counter at vault:v1:stats"
    ]
