"""``aqm-db contacts``, ``contact`` and ``set-priority``."""

import json
from typing import Any

import pytest

from aqm_db import sync
from aqm_db.types import InventorySummary
from tests.support.backends import RunningServer
from tests.support.run_commands import (
    BOB_CAPS,
    BOB_STOCK,
    NOW,
    fill_database,
    read_summary,
    run_command,
)

BOB = {
    "contact_id": "bob",
    "display_name": "Bob",
    "priority": "BESTIE",
    "last_msg_at": NOW,
    "stock": BOB_STOCK,
    "caps": BOB_CAPS,
}


def test_contacts(server: RunningServer) -> None:
    """Everybody, in the order of their ids."""
    url = f"unix://{server.socket_path}"
    fill_database(url)
    ran = run_command("contacts", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert ran.lines() == [
        "contact  name  priority  GOLD  SILVER  BRONZE  last message",
        "───────────────────────────────────────────────────────────",
        "bob      Bob   BESTIE       5       2       0  2027-01-15",
        "carol          MATE         0       0       4  2027-01-15",
        "mallory        STRANGER     0       0       0  2027-01-15",
    ]
    shown = json.loads(run_command("contacts", "--url", url, "--json").out)
    assert [contact["contact_id"] for contact in shown["contacts"]] == ["bob", "carol", "mallory"]
    assert shown["contacts"][0] == BOB


def test_nobody() -> None:
    """An empty list is said to be one."""
    assert run_command("contacts", "--url", "memory://").out == "No contacts.\n"
    assert json.loads(run_command("contacts", "--url", "memory://", "--json").out) == {
        "contacts": []
    }


def test_contacts_that_are_malformed_or_gone(
    server: RunningServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are left out; who was forgotten meanwhile silently."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:carol", "last_msg_at", "yesterday")
    read = sync.SmartInventory.get_contact_meta

    def get_contact_meta(inventory: sync.SmartInventory, contact_id: str) -> Any:
        return None if contact_id == "mallory" else read(inventory, contact_id)

    monkeypatch.setattr(sync.SmartInventory, "get_contact_meta", get_contact_meta)
    ran = run_command("contacts", "--url", url, "--json")
    assert [contact["contact_id"] for contact in json.loads(ran.out)["contacts"]] == ["bob"]
    assert ran.err == (
        "aqm-db: contact 'carol': field last_msg_at is missing or malformed; "
        "'aqm-db check' says more\n"
    )


def test_contact(server: RunningServer) -> None:
    """One contact, in full."""
    url = f"unix://{server.socket_path}"
    fill_database(url)
    assert run_command("contact", "bob", "--url", url).lines() == [
        "contact       bob",
        "name          Bob",
        "priority      BESTIE",
        "last message  2027-01-15 08:00 UTC",
        "GOLD          █████ 5/5",
        "SILVER        ██░░░ 2/4",
        "BRONZE        ░░░░░ 0/1",
    ]
    assert json.loads(run_command("contact", "bob", "--url", url, "--json").out) == BOB


def test_a_time_that_no_calendar_has(server: RunningServer, url: str) -> None:
    """It is shown as the number that it is."""
    with server.sync_client(1) as client:
        client.hset("inv:v1:meta:bob", "last_msg_at", str(10**15 - 1))
    assert f"{10**15 - 1} ms" in run_command("contact", "bob", "--url", url).out


def test_an_unknown_contact() -> None:
    """One line says who, and how to find out who there is."""
    ran = run_command("contact", "bobby", "--url", "memory://")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == (
        "aqm-db: contact 'bobby' is not registered; 'aqm-db contacts' lists who is\n"
    )


def test_a_downgrade(url: str) -> None:
    """It drops what is above the new caps."""
    ran = run_command("set-priority", "bob", "mate", "--yes", "--url", url)
    assert (ran.code, ran.out) == (0, "bob is a MATE now; 5 coins dropped.\n")
    assert read_summary(url, "bob") == InventorySummary("bob", 0, 2, 0, "MATE")


def test_an_upgrade(url: str) -> None:
    """It drops nothing, and so asks nothing."""
    ran = run_command("set-priority", "carol", "BESTIE", "--json", "--url", url)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"contact_id": "carol", "priority": "BESTIE", "coins_dropped": 0}
    # Above the cap of a BESTIE.
    assert read_summary(url, "carol") == InventorySummary("carol", 0, 0, 4, "BESTIE")


def test_a_wrong_priority(url: str) -> None:
    """One line names those that there are."""
    ran = run_command("set-priority", "bob", "enemy", "--url", url)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == ("aqm-db: priority: must be 'BESTIE', 'MATE' or 'STRANGER', not 'ENEMY'\n")
