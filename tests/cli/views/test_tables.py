"""Tiers as text."""

from aqm_db._cli.views.tables import TIER_COLUMNS, style_tier
from aqm_db._model.tiers import TIERS


def test_every_tier_has_a_colour_of_its_own() -> None:
    """A tier that only the database knows couldn't be shown."""
    assert len({str(style_tier(tier).style) for tier in TIERS}) == len(TIERS)
    assert TIER_COLUMNS == (">GOLD", ">SILVER", ">BRONZE")
