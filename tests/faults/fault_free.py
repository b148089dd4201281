"""What a call does when nothing goes wrong, which is what it must have done in the end."""

from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from tests.faults.operations import Operation, pair_over
from tests.samples import snapshot

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
    _saved: list[tuple[bytes, int, Any]]

    @classmethod
    async def of(cls, operation: Operation, direct: Redis) -> Self:
        """Runs a call on a client, whose database is empty."""
        subject = await operation.prepare(*pair_over(direct))
        names: list[Any] = await direct.keys()
        saved: list[tuple[bytes, int, Any]] = [
            (name, max(await direct.pttl(name), 0), await direct.dump(name)) for name in names
        ]
        before = await snapshot(direct)
        answer = await operation.call(*pair_over(direct, REQUEST_ID), subject)
        return cls(subject, answer, before, await snapshot(direct), saved)

    async def begin(self, direct: Redis) -> None:
        """Makes the database what it was before the call."""
        async with direct.pipeline(transaction=False) as pipeline:
            pipeline.flushdb()
            for key, ttl, value in self._saved:
                pipeline.restore(key, ttl, value)
            await pipeline.execute()

    def harm(self, content: dict[Any, Any]) -> dict[str, int]:
        """What is lost or duplicated, for the table, if a database has this content in the end."""
        lost = any(content.get(key) != value for key, value in self.after.items())
        return {"lost": int(lost), "duplicated": int(not lost and content != self.after)}
