"""The straight code at the beginning of a script does what the rest would do, whatever is there.

Each case is tried with the script, and with the script without that code: both give the same
reply, and leave the same behind. Then protections are taken out of it, one by one, and a case
notices.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from aqm_db import config
from aqm_db._io.confirming import UNCONFIRMED
from aqm_db._lua.loader import Code
from aqm_db._model.keys import Keys
from aqm_db._operations import Scope
from aqm_db._operations.stock import SELECT, build_select
from tests.conftest import INVENTORY_DB
from tests.faults.support.fault_table import Tally
from tests.support.backends import REDIS_6, REDIS_8, VALKEY_9, RunningServer
from tests.support.samples import BOB, DAY_MS

NAMES = Keys().of(BOB)
NOW = 1_800_000_000_000
CLAIM_TTL = config.INV_CLAIM_TTL_SECONDS * 1000
USER, REQUEST = "limited", "request"
GOLD, SILVER, _ = NAMES.queues
CLAIM = NAMES.claims + REQUEST
PLACE = NOW - DAY_MS + 7
"""The coin's score isn't when it was fetched: another one had that already."""
STRAIGHT = re.compile(r"(?s)^repeat$.*?^until true$", re.MULTILINE)

Prepare = Callable[[Redis], object]


def change_row(**fields: object) -> Prepare:
    """What makes the coin at the head of the queue another one; a field that is None goes."""

    def change(client: Redis) -> None:
        for name, value in fields.items():
            if value is None:
                client.hdel(NAMES.row("k1"), name)
            else:
                client.hset(NAMES.row("k1"), name, str(value))

    return change


def change_contact(**fields: object) -> Prepare:
    """What makes Bob another contact; a field that is None goes."""

    def change(client: Redis) -> None:
        for name, value in fields.items():
            if value is None:
                client.hdel(NAMES.meta, name)
            else:
                client.hset(NAMES.meta, name, str(value))

    return change


def rename_coin(client: Redis, key_id: str, row: str) -> None:
    """Gives the coin at the head another id, and its row another name."""
    client.zadd(GOLD, {key_id: PLACE - 1})
    client.rename(NAMES.row("k1"), row)
    client.zrem(GOLD, "k1")


def take_name(client: Redis) -> None:
    """Queues a coin whose id is the encoded form of another one's, which isn't there itself."""
    rename_coin(client, "a%3Ab", NAMES.row("a:b"))


CASES: dict[str, Prepare] = {
    "usual": lambda _: None,
    "stored just now": change_row(fetched_at=NOW - 5),
    "stored a while ago, by a request of long ago": change_row(fetched_at=NOW - CLAIM_TTL),
    "stored by nobody": change_row(by=None, fetched_at=NOW - 5),
    "with an end": change_row(expires_at=NOW + 1),
    "with an end that has come": change_row(expires_at=NOW),
    "with an end long after": change_row(expires_at=NOW + 30 * DAY_MS + 1),
    "with an end just within the memory": change_row(expires_at=NOW + 30 * DAY_MS),
    "with an end that outlives the coin's age": change_row(
        expires_at=NOW + 1, fetched_at=NOW - 90 * DAY_MS
    ),
    "with an end that is none": change_row(expires_at="1.9000000e+12"),
    "with an empty end": change_row(expires_at=""),
    "old": change_row(fetched_at=NOW - 30 * DAY_MS + 1),
    "too old": change_row(fetched_at=NOW - 30 * DAY_MS),
    "fetched in the future": change_row(fetched_at=NOW + 9),
    "fetched at no time": change_row(fetched_at="1.7999999e+12"),
    "fetched at no time at all": change_row(fetched_at=None),
    "fetched in another era": change_row(fetched_at=99),
    "of another tier": change_row(coin_category="SILVER"),
    "without a key": change_row(public_key=None),
    "without a signature": change_row(signature=None),
    "without a row": lambda client: client.delete(NAMES.row("k1")),
    "with a row of the wrong type": lambda client: (
        client.delete(NAMES.row("k1")),
        client.set(NAMES.row("k1"), "x"),
    ),
    "id with a colon": lambda client: rename_coin(client, "a:b", NAMES.row("a:b")),
    "id with a colon, as it is": lambda client: rename_coin(client, "a:b", NAMES.rows + "a:b"),
    "id as another one's is encoded": take_name,
    "id with a dot": lambda client: rename_coin(client, "a.b", NAMES.row("a.b")),
    "nobody": lambda client: client.delete(NAMES.meta),
    "contact without a priority": change_contact(priority=None),
    "contact without a registration": change_contact(by=None),
    "contact never written to": change_contact(last_msg_at=None),
    "contact written to later": change_contact(last_msg_at=NOW + 5),
    "contact written to just now": change_contact(last_msg_at=NOW),
    "contact written to at no time": change_contact(last_msg_at="x" * 13),
    "contact written to at no time, like a number": change_contact(last_msg_at="1e12"),
    "contact of the wrong type": lambda client: (
        client.delete(NAMES.meta),
        client.set(NAMES.meta, "x"),
    ),
    "used before": lambda client: client.zadd(NAMES.used, {"k1": NOW - 9}),
    "used later": lambda client: client.zadd(NAMES.used, {"k1": NOW + 9}),
    "memory of the wrong type": lambda client: client.set(NAMES.used, "x"),
    "queue of the wrong type": lambda client: (client.delete(GOLD), client.set(GOLD, "x")),
    "none": lambda client: client.delete(GOLD),
    "asked before": lambda client: client.rename(NAMES.row("k2"), CLAIM),
    "claimed by a value of the wrong type": lambda client: client.set(CLAIM, "x"),
}
TIMES = {"now": 0, "nobody knows when": None, "late": -29_000, "too early": 5_000}
WRITES = ("RENAMENX", "ZADD", "HSET", "SET", "PEXPIRE", "ZREM")

MUTANTS = {
    "a stale coin": (r"age >= COIN_TTL and not expires_at", "false"),
    "a coin whose end has come": (r"left <= 0", "false"),
    "an end that isn't remembered": (r"left > USED_TTL", "false"),
    "a coin of the future": (r"age < 0", "false"),
    "a number that is none": (r"or not find\(fetched_at, '\^%d\+\$'\)", ""),
    "an end that is none": (
        r"#expires_at == 13 and find\(expires_at, '\^%d\+\$'\) and expires_at",
        "(tonumber(expires_at) or present + 1)",
    ),
    "another tier's coin": (r"coin\[1\] ~= tier", "not coin[1]"),
    "a coin without a key": (r"not coin\[2\]", "false"),
    "a coin without a signature": (r"not coin\[3\]", "false"),
    "an unregistered contact": (r"not contact\[1\] or not last", "not last"),
    "ids that aren't encoded": (r"not find\(id, '\^\[%w_-\]\+\$'\)", "false"),
    "no origin": (r"\(contact\[2\] or ''\)", "''"),
    "the time in the place of the place": (r"head\[2\]", "now"),
    "a message that was never sent": (r"last == now or redis", "true or redis"),
    "a message before the last one": (r"or last > now", ""),
    "late": (r"shown - sent >= LATE", "false"),
    "early": (r"sent - shown > CLOCK_SLACK", "false"),
    "undated": (r"not sent or shown - sent >= LATE or sent - shown > CLOCK_SLACK", "false"),
    "a claim that is overwritten": (r"'RENAMENX', row, claim\) ~= 1", "'RENAME', row, claim)"),
    "an earlier use": (r"'ZADD', used, 'NX', now, id\) == 1", "'ZADD', used, now, id)"),
    "no memory": (r"redis\.pcall\('ZADD', used, 'NX', now, id\) == 1", "true"),
    "no receipt": (r"'key_id', id, 'receipt', receipt\) == 2", "'key_id', id)"),
    "no claim for the store": (r"not by or age - CLAIM_TTL >= 0", "true"),
    "a claim for any store": (r"age - CLAIM_TTL >= 0", "false"),
    "a claim for ever": (r"redis\.pcall\('PEXPIRE', claim, CLAIM_TTL\) == 1", "true"),
    "a coin that stays in its queue": (r"redis\.pcall\('ZREM', queue, id\) == 1", "true"),
}
"""What is taken out of the straight code, and what is put in its place."""
LEFT_OVERS = {
    "the expiry of a claim": (r"redis\.pcall\('PEXPIRE', claim, coin_ttl\)\n", ""),
    "fields of a claim": (r"redis\.pcall\('HDEL', claim, 'key_id', 'receipt'\)\n", ""),
    "the claim": (r"redis\.call\('RENAMENX', claim, row\)\n", ""),
}
"""What isn't put back when something can't be written."""


@pytest.fixture
def admin(real_server: RunningServer) -> Iterator[Redis]:
    """A client that may do everything, of a database with three coins of Bob's in two tiers."""
    with real_server.sync_client(INVENTORY_DB) as client:
        client.flushdb()
        yield client
        client.flushdb()


