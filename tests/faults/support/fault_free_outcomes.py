"""What a call does when nothing goes wrong, which is what it must have done in the end."""

from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from tests.faults.support.restored_database import Kept, read_content
from tests.faults.support.tried_calls import Operation, pair_over

REQUEST_ID = "again"


@dataclass(frozen=True)
class FaultFree:
    """A call's run on a good link.

    Attributes:
        subject: what the call is about.
        answer: what it returned.
        before: the database's content before it.
        after: and after it.
    """

    subject: Any
    answer: Any
    before: dict[Any, Any]
    after: dict[Any, Any]
    _kept: Kept

    @classmethod
    async def of(cls, operation: Operation, direct: Redis) -> Self:
        """Runs a call on a client, whose database is empty."""
        subject = await operation.prepare(*pair_over(direct))
        kept = Kept(direct)
        await kept.keep()
        before = await read_content(direct)
        answer = await operation.call(*pair_over(direct, REQUEST_ID), subject)
        return cls(subject, answer, before, await read_content(direct), kept)

    async def begin(self) -> None:
        """Makes the database what it was before the call."""
        await self._kept.restore()

    def harm(self, content: dict[Any, Any]) -> dict[str, int]:
        """What is lost or duplicated, for the table, if a database has this content in the end."""
        lost = any(content.get(key) != value for key, value in self.after.items())
        return {"lost": int(lost), "duplicated": int(not lost and content != self.after)}
