"""Writes ``report.md`` and ``report.svg`` from pytest-benchmark's JSON.

``python -m benchmarks.report RESULTS.json``
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.measuring import names
from benchmarks.report import costs, owners
from benchmarks.report.goals import ALLOWED, AT_HAND_DISTANCES, GOALS, Goal
from benchmarks.report.results import Result, Results, Spread
from benchmarks.report.tables import figure, milliseconds, section, spread, table

CALLERS = (1, 8, 16, 64, 512)
CONFIRMED = (1, 64, 512)
DISTANCES = (0.5, 1, 2, 5)
LONE = (names.SELECT, names.STORE, names.KEEP, names.BURN, names.FETCH)
AT_HAND = (
    names.AT_HAND_ALONE,
    *map(names.at_hand_far, AT_HAND_DISTANCES),
    names.AT_HAND_ON_DISK,
)
GLANCE = (names.AT_HAND_ALONE, *LONE)
BATCHES = (names.SELECT_50, names.STORE_50, names.KEEP_50)
WALKS = tuple(names.walk(each) for each in ("get_inventory", "garbage_collect", "purge_expired"))
PERCENTILES = ("p50", "p95", "p99", "p99.9", "max")
BY_RATE = (names.LIBRARY, names.EVALSHA, names.NOTHING)


def text_of(run: Results, date: str) -> str:
    """The report in Markdown."""
    goals = [row for goal in GOALS if (row := _goal(run, goal)) is not None]
    sections = (
        _head(run, date),
        _glance(run, goals),
        "![Latency, throughput and load](report.svg)",
        _goals(goals),
        *(_latencies(group, run.group(group).values()) for group in (*LONE, *AT_HAND)),
        _other_design(run),
        _limits(run),
        _callers(run),
        _confirmed(run),
        _rates(run),
        _distances(run),
        *(_latencies(group, run.group(group).values()) for group in BATCHES),
        _growth(run),
        _synchronous(run),
        _memory(run),
        *owners.sections(run),
        *costs.sections(run),
        _imports(run),
        _cold_starts(run),
    )
    return "\n\n".join(part for part in sections if part) + "\n"


def _head(run: Results, date: str) -> str:
    machine = run.content["machine_info"]
    versions = {
        "Python": machine["python_version"],
        "server": f"{machine['server']}, embedded, over its unix socket; clusters over loopback",
        **machine["versions"],
    }
    listed = "\n".join(f"- {name}: {version}" for name, version in versions.items())
    cpu = machine["cpu"]
    size = " This was a quick run: its tails are coarse." if run.content["quick"] else ""
    other = run.content.get("against")
    beside = f"\n\nThe other commit is {other['title']}." if other else ""
    return f"""# What an operation costs

Made on {date} by `nox -s bench`, on {cpu.get("count")} cores of {cpu.get("brand_raw")},
{machine["system"]} {machine["release"]}.{size}

{listed}

Variants take turns within one run, so what else the machine does hits all alike: ratios mean more
than times. A GOLD coin is 3,604 bytes. The default client is `redis.asyncio.Redis` as it comes,
with a pool that is never too small.{beside}"""


def _glance(run: Results, goals: Sequence[tuple[str, ...]]) -> str:
    """What a lone caller waits for, and what the same takes without this library."""
    rows: list[tuple[str, ...]] = []
    for group in GLANCE:
        results = run.group(group)
        own = results.get(names.AT_HAND) or results.get(names.LIBRARY)
        if own is None:
            continue
        other = results.get(names.EVALSHA)
        rows.append(
            (
                group.removesuffix(", alone"),
                *(milliseconds(own.extra[f"{name}_ms"]) for name in ("p50", "p99")),
                f"{own.extra['share_over_2ms']:.2%}",
                "" if other is None else milliseconds(other.extra["p50_ms"]),
            )
        )
    heads = ("a lone call (ms)", "p50", "p99", "over 2 ms", "the same script, default client, p50")
    met = sum(row[3] == "met" for row in goals)
    told = f"{met} of {len(goals)} [goals](#goals) are met." if goals else ""
    return "\n\n".join(part for part in (table(heads, rows) if rows else "", told) if part)


def _goals(goals: Sequence[tuple[str, ...]]) -> str:
    return "## Goals\n\n" + table(("goal", "wanted", "measured", "", "best possible here"), goals)


def _goal(run: Results, goal: Goal) -> tuple[str, ...] | None:
    """A goal's row; None if it wasn't measured."""
    try:
        measured = goal.measure(run)
        possible = "" if goal.possible is None else _show(goal.possible(run), goal.unit)
    except (KeyError, ZeroDivisionError):
        return None
    wanted = f"{goal.side} {figure(goal.bound, goal.unit)}"
    verdict = "met" if goal.is_met(measured) else f"**not met**{_reason(run, goal)}"
    return goal.text, wanted, _show(measured, goal.unit), verdict, possible


def _reason(run: Results, goal: Goal) -> str:
    """Why a goal isn't met, if this run shows it."""
    if goal.reason is None:
        return ""
    try:
        return f": {goal.reason(run)}"
    except KeyError:
        return ""