@pytest.fixture
def limited(admin: Redis, real_server: RunningServer) -> Iterator[Redis]:
    """A client of a user who may do less."""
    admin.acl_setuser(USER, enabled=True, nopass=True, reset=True, keys=["*"], commands=["+@all"])
    with real_server.sync_client(INVENTORY_DB, username=USER, password="any") as client:
        yield client
    admin.acl_deluser(USER)


def fill(client: Redis) -> None:
    """Puts everything there, as it usually is."""
    client.flushdb()
    meta: dict[Any, Any] = {
        "priority": "BESTIE",
        "last_msg_at": NOW - 9,
        "by": "registration",
        "newest": PLACE + 1,
    }
    client.hset(NAMES.meta, mapping=meta)
    for number, (tier, queue) in enumerate([("GOLD", GOLD), ("GOLD", GOLD), ("SILVER", SILVER)], 1):
        coin: dict[Any, Any] = {
            "coin_category": tier,
            "public_key": b"\0public",
            "signature": b"signature",
            "fetched_at": NOW - DAY_MS,
            "by": f"stored{number}",
        }
        client.hset(NAMES.row(f"k{number}"), mapping=coin)
        client.zadd(queue, {f"k{number}": PLACE + number - 1})
    client.zadd(NAMES.used, {"k0": NOW - 99})


