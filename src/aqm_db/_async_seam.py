"""The seam over ``redis.asyncio``: retries, NOSCRIPT, errors and cancellation."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any, TypeAlias, cast

import redis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from ._channel import CancelledAfterSending, channel_of
from ._failures import Kind, LinkFailure, error_for, failure_in, kind_of
from ._seam import SCAN_COUNT, Argument, Call, Reply, Undo, packed
from .errors import AQMDatabaseError, CorruptEntryError, UnavailableError

AsyncClient: TypeAlias = Redis
_log = logging.getLogger("aqm_db")


class AsyncSeam:
    """A :class:`~aqm_db._seam.Seam` over a client of the caller's.

    Args:
        client: a ``redis.asyncio.Redis`` that returns bytes.
        unavailable: what is raised when the server can't be reached.
        user: the class that the client was passed to, for the error if it's of the wrong kind.
    """

    def __init__(self, client: AsyncClient, unavailable: type[UnavailableError], user: str) -> None:
        _check_client(client, user)
        self._client = client
        self._channel = channel_of(client)
        self._unavailable = unavailable

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._seam.Seam`."""
        try:
            return await self._run(call)
        except CancelledAfterSending as cancelled:
            await self._settle(call, undo)
            raise asyncio.CancelledError(*cancelled.args) from None

    async def run_all(self, calls: Sequence[Call]) -> list[Reply | CorruptEntryError]:
        """See :class:`~aqm_db._seam.Seam`."""
        replies = await self._ask([_evalsha(call) for call in calls])
        for position, reply in enumerate(replies):
            if isinstance(reply, RedisError):
                try:
                    replies[position] = await self._rescued(calls[position], reply)
                except CorruptEntryError as corrupt:
                    replies[position] = corrupt
        return replies

    async def read(self, *commands: Sequence[Argument]) -> list[Any]:
        """See :class:`~aqm_db._seam.Seam`."""
        replies = await self._ask([packed(*command) for command in commands])
        for position, reply in enumerate(replies):
            if isinstance(reply, RedisError):
                error = error_for(reply, str(commands[position][0]))
                if not isinstance(error, CorruptEntryError):
                    raise error from None
                replies[position] = error
        return replies

    async def scan(self, pattern: str) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._seam.Seam`."""
        cursor = b"0"
        while True:
            [[cursor, page]] = await self.read(
                ("SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_COUNT)
            )
            if page:
                yield page
            if cursor == b"0":
                return

    async def aclose(self) -> None:
        """Waits for what is in flight, and gives the connection back to the client's pool."""
        await self._channel.aclose()

    async def _run(self, call: Call) -> Reply:
        [reply] = await self._ask((_evalsha(call),))
        if isinstance(reply, RedisError):
            return await self._rescued(call, reply)
        return cast("Reply", reply)

    async def _rescued(self, call: Call, refusal: RedisError) -> Reply:
        """Runs a script that the server doesn't have, which is the one refusal to be mended."""
        script, keys, arguments = call
        if kind_of(refusal) is not Kind.NO_SCRIPT:
            raise error_for(refusal, script.name) from None
        [reply] = await self._ask(
            (packed("EVAL", script.source, script.key_count, *keys, *arguments),)
        )
        if isinstance(reply, RedisError):
            raise error_for(reply, script.name) from None
        return cast("Reply", reply)

    async def _ask(self, commands: Sequence[bytes]) -> list[Any]:
        """Sends commands until they are answered, or the client's retry policy gives up."""
        replies = await self._channel.request(commands)
        failure = failure_in(replies)
        if failure is None:
            return replies
        return await self._ask_again(commands, failure)

    async def _ask_again(self, commands: Sequence[bytes], first: LinkFailure) -> list[Any]:
        failures = [first]
        attempts = 0

        async def attempt() -> list[Any]:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                raise first
            replies = await self._channel.request(commands)
            failure = failure_in(replies)
            if failure is not None:
                failures.append(failure)
                raise failure
            return replies

        policy = self._client.get_retry() or Retry(NoBackoff(), 0)
        try:
            return await policy.call_with_retry(attempt, _nothing_to_clean)
        except LinkFailure as last:
            raise self._unavailable(
                str(last), outcome_unknown=any(failure.sent for failure in failures)
            ) from None
        except asyncio.CancelledError as cancelled:
            if any(failure.sent for failure in failures):
                raise CancelledAfterSending(*cancelled.args) from None
            raise

    async def _settle(self, call: Call, undo: Undo | None) -> None:
        """Takes back what a cancelled call did, whatever else is cancelled meanwhile."""
        task = asyncio.create_task(self._settled(call, undo))
        self._channel.settling.add(task)
        task.add_done_callback(self._channel.settling.discard)
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((task,))

    async def _settled(self, call: Call, undo: Undo | None) -> None:
        try:
            # The same request again gets the same answer.
            reply = await self._run(call)
            back = undo(reply) if undo is not None else None
            if back is not None:
                await self._run(back)
        except AQMDatabaseError as error:
            _log.warning(
                "outcome_unknown",
                extra={"operation": call[0].name, "error": type(error).__name__},
            )


def _evalsha(call: Call) -> bytes:
    script, keys, arguments = call
    return packed("EVALSHA", script.sha, script.key_count, *keys, *arguments)


async def _nothing_to_clean(_: Exception) -> None:
    """The channel gives a failed connection back by itself."""


def _check_client(client: object, user: str) -> None:
    if isinstance(client, redis.Redis):
        raise TypeError(
            f"client: {user} takes a redis.asyncio.Redis; "
            f"for a redis.Redis there is {user.removeprefix('Async')}"
        )
    if not isinstance(client, Redis):
        raise TypeError(f"client: {user} takes a redis.asyncio.Redis, not {type(client).__name__}")
    if client.connection_pool.connection_kwargs.get("decode_responses"):
        raise ValueError("client: must be made with decode_responses=False, since keys are bytes")