def _show(value: float | Spread, unit: str) -> str:
    return spread(value, unit) if isinstance(value, Spread) else figure(value, unit)


def _latencies(group: str, results: Iterable[Result]) -> str:
    rows = [
        (
            result.name,
            *(milliseconds(result.extra[f"{name}_ms"]) for name in PERCENTILES),
            f"{result.extra['share_over_2ms']:.2%}",
        )
        for result in sorted(results, key=lambda result: result.extra["p50_ms"])
    ]
    return section(f"{group} (ms)", ("", *PERCENTILES, "over 2 ms"), rows)


def _other_design(run: Results) -> str:
    if not run.group(names.SELECT):
        return ""
    ours, own, threaded = (
        run.group(names.SELECT)[name].extra
        for name in (names.LIBRARY, names.SQLITE, names.AIOSQLITE)
    )
    return f"""## What another design does better

SQLite on the event loop's own thread needs no server, and a lone `DELETE ... RETURNING` takes
{own["p50_ms"]:.3f} ms at p50, where `select_coin` takes {ours["p50_ms"]:.3f} ms. It blocks the
loop meanwhile: every other task waits, once for {own["max_ms"]:.1f} ms (a checkpoint of the
write-ahead log). aiosqlite doesn't block the loop, and takes {threaded["p50_ms"]:.3f} ms at p50;
its connection does one thing at a time. Both do less than `select_coin`: no tier to fall back to,
no second answer for a request that is asked again, no memory of used coins."""


def _limits(run: Results) -> str:
    """Why a goal isn't met: what the server alone takes, whoever asks."""
    crowd = run.group(names.callers(64))
    alone = run.group(names.callers(1))
    if names.RAW not in crowd or names.RAW not in alone:
        return ""
    served = crowd[names.RAW].extra["operations_per_second"]
    each = 1e6 / served
    default = crowd[names.EVALSHA].extra["operations_per_second"]
    single = 1e6 / alone[names.RAW].extra["operations_per_second"]
    return f"""## What sets the limits

A raw socket that does nothing but send commands packed beforehand gets {served:,.0f} selects per
second from this server with 64 in flight: {each:.0f} us each, and the client has no part in it.
That is {served / default:.2f}x the default client, so no client can be faster here; alone, with a
wake-up of both processes in each call, it's {single:.0f} us.

{_in_server(run)}"""


def _in_server(run: Results) -> str:
    """What the script's commands take: the server's own figures (INFO commandstats)."""
    took = {name: result.extra["us"] for name, result in run.group(names.SERVER).items()}
    script = took.pop(names.SCRIPT, None)
    if script is None:
        return ""
    commands = sorted(took.items(), key=lambda item: -item[1])
    listed = ", ".join(f"{name} {each:.1f}" for name, each in commands)
    return f"""Of a lone call the script takes {script:.0f} us in the server (INFO commandstats),
and its commands {sum(took.values()):.0f} us of these:
{listed}.

The rest is calling each from Lua, 3.6 KB into Lua and out of it, and what the commands that write
put into the append-only file: the used coin, the claim that a repeated request gets its answer from
(its new name, its fields, its expiry), the queue, the contact. That is the price of handing a coin
out once; a PING takes none of it, and no client can make up for it."""


def _callers(run: Results) -> str:
    groups = {count: run.group(names.callers(count)) for count in CALLERS}
    return _by_callers("select_coin, operations per second by callers", groups)


def _confirmed(run: Results) -> str:
    groups = {count: run.group(names.confirmed(count)) for count in CONFIRMED}
    text = """With `confirm_replicas=1`, and a replica on the same machine: callers that come at the
same time wait for it together."""
    return _by_callers("select_coin, operations per second, confirmed or not", groups, text)


def _by_callers(title: str, groups: Mapping[int, Mapping[str, Result]], text: str = "") -> str:
    variants = dict.fromkeys(name for group in groups.values() for name in group)
    rows = [
        (name, *(_per_second(group.get(name)) for group in groups.values())) for name in variants
    ]
    return section(title, ("", *map(str, groups)), rows, text)


def _per_second(result: Result | None) -> str:
    return "" if result is None else f"{result.extra['operations_per_second']:,.0f}"


