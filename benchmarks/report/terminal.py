"""Draws ``status.svg``, what ``aqm-db status`` shows of a sample database.

``python -m benchmarks.report.terminal`` writes it anew.
"""

from io import StringIO
from pathlib import Path

from rich.console import Console

from aqm_db import config
from aqm_db._cli.commands.status import take_reading
from aqm_db._cli.views.status_view import render_reading
from aqm_db._model.defaults import now_ms
from aqm_db.sync import ClientDatabase, connect
from aqm_db.types import CoinCategory, Priority

PICTURE = Path(__file__).parent.parent / "status.svg"
_COLUMNS = 76
_WEEK_MS = 604_800_000
_COINS_TTL_MS = config.INV_COIN_TTL_SECONDS * 1000
_CONTACTS: dict[str, tuple[Priority, dict[CoinCategory, int]]] = {
    "@bob:example.org": ("BESTIE", {"GOLD": 5, "SILVER": 4, "BRONZE": 1}),
    "carol": ("MATE", {"SILVER": 4, "BRONZE": 4}),
    "dave": ("BESTIE", {"GOLD": 2, "SILVER": 3}),
    "erin": ("STRANGER", {}),
}
_KEYS: dict[CoinCategory, int] = {"GOLD": 15, "SILVER": 18, "BRONZE": 3}
_BURNED = 7


def draw_picture() -> str:
    """The picture."""
    with connect("memory://") as db:
        _fill(db)
        console = Console(record=True, width=_COLUMNS, file=StringIO(), highlight=False)
        console.print(render_reading(take_reading(db)))
    return console.export_svg(title="aqm-db status")


def _fill(db: ClientDatabase) -> None:
    for tier, count in _KEYS.items():
        for number in range(count):
            db.vault.store_key(f"{tier} {number}", tier, b"sealed", b"nonce", b"tag")
    for number in range(_BURNED):
        db.vault.store_key(f"burned {number}", "GOLD", b"sealed", b"nonce", b"tag")
        db.vault.burn_key(f"burned {number}")
    now = now_ms()
    for contact_id, (priority, stock) in _CONTACTS.items():
        db.inventory.register_contact(contact_id, priority)
        # Carol's coins were fetched long ago.
        left = _WEEK_MS if contact_id == "carol" else _COINS_TTL_MS
        for tier, count in stock.items():
            for number in range(count):
                db.inventory.store_key(
                    contact_id,
                    f"{tier} {number}",
                    tier,
                    b"public",
                    b"signed",
                    expires_at=now + left,
                )


def main() -> None:
    """Writes the picture."""
    PICTURE.write_text(draw_picture(), "utf-8")


if __name__ == "__main__":
    main()
