"""What the shell completes."""

import typer

from aqm_db.config import BUDGET_CAPS
from aqm_db.errors import AQMDatabaseError

from .opening import opened


def priorities(incomplete: str) -> list[str]:
    """The priorities that begin so, in the case that was begun with."""
    names = [name.lower() if incomplete.islower() else name for name in BUDGET_CAPS]
    return [name for name in names if name.startswith(incomplete)]


def contact_ids(context: typer.Context, incomplete: str) -> list[str]:
    """The ids of contacts that begin so; none where the database can't be asked."""
    url, owner = (context.params.get(name) for name in ("url", "owner"))
    try:
        with opened(url, owner, allow_unsafe=True) as db:
            found = {contact_id for page in db.inventory.contact_pages() for contact_id in page}
    except AQMDatabaseError:
        return []
    return sorted(contact_id for contact_id in found if contact_id.startswith(incomplete))