def _rates(run: Results) -> str:
    rows = [
        (f"{rate:,.0f}", *(_at_rate(run.group(names.rate(rate)).get(name)) for name in BY_RATE))
        for rate in run.rates()
    ]
    held = ", ".join(
        f"{name}: **{run.rate_held(name, ALLOWED):,.0f}/s**"
        for name in (names.LIBRARY, names.EVALSHA)
    )
    text = f"""Calls arrive at a fixed rate, and a call's time begins when it's due. The highest
rate with at most 1% of calls over 2 ms: {held}.

Each cell: share over 2 ms, p99; both of the round in the middle, since a machine that stands still
for a moment spoils some rounds."""
    return section("select_coin, arrivals per second", ("", *BY_RATE), rows, text)


def _at_rate(result: Result | None) -> str:
    if result is None:
        return ""
    extra = result.extra
    return f"{extra['round_share_over_2ms']:.1%}, {milliseconds(extra['round_p99_ms'])} ms"


def _distances(run: Results) -> str:
    groups = {distance: run.group(names.distance(distance)) for distance in DISTANCES}
    variants = dict.fromkeys(name for group in groups.values() for name in group)
    rows = [
        (name, *(_at_distance(groups[distance].get(name)) for distance in DISTANCES))
        for name in variants
    ]
    text = """A proxy in a process of its own delays every byte; PING shows what it adds in fact.
Each cell: p50, share over 2 ms."""
    columns = ("", *(f"+{distance:g} ms" for distance in DISTANCES))
    return section("select_coin from further away", columns, rows, text)


def _at_distance(result: Result | None) -> str:
    if result is None:
        return ""
    extra = result.extra
    return f"{milliseconds(extra['p50_ms'])} ms, {extra['share_over_2ms']:.0%}"


def _growth(run: Results) -> str:
    select = _latencies(names.GROWTH, run.group(names.GROWTH).values())
    sizes = dict.fromkeys(name for group in WALKS for name in run.group(group))
    rows = [
        (group, *(_walk(run.group(group).get(size)) for size in sizes))
        for group in WALKS
        if run.group(group)
    ]
    title = "Background work, ms for 1,000 contacts or keys"
    return f"{select}\n\n{section(title, ('', *sizes), rows)}".strip()


def _walk(result: Result | None) -> str:
    return "" if result is None else f"{1e3 / result.extra['operations_per_second']:.1f}"


def _synchronous(run: Results) -> str:
    rows = [
        (
            group,
            *(f"{result.extra['p50_us']:.1f}" for result in results.values()),
            f"{next(iter(results.values())).extra['more_us']:.1f}",
        )
        for group in (names.SYNC_SELECT, names.SYNC_FETCH)
        if (results := run.group(group))
    ]
    text = """Calls in pairs: the library's, and the same script, or HGETALL, with arguments made
before. The last column is the median of the differences."""
    columns = ("", "aqm_db.sync", "plain redis.Redis", "more")
    return section("Without an event loop, p50 (us)", columns, rows, text)


def _memory(run: Results) -> str:
    rows = [
        (
            result.name,
            f"{result.extra['payload_bytes']:,.0f}",
            f"{result.extra['bytes_per_coin']:,.0f}",
            f"{result.extra['share_of_payload']:.2f}x",
        )
        for result in run.group(names.MEMORY).values()
    ]
    text = "Growth of the server's memory, index entry included; contact and key ids are UUIDs."
    return section("Memory per coin", ("", "payload", "bytes", ""), rows, text)


def _imports(run: Results) -> str:
    rows = [
        (f"`import {result.name}`", f"{sorted(result.samples)[len(result.samples) // 2] * 1e3:.0f}")
        for result in run.group(names.IMPORT).values()
    ]
    return section("Import in a new process (ms)", ("", "median"), rows)


def _cold_starts(run: Results) -> str:
    rows = [
        (group, result.name, f"{run.spread(group, result.name).times(1e3).middle:.1f}")
        for group in (names.STATUS, names.JOIN, names.START, names.BEGIN)
        for result in run.group(group).values()
    ]
    return section("Cold start (ms)", ("", "", "median"), rows)


def main() -> None:
    """Reads the arguments, and writes both files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="what --benchmark-json wrote")
    parser.add_argument(
        "--into", type=Path, default=Path(__file__).parent.parent, metavar="DIRECTORY"
    )
    parser.add_argument("--date", help="of the report; the run's own by default")
    arguments = parser.parse_args()
    run = Results.read(arguments.results)
    date = arguments.date or run.content["datetime"][:10]
    (arguments.into / "report.md").write_text(text_of(run, date))
    # Here, so that the text needs no drawing library.
    from benchmarks.report.picture import draw  # noqa: PLC0415

    draw(run, arguments.into / "report.svg")


if __name__ == "__main__":
    main()
