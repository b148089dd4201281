"""What ``aqm-db demo`` runs, once its extras are there."""

from pathlib import Path

from aqm_db.demo import tell

from .demo_homes import kept, on_server, temporary
from .demo_record import Record
from .demo_view import View
from .output import PlainConsole


async def play(url: str | None, owner: str, keep: Path | None, *, json: bool) -> None:
    """Tells the story on a server, in a directory that's kept, or in a temporary one."""
    if url is not None:
        homes = on_server(url, owner)
    elif keep is not None:
        homes = kept(keep)
    else:
        homes = temporary()
    view = Record() if json else View(PlainConsole())
    async with homes as opened:
        await tell(opened.alice, opened.bob, view)
    view.closed(opened.left)
