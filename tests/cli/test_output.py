"""What commands write holds no secrets, and no command to a terminal."""

from aqm_db import sync
from tests.support.backends import VALKEY_9, RunningServer
from tests.support.run_commands import run_command


def test_what_others_wrote_is_no_command_to_the_terminal() -> None:
    """Ids and names are somebody else's: control characters are escaped, long ones are cut."""
    with RunningServer(VALKEY_9) as server:
        url = f"unix://{server.socket_path}"
        with sync.connect(url) as db:
            db.inventory.register_contact("\x1b[2J[red]\n", "MATE", "\x07bell\u202e")
            db.inventory.register_contact("x" * 256, "MATE", "y" * 300)
        for command in (["status"], ["contacts"], ["contact", "\x1b[2J[red]\n"]):
            ran = run_command(*command, "--url", url)
            assert "\\x1b[2J[red]\\n" in ran.out
            assert not set(ran.out) & {"\x1b", "\x07", "\u202e"}
            assert "x" * 21 not in ran.out
        assert "\\x07bell\\u202e" in run_command("contacts", "--url", url).out
        assert run_command("contacts", "--url", url, "--json").out.isascii()


def test_no_command_shows_key_material(server: RunningServer) -> None:
    """Neither text nor JSON."""
    canary = b"canary"
    url = f"unix://{server.socket_path}"
    with sync.connect(url) as db:
        db.vault.store_key("k", "GOLD", canary, canary, canary)
        db.inventory.register_contact("bob", "BESTIE")
        db.inventory.store_key("bob", "c", "GOLD", canary, canary)
    for command in (["status"], ["contacts"], ["contact", "bob"], ["gc", "--dry-run"]):
        for form in ([], ["--json"]):
            ran = run_command(*command, *form, "--url", url)
            assert ran.code == 0
            assert "canary" not in ran.out + ran.err
