"""The contract is worth something: a seam that breaks a promise fails a test of it.

Each mutant is a seam of tests/support/valkey_seam.py, or of the library's, without one of the
things that it does; beside it stands the test that notices.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, ClassVar

import pytest
import redis.asyncio
import valkey
from valkey.exceptions import ValkeyError

from aqm_db._io import answers
from aqm_db._io.failures import (
    Denial,
    ErrorReply,
    LinkFailure,
    conclude_attempts,
    find_failure,
    parse_error,
)
from aqm_db._io.redispy.async_loops import get_channels
from aqm_db._io.redispy.async_seam import AsyncSeam
from aqm_db._io.request import Request
from aqm_db._io.seam import Call, Command, Reply, Seam, Undo
from aqm_db.errors import AQMDatabaseError
from aqm_db.testing import ClientSeamContract, Lab, SeamSettings, _relay
from tests.io import test_seam_contract as contracts
from tests.support import valkey_seam
from tests.support.backends import VALKEY_9, Servers
from tests.support.valkey_seam import ValkeySeam, _Requests

NOTICED = (AssertionError, AQMDatabaseError, ValkeyError, pytest.fail.Exception)
"""How a test fails that notices a mutant."""


class DropsUndo(ValkeySeam):
    """Whoever is interrupted loses what was taken."""

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:  # noqa: ARG002
        """Forgets the undo."""
        return await super().run(call)


class DropsUndosOfBatches(ValkeySeam):
    """The same of many."""

    async def run_all(
        self,
        calls: Sequence[Call],
        undos: Sequence[Undo] | None = None,  # noqa: ARG002
    ) -> list[Reply | AQMDatabaseError]:
        """Forgets the undos."""
        return await super().run_all(calls)


class SwallowsInterrupts(ValkeySeam):
    """Whoever is interrupted goes on as if nothing had been."""

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:
        """Asks once more instead."""
        try:
            return await super().run(call, undo)
        except KeyboardInterrupt:
            return await super().run(call)


class ForgetsScripts(ValkeySeam):
    """A script is never sent in full."""

    async def run(self, call: Call, undo: Undo | None = None) -> Reply:  # noqa: ARG002
        """Takes any error for the last word."""

        async def ask(commands: Sequence[Command], request: Request) -> list[Any]:
            replies = await self._ask(commands, request)
            refusal = parse_error("ERR no such script")
            return [refusal if isinstance(reply, ErrorReply) else reply for reply in replies]

        return await answers.run(ask, call, self._begin_request())


class RaisesItsOwn(ValkeySeam):
    """Errors of the client library escape."""

    async def read(self, *commands: Command) -> list[Any]:
        """Leaves it all to the client."""
        client: Any = self._client
        return [client.execute_command(*command) for command in commands]


class NeverRepeats(ValkeySeam):
    """A request whose reply is lost isn't sent again."""

    def _begin(self, retries: int) -> _Requests:  # noqa: ARG002 - the base's
        return super()._begin(0)


class RepeatsForEver(ValkeySeam):
    """A request is sent again when the server has forgotten it."""

    def _begin(self, retries: int) -> _Requests:
        class Requests(_Requests):
            async def ask(
                self,
                commands: Sequence[Command],
                request: Request,  # noqa: ARG002 - the base's
            ) -> list[Any]:
                failures: list[LinkFailure] = []
                while True:
                    replies = self._attempt(commands)
                    failure = find_failure(replies)
                    if failure is None:
                        return replies
                    failures.append(failure)
                    if len(failures) > retries:
                        return conclude_attempts(failures, self._unavailable)

        return Requests(self._client, self._unavailable, retries)


class IsSureThatNothingWasDone(ValkeySeam):
    """A link that fails after a request was sent looks like one that wasn't there."""

    def _begin(self, retries: int) -> _Requests:
        class Requests(_Requests):
            def _attempt(self, commands: Sequence[Command]) -> list[Any]:
                replies = super()._attempt(commands)
                for reply in replies:
                    if isinstance(reply, LinkFailure):
                        reply.sent = False
                return replies

        return Requests(self._client, self._unavailable, retries)


class AsksOneByOne(ValkeySeam):
    """A batch takes a round trip for each of its calls."""

    async def run_all(
        self, calls: Sequence[Call], undos: Sequence[Undo] | None = None
    ) -> list[Reply | AQMDatabaseError]:
        """Runs each by itself."""
        run_all = super().run_all
        return [outcome for call in calls for outcome in await run_all([call], undos)]


