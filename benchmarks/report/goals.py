"""What the library promises of its speed, and whether a run shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal, TypeAlias

from benchmarks.measuring import names
from benchmarks.measuring.owner_steps import STEPS
from benchmarks.report import costs
from benchmarks.report.results import Results, Spread

ALLOWED = 0.01
"""The share of calls that may take longer than 2 ms at a rate that counts as held."""

WALKING = "954ddfd"
"""The last commit in which what an owner did walked over the whole database."""
SLOW_SELECT = "d78437c"
"""The commit that ``select_coin`` is compared with."""
AT_HAND_DISTANCES = (1, 2, 5, 20)
ANY = ""
"""Any commit."""

Measure: TypeAlias = Callable[[Results], float | Spread]
Reason: TypeAlias = Callable[[Results], str]


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure with a bound.

    Attributes:
        text: what is measured.
        measure: takes it from the results; raises KeyError if it wasn't measured.
        bound: the figure that is wanted.
        side: which side of the bound is the good one.
        unit: what the figure counts.
        possible: the best figure that the server allows, if it can be known.
        reason: what stands in the way, of what was measured in the same run; raises KeyError if
            it wasn't.
    """

    text: str
    measure: Measure
    bound: float
    side: Literal["at most", "at least", "under"]
    unit: str = "x"
    possible: Measure | None = None
    reason: Reason | None = None

    def is_met(self, measured: float | Spread) -> bool:
        """Whether a figure is on the good side; the round in the middle decides."""
        figure = measured.middle if isinstance(measured, Spread) else measured
        if self.side == "at least":
            return figure >= self.bound
        return figure < self.bound if self.side == "under" else figure <= self.bound


def _lone(
    text: str,
    other: str,
    bound: float,
    *,
    possible: Measure | None = None,
    reason: Reason | None = None,
) -> Goal:
    """A lone call's time, as a multiple of another's."""
    return Goal(
        text,
        lambda run: run.p50_ratio(names.SELECT, names.LIBRARY, other),
        bound,
        "at most",
        possible=possible,
        reason=reason,
    )


def _raw_against_ping(run: Results) -> float:
    return run.p50_ratio(names.SELECT, names.RAW, names.PING)


def _lone_parts(run: Results) -> str:
    """Where a lone call's time goes."""
    script = run.figure(names.SERVER, names.SCRIPT, "us")
    raw, own, default = (
        1e3 * run.figure(names.SELECT, name, "p50_ms")
        for name in (names.RAW, names.OWN_PING, names.PING)
    )
    return (
        f"the script takes {script:.0f} us in the server, where PING takes none, and a raw socket, "
        f"which has no event loop, {raw:.0f} us for it in all; a PING takes {own:.0f} us over the "
        f"library's connection and {default:.0f} us over the default client"
    )


def _lone_gain(text: str, other: str, bound: float) -> Goal:
    """How many times faster a lone call is than another."""
    return Goal(
        text,
        lambda run: run.p50_ratio(names.SELECT, other, names.LIBRARY),
        bound,
        "at least",
        reason=_lone_parts,
    )


def _server_share(callers: int, other: str, run: Results) -> str:
    """What of the other's time for each call is the server's."""
    server, client = (
        1e6 / run.figure(names.callers(callers), name, "operations_per_second")
        for name in (names.RAW, other)
    )
    return f"the server takes {server:.0f} us for each, whoever asks; the other {client:.0f} us"


def _mean_wait(callers: int, run: Results) -> str:
    """What a call takes on average where so many wait for each other."""
    raw, own, default = (
        1e3 * callers / run.figure(names.callers(callers), name, "operations_per_second")
        for name in (names.RAW, names.LIBRARY, names.EVALSHA)
    )
    return (
        f"on average a call takes {own:.2f} ms, of {callers} on a raw socket {raw:.2f} ms and over "
        f"the default client {default:.2f} ms"
    )


def _throughput(text: str, callers: int, other: str, bound: float) -> Goal:
    """A multiple of another's throughput; the raw socket's is the most that can be."""
    group = names.callers(callers)
    return Goal(
        text,
        lambda run: run.paired_ratio(group, other, names.LIBRARY),
        bound,
        "at least",
        possible=None
        if other == names.RAW
        else lambda run: run.paired_ratio(group, other, names.RAW),
        reason=None if other == names.RAW else partial(_server_share, callers, other),
    )


