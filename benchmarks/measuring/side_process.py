"""The process of a side: does the tasks that it reads, and writes what it measured.

``python -m benchmarks.measuring.side_process CODE``, where ``CODE`` is the folder of ``aqm_db``.
"""

import asyncio
import json
import logging
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aqm_db
from benchmarks.measuring.places import Place, opened
from benchmarks.measuring.tasks import TASKS


async def serve() -> None:
    """Does one task after another until its input ends."""
    loop = asyncio.get_running_loop()
    requests = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(requests), sys.stdin)
    places: dict[tuple[str, str], Place] = {}
    async with AsyncExitStack() as stack:
        while line := await requests.readline():
            request: dict[str, Any] = json.loads(line)
            where = request["url"], request["owner"]
            if where not in places:
                places[where] = await stack.enter_async_context(opened(*where))
            try:
                reply: dict[str, Any] = dict(
                    await TASKS[request["task"]](places[where], request["size"])
                )
            except ImportError as error:
                reply = {"missing": str(error)}
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    assert Path(aqm_db.__file__).is_relative_to(sys.argv[1]), f"{aqm_db.__file__} was imported"
    # As in a program that has a handler of its own: nothing is written while anything is measured.
    logging.getLogger("aqm_db").addHandler(logging.NullHandler())
    asyncio.run(serve())