def ask(
    client: Redis, source: str, sent: int | None, clock: Callable[[], int] | None = lambda: NOW
) -> Any:
    """What a script replies, or the kind of its error."""
    scope = Scope(None, Keys(), clock, lambda: REQUEST, UNCONFIRMED)  # type: ignore[arg-type]
    call = build_select(scope, BOB, "GOLD")
    dated = ("" if sent is None else sent, *call.arguments)
    try:
        return client.eval(source, len(call.keys), *call.keys, *dated)
    except ResponseError as error:
        return re.findall(r"WRONGTYPE|NOPERM|permission|syntax|attempt", str(error))


def look(client: Redis) -> dict[bytes, Any]:
    """All that is there: values, and whether they last for ever, as a claim or longer."""
    found: dict[bytes, Any] = {}
    keys: Any = client.keys()
    for key in keys:
        left = client.pttl(key)
        kind = client.type(key)
        value: Any
        if kind == b"hash":
            value = client.hgetall(key)
        elif kind == b"zset":
            value = client.zrange(key, 0, -1, withscores=True)
        else:
            value = client.get(key)
        found[key] = (value, "ever" if left < 0 else "claim" if left <= CLAIM_TTL else "longer")
    return found


def read_time(client: Redis) -> int:
    """What the server's clock shows, in ms."""
    seconds, micros = client.time()
    return int(seconds) * 1000 + int(micros) // 1000


def try_case(admin: Redis, client: Redis, source: str, prepare: Prepare, ahead: int | None) -> Any:
    """What comes of a case: the reply, and what is left."""
    fill(admin)
    prepare(admin)
    reply = ask(client, source, None if ahead is None else read_time(admin) + ahead)
    if reply[:1] == [Code.UNKNOWN]:
        # It says what time it is.
        reply.pop()
    return reply, look(admin)


def without_straight(source: str) -> str:
    """A script that has nothing but what does everything."""
    text, times = STRAIGHT.subn("", source)
    assert times == 1
    return text