def _growth(run: Results) -> float:
    sizes = list(run.group(names.GROWTH))
    if not sizes:
        raise KeyError(names.GROWTH)
    return run.p50_ratio(names.GROWTH, sizes[-1], sizes[0])


def _batch(text: str, group: str) -> Goal:
    """A batch's time, as a multiple of a hand-written pipeline's."""
    return Goal(
        text,
        lambda run: run.p50_ratio(group, names.BATCH, names.pipeline_of(50)),
        1.5,
        "at most",
    )


def _rate_limit(run: Results) -> str:
    """What an arrival takes that finds nothing in flight."""
    held = run.rate_held(names.LIBRARY, ALLOWED)
    alone = 1e6 / run.figure(names.callers(1), names.LIBRARY, "operations_per_second")
    cores = run.content["machine_info"]["cpu"]["count"]
    return (
        f"a call that finds nothing in flight takes {alone:.0f} us, {held * alone / 1e4:.0f}% of "
        f"the time at {held:,.0f}/s; the arrivals come from a third process on {cores} cores"
    )


def _bytes_of(run: Results) -> str:
    """What a BRONZE coin's bytes are spent on."""
    row, name, payload = (
        run.figure(names.MEMORY, "BRONZE", key)
        for key in ("row_bytes", "name_bytes", "payload_bytes")
    )
    return (
        f"the row takes {row:.0f} B: its key of {name:.0f} B with two UUIDs, {payload:.0f} B of "
        "payload and the fields' names; the rest is the UUID in the queue and the hash table"
    )


def _memory(tier: str, key: str) -> Measure:
    return lambda run: run.figure(names.MEMORY, tier, key)


def _sync(text: str, group: str) -> Goal:
    """What a synchronous call takes beyond the same work of plain redis-py."""
    return Goal(
        text, lambda run: run.figure(group, "aqm_db.sync", "more_us"), 15.0, "at most", "us"
    )


def _shared_cores(group: str, cluster: str, other: str, run: Results) -> str:
    """What two sets of servers take of the cores for the same call."""
    took, others = (run.group(names.cpu(group))[name].extra for name in (cluster, other))
    cores = run.content["machine_info"]["cpu"]["count"]
    return (
        f"all servers share {cores} cores, where a call takes {took['servers_us']:.0f} us of "
        f"{cluster} and {others['servers_us']:.0f} us of {other}; the client takes "
        f"{took['client_us']:.0f} and {others['client_us']:.0f} us"
    )


def _round_beside(run: Results) -> str:
    """What the ratio is made of, and who shares the cores."""
    alone, beside = (
        run.figure(names.ROUND_BESIDE, name, "p99_ms") for name in (names.ALONE, names.BESIDE)
    )
    cores = run.content["machine_info"]["cpu"]["count"]
    return (
        f"{beside:.2f} ms instead of {alone:.2f}, medians; the server, the caller, what times the "
        f"calls, and the provider's program share {cores} cores"
    )


def _clustered(text: str, group: str, cluster: str, other: str) -> Goal:
    """A lone call's time on a cluster, as a multiple of that on a server."""
    return Goal(
        text,
        lambda run: run.p50_ratio(group, cluster, other),
        1.2,
        "at most",
        reason=partial(_shared_cores, group, cluster, other),
    )


def _trend(run: Results) -> float:
    """The last owners' time, as a multiple of the first ones', each half by its median."""
    times = [result.extra["us"] for result in run.group(names.MANY_OWNERS).values()]
    if not times:
        raise KeyError(names.MANY_OWNERS)
    half = len(times) // 2
    return median(times[half:]) / median(times[:half])


def _beside_others(server: str, run: Results) -> Spread:
    """The time of the operation that suffers most, as a multiple of its time alone."""
    return _suffering(server, _suffers_most(server, run), run)


def _suffers_most(server: str, run: Results) -> str:
    """The operation whose time is the largest multiple."""
    return max(STEPS, key=lambda step: _suffering(server, step, run).middle)


def _suffering(server: str, step: str, run: Results) -> Spread:
    return run.paired_ratio(costs.beside(server, step), names.BESIDE_OTHERS, names.ALONE)


