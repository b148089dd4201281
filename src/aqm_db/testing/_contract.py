"""The contract as a class to derive a test class from."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

import pytest

from aqm_db._io.seam import ClientSeam, Seam
from aqm_db.embedded import EmbeddedServer
from aqm_db.errors import AccessDeniedError, InventoryUnavailableError

from ._asking import AskingTests
from ._deserting import DesertingTests
from ._failing import FailingTests
from ._lab import COUNTER, Lab, SeamSettings, scenario, take
from ._relay import Address
from ._using import UsingTests


class SeamContract(AskingTests, FailingTests, DesertingTests, UsingTests):
    """What a seam promises; a class named ``Test...`` that is derived from it tests one.

    Attributes:
        suspends: whether the coroutines of the seam wait in an event loop (asyncio). Those of
            others do all their I/O before they return, as over a synchronous client: they are
            driven without a loop, and interrupted where others are cancelled.
    """

    suspends: ClassVar[bool] = True

    async def make_seam(self, settings: SeamSettings) -> Seam:
        """Makes a seam.

        Args:
            settings: the server, and what is to be done where it fails.
        """
        # An abstract class would be passed over in silence.
        raise NotImplementedError(f"{type(self).__name__} has no make_seam")

    async def close_seam(self, seam: Seam) -> None:
        """Closes a seam, and what it was made of; it may be closed already."""
        await seam.aclose()

    @pytest.fixture(scope="class")
    @classmethod
    def server_address(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
        """Where a server listens, whose first database is emptied for each test.

        An embedded one, which takes the extra ``embedded``. It's to be overridden for another
        server: by the path of its unix socket, or its host and port. Its default user may do
        everything, and a user ``limited`` is left there.
        """
        with EmbeddedServer.open(tmp_path_factory.mktemp("contract") / "db") as server:
            yield str(server.socket_path)

    @pytest.fixture
    def lab(self, server_address: Address) -> Iterator[Lab]:
        """What tests work with."""
        with Lab.open(self, server_address) as lab:
            yield lab


class ClientSeamContract(SeamContract):
    """What a seam promises that can also delete, and tell what its user may do."""

    if TYPE_CHECKING:

        async def make_seam(self, settings: SeamSettings) -> ClientSeam:
            """See :class:`SeamContract`."""
            ...

    @scenario
    async def test_what_is_deleted_is_counted(self, lab: Lab) -> None:
        """Of the names that are given, those that there are."""
        seam = cast("ClientSeam", lab.seam)
        await seam.run(take("1"))
        assert await seam.delete(COUNTER, "nothing") == 1
        assert await lab.count_taken() == 0

    @scenario
    async def test_what_can_not_be_deleted(self, lab: Lab) -> None:
        """The server denies it, or isn't there."""
        seam, unused = (
            cast("ClientSeam", lab.seam),
            cast("ClientSeam", await lab.make(link=lab.link)),
        )
        lab.link.answer(b"-NOPERM no", 1)
        with pytest.raises(AccessDeniedError):
            await seam.delete(COUNTER)
        lab.link.go_down()
        with pytest.raises(InventoryUnavailableError) as caught:
            await unused.delete(COUNTER)
        assert caught.value.outcome_unknown is False

    @scenario
    async def test_what_a_user_may_do(self, lab: Lab) -> None:
        """Whether a command fails for another reason is left out."""
        await lab.direct.run(take("1"))
        rules = ("reset", "on", ">secret", "~aqm:*", "+@all", "-get")
        await lab.direct.read(("ACL", "SETUSER", "limited", *rules))
        seam = cast("ClientSeam", await lab.make(username="limited", password="secret"))
        denials = await seam.probe(
            *(("GET", COUNTER), ("EXISTS", COUNTER), ("HGET", COUNTER, "field")),
            *(("EXISTS", "others"), ("NOSUCHCOMMAND",)),
        )
        assert denials == ["command", None, None, "key", "unknown"]

    @scenario
    async def test_a_client_that_is_refused_as_a_whole(self, lab: Lab) -> None:
        """It isn't that a command was."""
        seam = cast("ClientSeam", lab.seam)
        lab.link.answer(b"-NOAUTH Authentication required.", 1)
        with pytest.raises(AccessDeniedError):
            await seam.probe(("GET", COUNTER))
        lab.link.go_down()
        with pytest.raises(InventoryUnavailableError):
            await seam.probe(("GET", COUNTER))
