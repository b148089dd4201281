"""A seam over valkey-py, in a page: what it takes to use another client library.

``answers`` says what is asked, and ``failures`` what comes of it; a seam brings the requests. This
one is for a synchronous client, so its coroutines never suspend.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from valkey import Valkey
from valkey.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    ValkeyError,
)

from aqm_db._io import answers
from aqm_db._io.failures import (
    Denial,
    ErrorReply,
    LinkFailure,
    conclude_attempts,
    find_failure,
    parse_error,
)
from aqm_db._io.request import Request, ServerClock
from aqm_db._io.seam import Argument, Call, Command, Reply, Undo
from aqm_db.errors import AQMDatabaseError, UnavailableError

_CODES: dict[type[ValkeyError], str] = {
    AuthenticationError: "NOAUTH",
    BusyLoadingError: "LOADING",
    NoPermissionError: "NOPERM",
    NoScriptError: "NOSCRIPT",
    OutOfMemoryError: "OOM",
    ReadOnlyError: "READONLY",
}
"""What valkey-py takes off the text of an error."""


class ValkeySeam:
    """A :class:`~aqm_db._io.seam.ClientSeam` over a ``valkey.Valkey`` that returns bytes.

    Args:
        client: the client.
        unavailable: what is raised when the server can't be reached.
        retries: how often a request that failed is sent again.
    """

    def __init__(
        self, client: Valkey, unavailable: type[UnavailableError], *, retries: int = 2
    ) -> None:
        self._client = client
        self._unavailable = unavailable
        self._retries = retries
        self._server_clock = ServerClock()

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """See :class:`~aqm_db._io.seam.Seam`."""
        requests, request = self._begin(self._retries), self._begin_request()
        try:
            return await answers.run(requests.ask, call, request)
        except AQMDatabaseError:
            raise
        except BaseException:
            await self._settle(request, (call,), None if undo is None else (undo,), requests)
            raise

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        requests, request = self._begin(self._retries), self._begin_request()
        try:
            return await answers.run_all(requests.ask, calls, request)
        except AQMDatabaseError:
            raise
        except BaseException:
            await self._settle(request, calls, undos, requests)
            raise

    async def read(self, *commands: Command) -> list[Any]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return await answers.read(self._ask, commands, self._begin_request())

    async def delete(self, *keys: Argument) -> int:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.delete(self._ask, keys, self._begin_request())

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """See :class:`~aqm_db._io.seam.ClientSeam`."""
        return await answers.probe(self._ask, commands, self._begin_request())

    def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """See :class:`~aqm_db._io.seam.Seam`."""
        return answers.scan(self._ask, self._begin_request, pattern, within)

    def distrust(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`."""
        self._client.connection_pool.disconnect(inuse_connections=False)

    async def aclose(self) -> None:
        """See :class:`~aqm_db._io.seam.Seam`; each call has given its connection back already."""

    async def _ask(self, commands: Sequence[Command], request: Request) -> list[Any]:
        return await self._begin(self._retries).ask(commands, request)

    async def _settle(
        self,
        request: Request,
        calls: Sequence[Call],
        undos: Sequence[Undo] | None,
        interrupted: "_Requests",
    ) -> None:
        needed = interrupted.may_be_executed and answers.need_settling(calls, request)
        if undos is None or not needed:
            return
        request.begin_settling()
        once = self._begin(0)

        async def undo_all(backs: Sequence[Call]) -> list[Reply | AQMDatabaseError]:
            return await answers.run_all(once.ask, backs, self._begin_request())

        try:
            error = await answers.settle(once.ask, calls, undos, request, undo_all)
        except AQMDatabaseError as failure:
            error = failure
        if error is not None:
            answers.warn_of_unknown(calls, error)

    def _begin_request(self) -> Request:
        return Request(self._server_clock, self._unavailable)

    def _begin(self, retries: int) -> "_Requests":
        return _Requests(self._client, self._unavailable, retries)


class _Requests:
    """The requests of one call.

    Attributes:
        may_be_executed: whether any of them may be.
    """

    def __init__(self, client: Valkey, unavailable: type[UnavailableError], retries: int) -> None:
        # Its annotations are for redis-py's types.
        self._pool: Any = client.connection_pool
        self._unavailable = unavailable
        self._retries = retries
        self.may_be_executed = False

    async def ask(self, commands: Sequence[Command], request: Request) -> list[Any]:
        """See :data:`~aqm_db._io.answers.Ask`; it never suspends."""
        failures: list[LinkFailure] = []
        while True:
            replies = self._attempt(commands)
            failure = find_failure(replies)
            if failure is None:
                return replies
            failures.append(failure)
            request.note_failure(failure)
            if len(failures) > self._retries or request.is_over():
                return conclude_attempts(failures, self._unavailable)

    def _attempt(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, with what stands for those that didn't come."""
        try:
            connection = self._pool.get_connection("")
        except ValkeyError as error:
            refusal = _read_error(error) or LinkFailure(str(error), sent=False)
            return [refusal] * len(commands)
        self.may_be_executed = True
        try:
            connection.send_packed_command(connection.pack_commands(commands))
            return [_read_reply(connection) for _ in commands]
        except ValkeyError as error:
            connection.disconnect()
            return [LinkFailure(str(error), sent=True)] * len(commands)
        except BaseException:
            # Whoever gets the connection next must not read what is still on its way.
            connection.disconnect()
            raise
        finally:
            self._pool.release(connection)


def _read_reply(connection: Any) -> Any:
    try:
        return connection.read_response(disconnect_on_error=False)
    except ValkeyError as error:
        reply = _read_error(error)
        if reply is None:
            raise
        return reply


def _read_error(error: ValkeyError) -> ErrorReply | None:
    """The error that the server sent; None if the link failed."""
    code = _CODES.get(type(error))
    if code is None and not isinstance(error, ResponseError):
        return None
    return parse_error(f"{code} {error}" if code else str(error))