def _longest(figure: str, run: Results) -> Spread:
    """Of all tasks at all sizes that of the longest, in ms."""
    return run.spread(*_worst(figure, run)).times(1e3)


def _worst(figure: str, run: Results) -> tuple[str, str]:
    """The group and the size of the longest."""
    found = list(costs.limited(run, figure))
    if not found:
        raise KeyError(figure)
    return max(found, key=lambda each: run.spread(*each).middle)


def _at_work(figure: str, run: Results) -> str:
    group, size = _worst(figure, run)
    return f"{costs.task_of(group, figure)}, {size}"


def _idle(figure: str, run: Results) -> Spread:
    """The same of what does nothing, in ms: what the machine itself adds."""
    group = names.cost(names.IDLING, figure)
    return run.spread(group, costs.largest(run, group)).times(1e3)


def _against(
    text: str,
    commit: str,
    task: str,
    bound: float,
    *,
    size: int | None = None,
    figure: str = names.TIME,
    gain: bool = False,
) -> Goal:
    """The time of a task, as a multiple of the other commit's.

    Args:
        text: what is measured.
        commit: the one that the goal is about.
        task: the task.
        bound: the figure that is wanted.
        size: its size, if it has several.
        figure: what is measured of it, if it isn't the time.
        gain: whether it's how many times faster it is.
    """
    group = names.cost(task, figure)

    def measure(run: Results) -> Spread:
        if not run.is_against(commit):
            raise KeyError(commit)
        own = costs.largest(run, group) if size is None else names.sized(size)
        both = own, names.against(own)
        return run.paired_ratio(group, *(reversed(both) if gain else both))

    return Goal(text, measure, bound, "at least" if gain else "at most")


def _entry(run: Results) -> float:
    entries = run.group(names.ENTRY).values()
    if not entries:
        raise KeyError(names.ENTRY)
    return max(entry.extra["memory_bytes"] for entry in entries)


def _doubling(run: Results) -> Spread:
    group = names.cost(names.RESERVE, names.TIME)
    most = costs.largest(run, group)
    return run.paired_ratio(group, most, costs.own_sizes(run, group)[-2])


def _long_round(run: Results) -> float:
    """Seconds, from what each owner takes beside other programs' selections."""
    return run.group(names.ROUND)[names.BESIDE_SELECTS].extra["us"] * 100_000 / 1e6


def _more_connections(run: Results) -> float:
    before, after = (
        sum(run.figure(names.CONNECTIONS, when, key) for key in ("each", "more"))
        for when in ("before", "after")
    )
    return after - before


def _longest_at_hand(variant: str, run: Results) -> float:
    """What the slowest call of a round waits for, in ms: of all distances and disks the most."""
    groups = (*map(names.at_hand_far, AT_HAND_DISTANCES), names.AT_HAND_ON_DISK)
    return max(run.figure(group, variant, "longest_wait_ms") for group in groups)


def _import(run: Results) -> Spread:
    return run.paired_ratio(names.IMPORT, "aqm_db", "redis.asyncio")


def _cold(text: str, group: str, bound: float, reason: Reason | None = None) -> Goal:
    """What a start takes, as a multiple of the other commit's."""

    def measure(run: Results) -> Spread:
        if not run.is_against(WALKING):
            raise KeyError(WALKING)
        return run.paired_ratio(group, names.LIBRARY, names.against(names.LIBRARY))

    return Goal(text, measure, bound, "at most", reason=reason)


def _join(run: Results) -> Spread:
    return run.spread(names.JOIN, names.LIBRARY).times(1e3)


def _calibration(_: Results) -> str:
    return (
        "on x86-64, Valkey 9.1 sleeps three times for 10 ms when it starts, to learn how fast the "
        "processor's clock runs, and nothing tells it not to"
    )


