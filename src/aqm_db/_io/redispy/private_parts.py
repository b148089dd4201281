"""Every private or undocumented part of another package that the library touches.

Nobody promises to keep them. So each is looked for when it's needed, and where it isn't there, or
doesn't behave, the way through public methods is taken. A test takes them away one by one.
"""

import asyncio
from typing import Any, NamedTuple, cast


class Part(NamedTuple):
    """A part that may be gone with the next version.

    Attributes:
        package: whose it is.
        holder: what has it.
        name: what it's called there.
        use: what it's touched for.
        without: what happens where it isn't there.
    """

    package: str
    holder: str
    name: str
    use: str
    without: str

    def find(self, holder: object) -> Any:
        """The part; None if the holder has none."""
        return getattr(holder, self.name, None)


STREAM_WRITER = Part(
    "redis",
    "redis.asyncio.Connection",
    "_writer",
    "its transport, whose protocol WireLink replaces: half the time of a call",
    "ReaderLink speaks through the connection's own methods",
)
TAKE = Part(
    "redis",
    "redis.asyncio.ConnectionPool",
    "get_available_connection",
    "a connection that isn't open yet, so that the client's retries are counted once",
    "get_connection opens it, with the client's retries",
)
CONNECT = Part("redis", "redis.asyncio.ConnectionPool", "ensure_connection", TAKE.use, TAKE.without)
ROOM = Part(
    "redis",
    "redis.asyncio.ConnectionPool",
    "can_get_connection",
    "whether others can have a connection while an idle one is kept",
    "it's kept until the client is closed",
)
LOOP_OF_WRITER = Part(
    "asyncio",
    "asyncio.StreamWriter",
    "_loop",
    "whether a pool's idle connection is of this event loop",
    "it's taken as if it were",
)
TAKE_OF_NODE = Part(
    "redis",
    "redis.asyncio.cluster.ClusterNode",
    "acquire_connection",
    "a connection that the cluster client closes with its own",
    "one is made that only the library closes",
)

BACKOFF = Part(
    "redis",
    "redis.retry.Retry",
    "_backoff",
    "that no pause outlasts the time for which a request may be repeated",
    "a pause is as long as the client's retry policy says",
)

IDLE = Part(
    "redis",
    "redis.ConnectionPool",
    "_available_connections",
    "a connection that isn't open yet, so that opening it is waited for no longer than a call may",
    "get_connection opens it, with the client's retries, however long that takes",
)
IN_USE = Part("redis", "redis.ConnectionPool", "_in_use_connections", IDLE.use, IDLE.without)
POOL_LOCK = Part("redis", "redis.ConnectionPool", "_lock", IDLE.use, IDLE.without)
CHECK_PROCESS = Part("redis", "redis.ConnectionPool", "_checkpid", IDLE.use, IDLE.without)


def find_transport(connection: object) -> asyncio.Transport | None:
    """The transport of a connection that is connected, if it has all that a transport has.

    What is asked of it is what is used: uvloop's transports are of no class of asyncio's, and
    there are transports that are none.
    """
    transport = getattr(STREAM_WRITER.find(connection), "transport", None)
    if not _has_methods(transport, "write", "abort", "is_closing", "get_protocol", "set_protocol"):
        return None
    found = cast("asyncio.Transport", transport)
    streams = found.get_protocol()
    callbacks = ("connection_lost", "pause_writing", "resume_writing")
    return found if _has_methods(streams, *callbacks) else None


def find_loop(connection: object) -> asyncio.AbstractEventLoop | None:
    """The event loop that a connection was opened on; None if it isn't open, or doesn't say."""
    loop = LOOP_OF_WRITER.find(STREAM_WRITER.find(connection))
    return cast("asyncio.AbstractEventLoop | None", loop)


def _has_methods(holder: object, *names: str) -> bool:
    return all(callable(getattr(holder, name, None)) for name in names)
