"""One of the people of the soak: a process with an embedded database, told what to do.

It's told by lines of JSON on stdin, each answered by one on stdout, and ends when stdin does. What
it did is in its journal, whose records :mod:`tests.soak.ledger` reads.
"""

import asyncio
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, cast
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import RedisError

from aqm_db import AsyncClientDatabase, AsyncMinter, AsyncReplenisher, coins, connect
from aqm_db.backup import export_backup, import_backup
from aqm_db.chat_demo.envelope import decrypt, dump_envelope, encrypt, load_envelope
from aqm_db.chat_demo.journal import Journal
from aqm_db.chat_demo.link import Link
from aqm_db.chat_demo.person import Person
from aqm_db.chat_demo.published_coin import verify_coin
from aqm_db.chat_demo.publisher import mint_coin
from aqm_db.chat_demo.receiver import REFUSALS
from aqm_db.errors import UnavailableError
from aqm_db.minter import FreshCoin
from aqm_db.replenisher import ReplenishReport
from aqm_db.types import CoinCategory, InventoryEntry, NewCoin
from tests.soak.people import Secrets, read_secrets

HOUR_SECONDS = 3600
_TIERS: tuple[CoinCategory, ...] = ("GOLD", "SILVER", "BRONZE")
_ATTEMPTS = 40


class WallSleep:
    """Waits by the wall clock, which somebody steps."""

    def __init__(self) -> None:
        self._until = 0.0

    async def __call__(self, seconds: float) -> None:
        """Waits until the clock has gone on."""
        self._until = time.time() + seconds
        while time.time() < self._until:
            await asyncio.sleep(0.05)
        self._until = 0.0

    async def wait(self) -> None:
        """Until whoever sleeps with it does so."""
        while time.time() >= self._until:
            await asyncio.sleep(0.01)