GOALS = (
    _lone(
        "a lone `select_coin` against PING through the default client, p50",
        names.PING,
        1.1,
        possible=_raw_against_ping,
        reason=_lone_parts,
    ),
    _lone("against the same EVALSHA through the default client, p50", names.EVALSHA, 1.0),
    Goal(
        "a coin at hand, p50",
        lambda run: 1e3 * run.figure(names.AT_HAND_ALONE, names.AT_HAND, "p50_ms"),
        *(15, "at most", "us"),
    ),
    Goal(
        "a coin at hand against a lone `select_coin`, p50",
        lambda run: run.p50_ratio(names.AT_HAND_ALONE, names.AT_HAND, names.LIBRARY),
        *(0.1, "at most"),
    ),
    Goal(
        "a coin at hand against sqlite3 on the loop's own thread, p50",
        lambda run: run.p50_ratio(names.AT_HAND_ALONE, names.AT_HAND, names.SQLITE),
        *(1, "under"),
    ),
    Goal(
        "64 callers, while coins at hand last, against `select_coin`, throughput",
        lambda run: run.paired_ratio(names.AT_HAND_CROWD, names.LIBRARY, names.AT_HAND),
        *(5, "at least"),
    ),
    Goal(
        "the longest wait for a coin at hand, up to 20 ms away, or once a second on the disk",
        *(partial(_longest_at_hand, names.AT_HAND), 2.0, "under", "ms"),
        possible=partial(_longest_at_hand, names.NOTHING),
    ),
    _lone_gain("faster than the specification's five commands, p50", names.COMMANDS, 3.5),
    _lone_gain("faster than two pipelines, p50", names.PIPELINES, 2.0),
    _throughput("8 callers against the default client, throughput", 8, names.EVALSHA, 3.0),
    _throughput("64 callers against the default client, throughput", 64, names.EVALSHA, 4.0),
    _throughput("512 callers against the default client, throughput", 512, names.EVALSHA, 5.0),
    _throughput(
        "64 callers against one hand-written pipeline of 64", 64, names.pipeline_of(64), 1.7
    ),
    _throughput("64 callers against a raw socket, throughput", 64, names.RAW, 0.85),
    _throughput("512 callers against a raw socket, throughput", 512, names.RAW, 0.8),
    Goal(
        "arrivals per second held with at most 1% over 2 ms, against the default client",
        lambda run: run.rate_held(names.LIBRARY, ALLOWED) / (run.rate_held(names.EVALSHA, ALLOWED)),
        2.5,
        "at least",
        reason=_rate_limit,
    ),
    Goal(
        "p99 at 1,000 arrivals per second",
        lambda run: run.figure(names.rate(1000), names.LIBRARY, "round_p99_ms"),
        2.0,
        "under",
        "ms",
        lambda run: run.figure(names.rate(1000), names.NOTHING, "round_p99_ms"),
    ),
    Goal(
        "p99 of 16 callers",
        lambda run: run.figure(names.callers(16), names.LIBRARY, "round_p99_ms"),
        2.0,
        "under",
        "ms",
        reason=partial(_mean_wait, 16),
    ),
    Goal("a lone `select_coin` among the most contacts against 10, p50", _growth, 1.1, "at most"),
    Goal(
        "memory of a GOLD coin against its payload",
        _memory("GOLD", "share_of_payload"),
        1.1,
        "at most",
    ),
    Goal(
        "memory of a SILVER coin against its payload",
        _memory("SILVER", "share_of_payload"),
        1.25,
        "at most",
    ),
    Goal(
        "memory of a BRONZE coin",
        _memory("BRONZE", "bytes_per_coin"),
        400,
        "at most",
        "B",
        reason=_bytes_of,
    ),
    _sync("a synchronous `select_coin` beyond plain redis-py, p50", names.SYNC_SELECT),
    _sync("a synchronous `fetch_key` beyond plain redis-py, p50", names.SYNC_FETCH),
    Goal("`import aqm_db` against `import redis.asyncio`", _import, 1.15, "at most"),
    _cold("`aqm-db status`, the whole process, against then", names.STATUS, 0.6),
    Goal("`connect()` to an embedded server that runs", _join, 5, "at most", "ms"),
    _cold("`connect()` to one that has to start, against then", names.START, 0.7, _calibration),
    _cold("`connect()` to a new embedded database, against then", names.BEGIN, 0.7),
    _clustered(
        "a lone `select_coin` on 3 primaries against a server, p50",
        *(names.UNREPLICATED, names.CLUSTER_OF_THREE, names.SERVER_ALONE),
    ),
    _clustered(
        "on 3 primaries with replicas against a server with one, p50",
        *(names.REPLICATED, names.CLUSTER_OF_SIX, names.SERVER_AND_REPLICA),
    ),
    _clustered(
        "on 3 primaries with replicas against a server without, p50",
        *(names.REPLICATED, names.CLUSTER_OF_SIX, names.SERVER_ALONE),
    ),
    Goal("a call of the later half of all owners against the first half", _trend, 1.2, "at most"),
    Goal(
        "connections that all owners together add",
        *(_more_connections, 0, "at most", "connections"),
    ),
    Goal(
        "p99 at 1,000 per second beside a round of maintenance against without",
        lambda run: run.paired_ratio(names.ROUND_BESIDE, names.BESIDE, names.ALONE),
        1.3,
        "at most",
        reason=_round_beside,
    ),
    *(
        Goal(
            f"an owner's slowest operation beside others' keys, against alone, {server}",
            partial(_beside_others, server),
            1.2,
            "at most",
            reason=partial(_suffers_most, server),
        )
        for server in costs.SERVERS
    ),
    Goal(
        "the longest script, whatever the size",
        *(partial(_longest, names.LONGEST), 5, "at most", "ms", partial(_idle, names.LONGEST)),
        reason=partial(_at_work, names.LONGEST),
    ),
    Goal(
        "the longest stall of the event loop, whatever the size",
        *(partial(_longest, names.STALL), 20, "at most", "ms", partial(_idle, names.STALL)),
        reason=partial(_at_work, names.STALL),
    ),
    Goal("a contact's entry in the index, on any server", _entry, 100, "under", "bytes"),
    Goal("reserving for twice as many contacts", _doubling, 2.2, "at most"),
    _against(
        "reserving for 1,600 contacts, against then",
        *(WALKING, names.RESERVE, 1 / 20),
        size=1_600,
    ),
    _against(
        "a source that gives 400 contacts too many, against then",
        *(WALKING, names.OVERGIVEN, 1 / 30),
        size=400,
    ),
    _against(
        "memory that 3,500 coins a second take within 45 s, against then",
        *(WALKING, names.LOAD, 1 / 10),
        figure=names.BYTES,
    ),
    _against("`get_inventory` of 1,000 contacts, against then", WALKING, names.LOOK, 0.4),
    _against("`garbage_collect` of 1,000 contacts, against then", WALKING, names.COLLECT, 0.4),
    *(
        goal
        for server in costs.HOT_SERVERS
        for goal in (
            _against(
                f"a lone `select_coin` against the other commit, {server}",
                *(ANY, names.on(names.SELECT_LONE, server), 1.03),
            ),
            _against(
                f"`store_key` against the other commit, {server}",
                *(ANY, names.on(names.STORE_LONE, server), 1.03),
            ),
            _against(
                f"a lone `select_coin` against then, {server}",
                *(SLOW_SELECT, names.on(names.SELECT_LONE, server), 0.92),
            ),
            _against(
                f"the server's time for `select_coin` against then, {server}",
                *(SLOW_SELECT, names.on(names.SELECT_LONE, server), 0.8),
                figure=names.IN_SERVER,
            ),
            _against(
                f"64 callers of `select_coin` against then, {server}, throughput",
                *(SLOW_SELECT, names.on(names.SELECT_CROWD, server), 1.12),
                gain=True,
            ),
            _against(
                f"a lone confirmed `select_coin` against then, {server}",
                *(SLOW_SELECT, names.on(names.CONFIRM_LONE, server), 1.05),
            ),
            _against(
                f"512 callers of a confirmed `select_coin` against then, {server}, throughput",
                *(SLOW_SELECT, names.on(names.CONFIRM_CROWD, server), 2.0),
                gain=True,
            ),
        )
    ),
    Goal(
        "a round over 100,000 owners, beside 1,000 selections per second",
        _long_round,
        300,
        "at most",
        "s",
    ),
    _batch("`select_coins` of 50 contacts against one hand-written pipeline", names.SELECT_50),
    _batch("the inventory's `store_keys` of 50 against one hand-written pipeline", names.STORE_50),
    _batch("the vault's `store_keys` of 50 against one hand-written pipeline", names.KEEP_50),
)
