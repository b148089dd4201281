"""What shows that a round did its work."""

from collections.abc import Sequence
from typing import Any

from aqm_db._lua.loader import Code


def distinct(ids: Sequence[object]) -> None:
    """Everyone got a coin, and nobody another's."""
    assert None not in ids, "a call got no coin"
    assert len(set(ids)) == len(ids), "a coin was handed out twice"


def all_true(results: Sequence[object]) -> None:
    """Every call said that it did its work."""
    assert all(results), "a call didn't do its work"


def all_stored(batches: Sequence[Sequence[object]]) -> None:
    """Every item of every batch was stored, and none gave an error."""
    assert all(stored is True for batch in batches for stored in batch), "an item wasn't stored"


def entries(results: Sequence[Any]) -> None:
    """What ``select_coin`` returned is as many coins."""
    distinct([entry and entry.key_id for entry in results])


def script_coins(replies: Sequence[Any]) -> None:
    """What the script of ``select_coin`` replied is as many coins."""
    distinct([reply[3] if reply[3:] else None for reply in replies])


def script_ok(replies: Sequence[Any]) -> None:
    """No script refused."""
    assert all(reply[0] == Code.OK for reply in replies), "a script refused"