class Member:
    """Sends, receives, mints and fetches.

    Args:
        secrets: who it is.
        db: their database.
        link: to the coin server.
        journal: what they did.
    """

    def __init__(
        self, secrets: Secrets, db: AsyncClientDatabase, link: Link, journal: Journal
    ) -> None:
        self._me = secrets
        self._db = db
        self._link = link
        self._journal = journal
        self._minter = AsyncMinter(db.vault, self._mint, run=_run_here)
        self._replenisher = AsyncReplenisher(
            db.inventory,
            self._claim,
            verifier=self._verify,
            backoff_seconds=0.01,
            max_backoff_seconds=0.02,
        )
        self._sleeps = WallSleep(), WallSleep()
        self._known: set[str] = set()
        self._burned: list[str] = []
        self._under_way: dict[str, dict[str, Any]] = {}
        for record in journal:
            self._remember(record)

    @asynccontextmanager
    async def living(self) -> AsyncGenerator[None]:
        """Receives, and cares for the database, in the background."""
        for friend in self._me.friends:
            await self._db.inventory.register_contact(friend, "BESTIE", friend.title())
        caring, fetching = self._sleeps
        async with (
            self._db.maintenance(every=HOUR_SECONDS, sleep=caring),
            self._replenisher.running(
                every=6 * HOUR_SECONDS, on_report=self._note_report, sleep=fetching
            ),
            asyncio.TaskGroup() as group,
        ):
            listening = group.create_task(self._listen())
            for envelope in tuple(self._under_way.values()):
                await self._link.send(load_envelope(envelope))
            yield
            listening.cancel()

    async def do(self, order: dict[str, Any]) -> Any:
        """Does what it's told."""
        deeds: dict[str, Callable[..., Awaitable[Any]]] = {
            "turn": self._take_turn,
            "tidy": self._tidy,
            "count messages under way": self._count_under_way,
            "account": self._account,
            "sample": self._sample,
            "back up": self._back_up,
            "restore": self._restore,
        }
        return await deeds[order.pop("do")](**order)

    # Sending -------------------------------------------------------------------------------

    async def _take_turn(self, seed: float, messages: int) -> None:
        """Writes messages at once, changes its mind at times, and restocks."""
        random = Random(seed)  # noqa: S311 - a day that can be lived again
        async with asyncio.TaskGroup() as group:
            for _ in range(messages):
                friend = random.choice(self._me.friends)
                group.create_task(self._write(friend, random.random()))
            group.create_task(self._restock())

    async def _write(self, friend: str, seed: float) -> None:
        random = Random(seed)  # noqa: S311 - the same
        for _ in range(_ATTEMPTS):
            try:
                if await self._try_writing(friend, random):
                    return
            except UnavailableError as error:
                self._note_failure("write", error)
                await asyncio.sleep(0.05)
        raise TimeoutError("the database doesn't come back")

    async def _try_writing(self, friend: str, random: Random) -> bool:
        if random.random() < 0.1:
            await self._give_up_selecting(friend, random.randrange(40))
        coin = await self._take(friend, random.choice(("GOLD", "GOLD", "SILVER", "BRONZE")))
        if coin is None:
            self._write_down({"dry": friend})
            return True
        if random.random() < 0.1:
            await self._release(coin)
            return False
        message_id = f"{self._me.name}-{uuid4().hex}"
        envelope = encrypt(coin, message_id, self._me.name, message_id, self._me.identity)
        self._write_down({"sent": dump_envelope(envelope)})
        await self._link.send(envelope)
        return True

    async def _take(self, friend: str, tier: CoinCategory) -> InventoryEntry | None:
        coin = await self._select(friend, tier)
        if coin is None:
            await self._note_report(await self._replenisher.replenish(friend))
            coin = await self._select(friend, tier)
        if coin is None:
            # What a killed process had reserved is nobody's for a while.
            fetched = await self._claim(friend, tier, 1)
            outcomes = await self._db.inventory.store_keys(fetched)
            for each, outcome in zip(fetched, outcomes, strict=True):
                if outcome is not True:
                    self._write_down({"refused": each.key_id, "why": type(outcome).__name__})
            coin = await self._select(friend, tier)
        return coin

    async def _select(self, friend: str, tier: str) -> InventoryEntry | None:
        coin = await self._db.inventory.select_coin(friend, tier)
        if coin is not None:
            self._write_down({"taken": coin.key_id, "of": friend})
        return coin

    async def _give_up_selecting(self, friend: str, turns: int) -> None:
        selecting = asyncio.create_task(self._select(friend, "GOLD"))
        for _ in range(turns):
            await asyncio.sleep(0)
        selecting.cancel()
        try:
            coin = await selecting
        except asyncio.CancelledError:
            return
        if coin is not None:
            await self._release(coin)

    async def _release(self, coin: InventoryEntry) -> None:
        self._write_down({"releasing": coin.key_id})
        is_back = await self._db.inventory.release_coin(coin)
        self._write_down({"released": coin.key_id, "back": is_back})

    # Receiving -----------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for frame in self._link.read_frames():
            if "delivery" in frame:
                await self._receive(frame["envelope"])
                await self._link.acknowledge(frame["delivery"])
            elif "accepted" in frame:
                self._write_down({"accepted": frame["accepted"]})

    async def _receive(self, delivered: Any) -> None:
        for _ in range(_ATTEMPTS):
            try:
                return await self._read(delivered)
            except UnavailableError as error:
                self._note_failure("read", error)
                await asyncio.sleep(0.05)
        raise TimeoutError("the database doesn't come back")

    async def _read(self, delivered: Any) -> None:
        envelope = load_envelope(delivered)
        message, key = envelope.message_id, envelope.key_id
        try:
            async with self._db.vault.use_key(key) as entry:
                private_key = coins.unseal(entry, self._me.vault_key, owner=self._me.name)
                sender = self._me.identities[envelope.sender]
                decrypt(envelope, private_key, entry.coin_category, sender)
                self._write_down({"opened": key, "message": message})
                if message not in self._known:
                    self._write_down({"read": message, "key": key})
            self._write_down({"burned": key})
        except REFUSALS as error:
            why = type(error).__name__
            self._write_down({"unread": message, "key": key, "why": why, "at": _now()})

    # Keeping both full ---------------------------------------------------------------------

    async def _tidy(self) -> None:
        """Leaves nothing to be done for today."""
        for _ in range(_ATTEMPTS):
            try:
                await self._restock()
                for friend in self._me.friends:
                    await self._note_report(await self._replenisher.replenish(friend))
            except UnavailableError as error:
                self._note_failure("tidy", error)
                await asyncio.sleep(0.05)
            else:
                return

    async def _restock(self) -> None:
        try:
            await self._minter.top_up()
            while halves := await self._minter.pending_upload():
                for half in halves:
                    self._write_down({"offered": half.key_id, "expires": half.expires_at})
                await self._link.publish(halves)
                await self._minter.mark_published([half.key_id for half in halves])
        except UnavailableError as error:
            self._note_failure("restock", error)

    def _mint(self, tier: CoinCategory) -> FreshCoin:
        coin = mint_coin(self._as_person(), tier)
        self._write_down({"minted": coin.private.key_id, "at": _now()})
        return coin

    def _as_person(self) -> Person:
        me = self._me
        friend = me.friends[0]
        return Person(
            me.name, me.directory, me.identity, me.vault_key, friend, me.identities[friend]
        )

    async def _claim(self, friend: str, tier: CoinCategory, count: int) -> list[NewCoin]:
        claimed = await self._link.claim(friend, tier, count)
        for coin in claimed:
            self._write_down({"claimed": coin.key_id})
        return claimed

    def _verify(self, friend: str, coin: NewCoin) -> None:
        verify_coin(coin, self._me.identities[friend])

    async def _note_report(self, report: ReplenishReport) -> None:
        for refused in report.refused:
            why = type(refused.reason).__name__
            self._write_down({"refused": refused.coin.key_id, "why": why})

    async def _count_under_way(self) -> int:
        return len(self._under_way)

    # Looking -------------------------------------------------------------------------------

    async def _account(self) -> dict[str, Any]:
        for sleep in self._sleeps:
            await sleep.wait()
        db = self._db
        report = await db.check()
        return {
            "now": _now(),
            "active": {tier: await db.vault.get_all_active_ids(tier) for tier in _TIERS},
            "counters": asdict(await db.vault.get_stats()),
            "pending": [half.key_id for half in await self._minter.pending_upload(10_000)],
            "cached": {
                friend: [coin.key_id for coin in await db.inventory.list_coins(friend)]
                for friend in self._me.friends
            },
            "problems": [f"{each.database}: {each.kind} at {each.key}" for each in report.problems],
        }

    async def _sample(self) -> dict[str, int]:
        """How many keys, and members of keys, there are of each kind."""
        while True:
            # It's started, if somebody has ended it.
            await self._db.health()
            try:
                return {**await self._count_keys(0), **await self._count_keys(1)}
            except RedisError:
                await asyncio.sleep(0.05)

    async def _count_keys(self, number: int) -> dict[str, int]:
        found: Counter[str] = Counter()
        async with self._client(number) as client:
            async for key in client.scan_iter():
                kind = ":".join(key.decode().split(":")[:3])
                found[kind] += 1
                match await client.type(key):
                    case b"zset":
                        found[f"{kind} members"] += await client.zcard(key)
                    case b"hash" if not kind.endswith(":key"):
                        found[f"{kind} fields"] += await cast("Any", client.hlen(key))
                    case _:
                        pass
        return found

    def _client(self, number: int) -> "Redis":
        server = self._db.resources.server
        assert server is not None
        return Redis(unix_socket_path=str(server.socket_path), db=number)

    async def _back_up(self, path: str) -> None:
        await export_backup(self._db, path)

    async def _restore(self, path: str, *, lost: bool) -> dict[str, Any]:
        """Reads a backup: into an empty database, or into one that has gone on since."""
        used = self._burned if lost else ()
        return asdict(await import_backup(self._db, path, used=used, inventory=not lost))

    # Writing down --------------------------------------------------------------------------

    def _note_failure(self, what: str, error: UnavailableError) -> None:
        self._write_down({"failed": what, "unknown": error.outcome_unknown, "why": str(error)})

    def _write_down(self, record: dict[str, Any]) -> None:
        self._journal.append(record)
        self._remember(record)

    def _remember(self, record: dict[str, Any]) -> None:
        match record:
            case {"read": message}:
                self._known.add(message)
            case {"burned": key}:
                self._burned.append(key)
            case {"sent": envelope}:
                self._under_way[envelope["message_id"]] = envelope
            case {"accepted": message}:
                self._under_way.pop(message, None)
            case _:
                pass