class ReadsOn(ValkeySeam):
    """A connection on which a reply is still on its way is given to the next call."""

    def _begin(self, retries: int) -> _Requests:
        class Requests(_Requests):
            def _attempt(self, commands: Sequence[Command]) -> list[Any]:
                connection = self._pool.get_connection("")
                try:
                    connection.send_packed_command(connection.pack_commands(commands))
                    return [valkey_seam._read_reply(connection) for _ in commands]
                finally:
                    self._pool.release(connection)

        return Requests(self._client, self._unavailable, retries)


class TrustsEverything(ValkeySeam):
    """A link that is out of step is used as before."""

    def distrust(self) -> None:
        """Does nothing."""


class FindsTheFirstPage(ValkeySeam):
    """A walk ends after its first page."""

    async def scan(self, pattern: str, within: str | None = None) -> AsyncIterator[list[bytes]]:
        """Gives that."""
        async for page in super().scan(pattern, within):
            yield page
            return


class DeniesNothing(ValkeySeam):
    """Every command may be run."""

    async def probe(self, *commands: Command) -> list[Denial | None]:
        """Says so."""
        return [None for _ in commands]


class SettlesNothing(AsyncSeam):
    """Of a call that is cancelled nobody finds out what it did."""

    async def _settle(self, *_: object, **__: object) -> None:
        pass


class ClosesAtOnce(AsyncSeam):
    """Who waits for a reply when it's closed waits in vain."""

    async def aclose(self) -> None:
        """Hangs up."""
        self._channel.hang_up("closed")


class Mutants(ClientSeamContract):
    """Makes seams of a class."""

    seam_class: ClassVar[Any]
    clients: ClassVar[dict[Any, Any]] = {}

    async def make_seam(self, settings: SeamSettings) -> Any:
        """See :class:`ClientSeamContract`."""
        if not self.suspends:
            client: Any = valkey.Valkey(**contracts.options_of(settings))
            seam = self.seam_class(client, settings.unavailable, retries=settings.retries)
        else:
            client = redis.asyncio.Redis(**contracts.options_of(settings))
            seam = self.seam_class(get_channels(client), client.get_retry, settings.unavailable)
        self.clients[seam] = client
        return seam

    async def close_seam(self, seam: Seam) -> None:
        """See :class:`ClientSeamContract`."""
        client = self.clients.pop(seam)
        if isinstance(seam, AsyncSeam):
            # However broken it is: a test that failed may have left it in the middle of connecting.
            await AsyncSeam.aclose(seam)
            await client.aclose()
        else:
            client.close()


@pytest.mark.parametrize(
    ("seam_class", "test"),
    [
        (DropsUndo, Mutants.test_a_call_that_was_deserted_is_taken_back),
        (DropsUndo, Mutants.test_a_coin_that_nobody_waits_for_is_put_back),
        (DropsUndosOfBatches, Mutants.test_a_batch_that_was_deserted_is_taken_back),
        (SwallowsInterrupts, Mutants.test_a_call_that_was_deserted_is_taken_back),
        (ForgetsScripts, Mutants.test_a_script_that_the_server_forgot),
        (RaisesItsOwn, Mutants.test_nobody_listens),
        (NeverRepeats, Mutants.test_a_reply_that_is_lost),
        (RepeatsForEver, Mutants.test_a_request_is_not_sent_again_when_its_time_is_over),
        (IsSureThatNothingWasDone, Mutants.test_replies_that_are_always_lost),
        (AsksOneByOne, Mutants.test_a_batch_is_run_in_one_round_trip),
        (ReadsOn, Mutants.test_a_deserted_read_ends),
        (TrustsEverything, Mutants.test_a_link_that_is_out_of_step),
        (FindsTheFirstPage, Mutants.test_every_name_is_found),
        (DeniesNothing, Mutants.test_what_a_user_may_do),
        (SettlesNothing, Mutants.test_a_call_that_is_cancelled_at_any_step),
        (ClosesAtOnce, Mutants.test_closing_waits_for_what_is_in_flight),
    ],
    ids=lambda value: value.__name__,
)
def test_a_broken_seam_is_noticed(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    seam_class: type,
    test: Callable[[Any, Lab], None],
) -> None:
    """By a test that says what was promised."""
    monkeypatch.setattr(_relay, "PATIENCE", 0.2)

    class Mutant(Mutants):
        suspends: ClassVar[bool] = issubclass(seam_class, AsyncSeam)

    Mutant.seam_class = seam_class
    address = str(servers[VALKEY_9].socket_path)
    with Lab.open(Mutant(), address) as lab, pytest.raises(NOTICED):
        test(Mutant(), lab)
