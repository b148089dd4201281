"""A database that is put back as it was, as often as a test wants."""

from typing import Any

from redis.asyncio import Redis

from aqm_db import config
from tests.support.samples import snapshot

_EXPIRY = config.VAULT_EXPIRY_KEY.encode()
_FORGOTTEN = config.INV_FORGOTTEN_KEY.encode()
_WATCHES = {b"vault:v1:watch", b"inv:v1:watch"}


async def read_content(client: Redis) -> dict[Any, Any]:
    """What a client's database holds, but for when it was written by the server's clock.

    When private halves end goes by that clock, whatever others say, and so do notes of it, and the
    end of what is remembered of a contact: no two runs of a call have that in common. What private
    halves are is told.
    """
    return {
        key: {member: score % 1 for member, score in value}
        # A test may have made something else of it.
        if key in {_EXPIRY, _FORGOTTEN} and isinstance(value, list)
        else value
        for key, value in (await snapshot(client)).items()
        if key not in _WATCHES
    }


class Kept:
    """What a client's database held when it was kept.

    Args:
        client: a client of the database.
    """

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._rows: dict[Any, Any] = {}

    async def keep(self) -> None:
        """Keeps what is there now."""
        keys: list[Any] = await self._client.keys()
        self._rows = {key: await self._client.dump(key) for key in keys}

    async def put_back(self) -> dict[Any, Any]:
        """Puts back what was kept (without times to live), and returns it as it is read."""
        await self.restore()
        return await self.content()

    async def restore(self) -> None:
        """Puts back what was kept (without times to live)."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.flushdb()
        for key, row in self._rows.items():
            pipeline.restore(key, 0, row)
        await pipeline.execute()

    async def content(self) -> dict[Any, Any]:
        """What is there, but for what the server's clock has shown."""
        found = await snapshot(self._client)
        return {key: value for key, value in found.items() if key not in _WATCHES}
