"""Outlives its process."""

from pathlib import Path

import pytest

from aqm_db.chat_demo.journal import Journal

pytestmark = pytest.mark.asyncio


async def test_there_and_back(root: Path) -> None:
    """In order, also while it's open."""
    with Journal(root / "journal") as journal:
        journal.append({"a": 1})
        journal.append({"b": "ä\n"})
        assert list(journal) == [{"a": 1}, {"b": "ä\n"}]
    with Journal(root / "journal") as journal:
        assert list(journal) == [{"a": 1}, {"b": "ä\n"}]


async def test_a_line_without_an_end_never_counted(root: Path) -> None:
    """It's cut off, and the next one stands alone."""
    (root / "journal").write_text('{"a": 1}\n{"b": ')
    with Journal(root / "journal") as journal:
        journal.append({"c": 3})
        assert list(journal) == [{"a": 1}, {"c": 3}]
