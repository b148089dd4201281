"""Servers that are replaced in the middle of a walk: what is there throughout is found."""

import pytest

from aqm_db import connect
from tests.faults.support.fault_table import Tally
from tests.faults.support.walked_database import OWNER, furnish, open_by, walk_all
from tests.support.backends import REAL_BACKENDS, Backend, RunningServer
from tests.support.faces import Face

pytestmark = [pytest.mark.asyncio, pytest.mark.usefixtures("backoffs")]


@pytest.mark.parametrize("kind", REAL_BACKENDS, ids=lambda kind: kind.name)
async def test_a_server_that_is_started_again(face: Face, kind: Backend, tally: Tally) -> None:
    """Its next process has all that it had, in another order, and a cursor leads astray there."""
    with RunningServer(kind, "--appendonly", "yes", "--appendfsync", "always") as server:

        def restart() -> None:
            server.kill()
            server.restart()

        url = f"unix://{server.socket_path}"
        async with connect(url, owner=OWNER) as db:
            await furnish(db)
        async with open_by(face, url) as db:
            await walk_all(db, restart, tally, "a server started again in the middle of a walk")