def list_cases() -> Iterator[tuple[str, Prepare, str, int | None, str]]:
    """All of them: name, what is there, when it was sent, and what is forbidden."""
    for name, prepare in CASES.items():
        yield name, prepare, "now", 0, ""
    for when, ahead in TIMES.items():
        yield "usual", CASES["usual"], when, ahead, ""
        yield "asked before", CASES["asked before"], when, ahead, ""
    for command in WRITES:
        for name in ("usual", "stored just now", "used before", "with an end"):
            yield name, CASES[name], "now", 0, command


def find_differences(admin: Redis, limited: Redis, source: str) -> list[str]:
    """The cases in which a script does something else than its slow part."""
    found: list[str] = []
    slow = without_straight(SELECT.source)
    for name, prepare, when, ahead, command in list_cases():
        commands = ["+@all", f"-{command}"] if command else ["+@all"]
        admin.acl_setuser(USER, enabled=True, nopass=True, keys=["*"], commands=commands)
        expected, actual = (
            try_case(admin, limited, text, prepare, ahead) for text in (slow, source)
        )
        if actual != expected:
            found.append(f"{name}, {when}, without {command or 'nothing'}: {actual[0]}")
    return found


@pytest.mark.parametrize(
    "real_server", [VALKEY_9, REDIS_8, REDIS_6], indirect=True, ids=lambda backend: backend.name
)
def test_both_parts_do_the_same(admin: Redis, limited: Redis, tally: Tally) -> None:
    """In each case, whatever may not be written."""
    assert find_differences(admin, limited, SELECT.source) == []
    tally.add("straight path against the other one", runs=len([*list_cases()]))


@pytest.mark.parametrize("name", ["usual", "stored just now", "with an end"])
def test_the_straight_part_comes_to_an_end(admin: Redis, name: str) -> None:
    """What nearly all calls come to is done by it alone."""
    first, _, _ = SELECT.source.partition("-- Otherwise:")
    reply, _ = try_case(admin, admin, first + "\nreturn 'nothing'", CASES[name], 0)
    assert (reply[0], reply[3]) == (0, b"k1")


def test_what_time_it_is(admin: Redis) -> None:
    """The server's clock, to the millisecond; the straight part writes its text by itself."""
    fill(admin)
    admin.hset(NAMES.meta, "last_msg_at", 1_000_000_000_000)
    first, _, _ = SELECT.source.partition("-- Otherwise:")
    for key_id in ("k1", "k2"):
        before = read_time(admin)
        admin.hset(NAMES.row(key_id), "fetched_at", before - 9)
        reply = ask(admin, first, before, None)
        assert before <= int(reply[-1].split()[0]) <= read_time(admin)
        admin.delete(CLAIM)


@pytest.mark.parametrize("micros", ["0", "999", "1000", "12345", "123456", "999999"])
def test_how_a_time_is_written(admin: Redis, micros: str) -> None:
    """A server says microseconds without leading zeros."""
    [written] = re.findall(r"or (time\[1\] \.\. .*)", SELECT.source)
    text = admin.eval(f"local time = {{'1800000000', '{micros}'}} return {written}", 0)
    assert int(cast("bytes", text)) == 1_800_000_000_000 + int(micros) // 1000


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_straight_part_without(admin: Redis, limited: Redis, mutant: str) -> None:
    """One of its tests, or of its steps: a case notices."""
    pattern, replacement = MUTANTS[mutant]
    first, mark, rest = SELECT.source.partition("-- Otherwise:")
    mutated, times = re.subn(pattern, replacement, first)
    assert times == 1, f"{times} times {pattern!r}"
    assert find_differences(admin, limited, mutated + mark + rest)


@pytest.mark.parametrize("mutant", LEFT_OVERS)
def test_a_way_back_without(admin: Redis, limited: Redis, mutant: str) -> None:
    """A part of it: what the straight code moved isn't as it was."""
    pattern, replacement = LEFT_OVERS[mutant]
    mutated, times = re.subn(pattern, replacement, SELECT.source)
    assert times == 1, f"{times} times {pattern!r}"
    assert find_differences(admin, limited, mutated)
