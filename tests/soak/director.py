"""Who lets time pass, starts and kills the others, and looks at the end of each day."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Generator, Iterable
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Self

from aqm_db.chat_demo.server import serve_chat
from tests.soak.growth import find_growth
from tests.soak.ledger import Evening, Ledger
from tests.soak.people import NAMES, make_people
from tests.soak.plan import Day
from tests.support.stepped_clocks import SteppedClock, remove_leftovers

PATIENCE = 120.0
_ROOT = Path(__file__).parents[2]
_KEPT_BACKUPS = 3


class DayError(Exception):
    """A day that doesn't add up."""

    def __init__(self, day: Day, faults: Iterable[str]) -> None:
        super().__init__("\n".join([f"day {day.number} doesn't add up:", *faults]))


class Actor:
    """The process of one of the people; it's started again after each death.

    Attributes:
        name: who it is.
        directory: where their things are.
        account: what their database had when it was last asked.
    """

    def __init__(self, name: str, root: Path, clock: SteppedClock) -> None:
        self.name = name
        self.directory = root / name
        self.account: dict[str, Any] = {}
        self._root = root
        self._clock = clock
        self._process: Process | None = None
        self._read_to = 0

    @property
    def is_there(self) -> bool:
        """Whether its process runs."""
        return self._process is not None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Starts it; its database is open then."""
        # Servers of two kinds: one writes to its disk before it answers, one afterwards.
        kind = "plain" if self.name == "carol" else "confirmed"
        with (self.directory / "stderr").open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "tests.soak.member"),
                *(str(self._root), self.name, kind),
                stdin=PIPE,
                stdout=PIPE,
                stderr=stderr,
                limit=2**24,
                cwd=_ROOT,
                env=self._clock.environment(),
                start_new_session=True,
            )
        await self.hear()

    async def ask(self, **order: Any) -> Any:
        """Tells it to do something, and waits until it's done."""
        self.tell(**order)
        return await self.hear()

    def tell(self, **order: Any) -> None:
        """Tells it to do something."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def kill(self) -> None:
        """It dies in the middle of whatever it does."""
        assert self._process is not None
        # It may have ended by itself.
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        remove_leftovers(self.pid)
        self._process = None

    async def stop(self) -> None:
        """Lets it end."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        async with asyncio.timeout(PATIENCE):
            code = await self._process.wait()
        self._process = None
        assert code == 0, self.read_complaints()

    def read_records(self) -> list[dict[str, Any]]:
        """What it has written down since this was called last."""
        with (self.directory / "journal").open("rb") as journal:
            journal.seek(self._read_to)
            written = journal.read()
        # A last line without an end doesn't count; it's cut off at the next start.
        written = written[: written.rfind(b"\n") + 1]
        self._read_to += len(written)
        return [json.loads(line) for line in written.splitlines()]

    def read_complaints(self) -> str:
        """What it said on stderr, where nothing is to be said."""
        return (self.directory / "stderr").read_text("utf-8", "replace")

    def find_server(self) -> int | None:
        """The process of its embedded server; None if there's none now."""
        written = (self.directory / "database" / "aqm_db.server").read_text("ascii")
        with suppress(FileNotFoundError, ValueError):
            pid = int(written)
            if Path(f"/proc/{pid}/cwd").readlink() == self.directory / "database":
                return pid
        return None

    def measure(self) -> dict[str, float]:
        """Sizes of its files and processes."""
        database = self.directory / "database"
        server = self.find_server()
        assert server is not None
        return {
            "AOF bytes": _sum_sizes(database.glob("appendonlydir/*")),
            "log bytes": _sum_sizes(database.glob("*log*")),
            "program RSS": _read_rss(self.pid),
            "server RSS": _read_rss(server),
        }

    async def hear(self) -> Any:
        """Waits until what it was told is done."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, f"{self.name} ended: {self.read_complaints()}"
        return json.loads(line)


class Director:
    """Lets days pass.

    Args:
        root: an empty directory, whose path is short.
        random: decides on moments.

    Attributes:
        ledger: what became of everything.
        measured: by name, what was measured in each week.
    """

    def __init__(self, root: Path, random: Random) -> None:
        root = root.resolve()
        self._root = root
        self._random = random
        self._clock = SteppedClock(root / "clock")
        self._actors = {name: Actor(name, root, self._clock) for name in NAMES}
        self._backups: dict[str, list[Path]] = {name: [] for name in NAMES}
        self._latest = 0
        self.ledger = Ledger()
        self.measured: dict[str, list[float]] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, root: Path, random: Random) -> AsyncGenerator[Self]:
        """Starts the coin server, and everybody."""
        make_people(root)
        async with serve_chat(str(root / "server.sock"), root / "server.sqlite"):
            director = cls(root, random)
            actors = director._actors.values()
            try:
                for actor in actors:
                    await actor.start()
                    actor.account = await actor.ask(do="account")
                yield director
                for actor in actors:
                    if actor.is_there:
                        await actor.stop()
            finally:
                for actor in actors:
                    if actor.is_there:
                        await actor.kill()

    async def live_through(self, day: Day) -> None:
        """Lets a day pass.

        Raises:
            DayError: it doesn't add up.
        """
        self._clock.step(day.night)
        await self._come_and_go(day)
        if day.disk_lost:
            await self._lose_disk(self._actors[day.disk_lost])
        for part, seconds in enumerate(day.turns):
            self._clock.step(seconds)
            if part == 1 and day.is_back:
                self._clock.step(-3600)
            await self._take_turns(day, part)
            if part == 1 and day.is_back:
                self._clock.step(3600)
        if day.restored and self._backups[day.restored]:
            await self._restore_old(self._actors[day.restored])
        await self._end_day(day)
        if day.backs_up:
            await self._back_up(day)
            await self._measure()

    def find_growth(self) -> list[str]:
        """What grows without bound."""
        return list(find_growth(self.measured))

    # A day ---------------------------------------------------------------------------------

    async def _come_and_go(self, day: Day) -> None:
        for actor in self._actors.values():
            if actor.is_there and actor.name == day.away:
                await actor.stop()
            elif not actor.is_there and actor.name != day.away:
                await actor.start()

    async def _take_turns(self, day: Day, part: int) -> None:
        there = self._list_present()
        for actor in there:
            seed = self._random.random()
            actor.tell(do="turn", seed=seed, messages=day.messages if part < 3 else 0)
        if part == 0 and day.killed and self._actors[day.killed] in there:
            victim = self._actors[day.killed]
            await asyncio.sleep(self._random.random() * 0.2)
            self.ledger.note_accident(victim.name, "killed")
            await victim.kill()
            there.remove(victim)
            await victim.start()
        if part == 1:
            await self._end_servers(day)
        for actor in there:
            await actor.hear()

    async def _end_servers(self, day: Day) -> None:
        deaths = {day.server_killed: signal.SIGKILL, day.server_ended: signal.SIGTERM}
        for name, number in deaths.items():
            if not name or not self._actors[name].is_there:
                continue
            actor = self._actors[name]
            await asyncio.sleep(self._random.random() * 0.2)
            if (pid := actor.find_server()) is not None:
                os.kill(pid, number)
                remove_leftovers(pid)
                self.ledger.note_accident(name, f"server {number.name}")

    async def _restore_old(self, actor: Actor) -> None:
        """Somebody reads a backup though nothing was lost, while there is room for its coins."""
        await actor.ask(do="turn", seed=self._random.random(), messages=12)
        await actor.ask(do="restore", path=str(self._backups[actor.name][0]), lost=False)

    async def _lose_disk(self, actor: Actor) -> None:
        if not actor.is_there or not self._backups[actor.name]:
            return
        await actor.stop()
        shutil.rmtree(actor.directory / "database")
        await actor.start()
        newest = self._backups[actor.name][-1]
        await actor.ask(do="restore", path=str(newest), lost=True)
        account = await actor.ask(do="account")
        actor.account = account
        left = [key for keys in account["active"].values() for key in keys]
        self.ledger.note_loss(actor.name, left, account["counters"]["total_burned"])

    async def _end_day(self, day: Day) -> None:
        there = self._list_present()
        for actor in there:
            actor.tell(do="tidy")
        for actor in there:
            await actor.hear()
        await self._await_mail(there)
        self._read_journals()
        for actor in there:
            actor.tell(do="account")
        for actor in there:
            actor.account = await actor.hear()
            self._latest = max(self._latest, actor.account["now"])
        self._read_journals()
        faults = self.ledger.add_up(self._look_around())
        faults += [
            f"{actor.name} complains: {said}"
            for actor in there
            if (said := actor.read_complaints())
        ]
        if faults:
            raise DayError(day, faults)

    async def _await_mail(self, there: list[Actor]) -> None:
        """Until everybody who is there has read everything, and knows that it was delivered."""
        until = time.monotonic() + PATIENCE
        names = {actor.name for actor in there}
        while any(recipient in names for recipient, _ in self._list_mail()):
            assert time.monotonic() < until, "messages don't arrive"
            await asyncio.sleep(0.01)
        for actor in there:
            while await actor.ask(do="count messages under way"):
                assert time.monotonic() < until, "messages aren't accepted"
                await asyncio.sleep(0.01)

    def _read_journals(self) -> None:
        # What was minted and sent comes first, whoever tells of it.
        told = [
            (actor.name, record)
            for actor in self._actors.values()
            for record in actor.read_records()
        ]
        for name, record in sorted(told, key=lambda each: _rank(each[1])):
            self.ledger.read(name, record)

    def _look_around(self) -> Evening:
        with self._open_store() as store:
            at_server = [
                json.loads(coin)["key_id"] for [coin] in store.execute("SELECT coin FROM coins")
            ]
            published = [key for [key] in store.execute("SELECT key_id FROM published")]
        return Evening(
            self._latest,
            {actor.name: actor.account for actor in self._actors.values()},
            frozenset(at_server),
            frozenset(published),
            frozenset(message for _, message in self._list_mail()),
        )

    def _list_mail(self) -> list[tuple[str, str]]:
        """Recipients and ids of messages that wait."""
        with self._open_store() as store:
            rows = store.execute("SELECT recipient, envelope FROM messages").fetchall()
        return [(recipient, json.loads(envelope)["message_id"]) for recipient, envelope in rows]

    # A week --------------------------------------------------------------------------------

    async def _back_up(self, day: Day) -> None:
        for actor in self._list_present():
            path = actor.directory / f"{day.number}.backup"
            await actor.ask(do="back up", path=str(path))
            kept = self._backups[actor.name]
            kept.append(path)
            if len(kept) > _KEPT_BACKUPS:
                kept.pop(0).unlink()

    async def _measure(self) -> None:
        for actor in self._list_present():
            sample = await actor.ask(do="sample")
            for name, value in {**sample, **actor.measure()}.items():
                self.measured.setdefault(f"{actor.name}'s {name}", []).append(value)

    def _list_present(self) -> list[Actor]:
        return [actor for actor in self._actors.values() if actor.is_there]

    @contextmanager
    def _open_store(self) -> Generator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._root / "server.sqlite")) as store:
            yield store


def _rank(record: dict[str, Any]) -> int:
    if record.keys() & {"minted", "offered"}:
        return 0
    if "claimed" in record:
        return 1
    return 2 if record.keys() & {"taken", "releasing", "released", "sent"} else 3


def _sum_sizes(paths: Iterable[Path]) -> int:
    total = 0
    for path in paths:
        # A rewrite removes what it has replaced.
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _read_rss(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")
