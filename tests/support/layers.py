"""What a test puts between a database and its server."""

from typing import Any

from aqm_db._io.seam import Command, Seam


class Passing:
    """A layer that passes everything on.

    Args:
        behind: what is behind it.
    """

    def __init__(self, behind: Seam) -> None:
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._behind, name)

    async def read(self, *commands: Command) -> list[Any]:
        """Passes reading commands on."""
        return await self._behind.read(*commands)
