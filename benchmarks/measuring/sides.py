"""Processes that each measure one commit of the library, when they are asked to, in turns."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.measuring import names
from benchmarks.measuring.places import Figures
from benchmarks.measuring.revisions import ROOT

OURS: Final = ROOT / "src"


class MissingError(Exception):
    """A commit has not what a task needs."""


class Side:
    """A process that measures one commit: nothing of it runs while it isn't asked.

    Args:
        process: the process.
        is_other: whether it's another commit that it measures, and not this one.

    Attributes:
        is_other: the same.
    """

    def __init__(self, process: "subprocess.Popen[str]", *, is_other: bool) -> None:
        self.is_other = is_other
        self._process = process

    def measure(self, task: str, url: str, owner: str, size: int) -> Figures:
        """Has it do one task.

        Raises:
            MissingError: the commit can't: it has not what the task needs.
            RuntimeError: the process failed, and said why on its standard error.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = {"task": task, "url": url, "owner": owner, "size": size}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            commit = "the other commit" if self.is_other else "this commit"
            raise RuntimeError(f"{commit} failed at {task} of {size}: see its standard error")
        reply: dict[str, Any] = json.loads(line)
        if "missing" in reply:
            raise MissingError(reply["missing"])
        return reply


@contextmanager
def side(code: Path = OURS) -> Generator[Side]:
    """A process with the code in a folder, until the block ends; the folder has ``aqm_db``."""
    program = [sys.executable, "-m", "benchmarks.measuring.side_process", str(code)]
    environment = {**os.environ, "PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(  # noqa: S603 - this project's own
        program,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment,
    ) as process:
        try:
            yield Side(process, is_other=code != OURS)
        finally:
            process.kill()


class Rounds:
    """Rounds in which each side measures each of some things once, all in an order that changes.

    Args:
        sides: this commit, or another, or both.
    """

    def __init__(self, sides: Sequence[Side]) -> None:
        self._sides = list(sides)
        self._shuffle = random.Random(len(sides)).shuffle  # noqa: S311 - the same each time

    def measure(
        self, rounds: int, wanted: Mapping[str, Callable[[Side], Figures]]
    ) -> dict[str, dict[str, list[float]]]:
        """Measures all that is wanted, a number of times.

        Args:
            rounds: how often.
            wanted: what is measured, by its name: each is measured by all sides before the next
                is, so that their figures can be compared in pairs.

        Returns:
            By figure, and by name, with :func:`names.against` for the other side: the samples of
            all rounds, in their order. Names are in the order of what is wanted. The other side is
            left out where it has not what it takes.
        """
        measured: dict[str, dict[str, list[float]]] = {}
        order, things = list(self._sides), list(wanted)
        for _ in range(rounds):
            self._shuffle(things)
            for name in things:
                self._shuffle(order)
                for each in order:
                    try:
                        figures = wanted[name](each)
                    except MissingError:
                        if not each.is_other:
                            raise
                        continue
                    own = names.against(name) if each.is_other else name
                    for figure, value in figures.items():
                        measured.setdefault(figure, {}).setdefault(own, []).append(value)
        ordered = [own for name in wanted for own in (name, names.against(name))]
        return {
            figure: {own: series[own] for own in ordered if own in series}
            for figure, series in measured.items()
        }
