"""Processes that the demo starts, and stops whatever happens."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast

from aqm_db.demo import DemoError

_STOP_SECONDS: Final = 10.0


class Child:
    """A process of this package's ``__main__``.

    Args:
        name: what to call it.
        process: it.
    """

    def __init__(self, name: str, process: Process) -> None:
        self._name = name
        self._process = process

    async def hear(self, line: str, heard: Callable[[str], None] = lambda _: None) -> None:
        """Waits until the process tells something.

        Args:
            line: what.
            heard: told each line before it, and this one.

        Raises:
            DemoError: it ended before.
        """
        output = cast("asyncio.StreamReader", self._process.stdout)
        while told := await output.readline():
            heard(text := told.decode().rstrip("\n"))
            if text == line:
                return
        code = await self._process.wait()
        raise DemoError(f"{self._name} ended with code {code} before it told {line!r}")

    async def kill(self) -> None:
        """Ends the process in whatever it is doing (SIGKILL)."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def stop(self) -> None:
        """Lets the process end, and kills one that doesn't."""
        cast("asyncio.StreamWriter", self._process.stdin).close()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._process.communicate()
        except TimeoutError:
            await self.kill()


@asynccontextmanager
async def start_child(root: Path, module: str, name: str, *arguments: str) -> AsyncGenerator[Child]:
    """Starts a process, for the time of a block.

    Args:
        root: where it works.
        module: what it runs: this package, or what runs this package.
        name: what to call it.
        arguments: as ``__main__`` takes them.
    """
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", module, *arguments),
        stdin=PIPE,
        stdout=PIPE,
        cwd=root,
        # Ctrl-C in the terminal is meant for whoever stops all processes in their order.
        start_new_session=True,
    )
    child = Child(name, process)
    try:
        yield child
    finally:
        await child.stop()