async def _run_here(minting: Callable[[], list[FreshCoin]]) -> list[FreshCoin]:
    """In no thread of its own: libfaketime reads its file in one at a time only."""
    return minting()


class JournalHandler(logging.Handler):
    """Keeps the names of the library's warnings."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Writes down one."""
        details = (str(getattr(record, name, "")) for name in ("operation", "error"))
        self._journal.append({"warned": " ".join([record.getMessage(), *details]).strip()})


def _now() -> int:
    return int(time.time() * 1000)


async def live(root: Path, name: str, *, confirmed: bool) -> None:
    """Does what stdin says, until it ends."""
    secrets = read_secrets(root, name)
    url = f"embedded://{secrets.directory / 'database'}"
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    pipe, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    with closing(pipe), Journal(secrets.directory / "journal") as journal:
        logging.getLogger("aqm_db").addHandler(JournalHandler(journal))
        async with (
            connect(url, confirm_fsync=confirmed) as db,
            Link.open(str(root / "server.sock"), name) as link,
        ):
            await link.introduce(secrets.identity.public)
            member = Member(secrets, db, link, journal)
            async with member.living():
                _tell("ready")
                while line := await orders.readline():
                    _tell(await member.do(json.loads(line)))


def _tell(answer: Any) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # A server of its own mustn't share what is libfaketime's with a process that is killed.
    os.environ.pop("FAKETIME_SHARED", None)
    asyncio.run(live(Path(sys.argv[1]), sys.argv[2], confirmed=sys.argv[3] == "confirmed"))
