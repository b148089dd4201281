"""The report's part about many owners: what was measured, and what follows from it on paper."""

from collections.abc import Iterable

from benchmarks.measuring import names
from benchmarks.report.results import Result, Results
from benchmarks.report.tables import milliseconds, section

PRIMARY_BYTES = 64e9
"""Memory of a primary that the paper part assumes."""
USED_SHARE = 0.75
"""The rest is kept free: buffers of replicas, copies while a snapshot is written, claims."""
OWNERS = 100_000_000


def sections(run: Results) -> list[str]:
    """Markdown, with nothing in the place of what wasn't measured."""
    return [
        _costs(run),
        _on_paper(run),
        _lone(run, names.UNREPLICATED),
        _lone(run, names.REPLICATED),
        _primaries(run),
        _many(run),
    ]


def _costs(run: Results) -> str:
    rows = [
        (
            result.name,
            f"{result.extra['payload_bytes'] / 1e3:,.0f} KB",
            f"{result.extra['memory_bytes'] / 1e3:,.0f} KB",
            f"{result.extra['memory_bytes'] / result.extra['payload_bytes']:.2f}x",
            f"{result.extra['keys']:,.0f}",
        )
        for result in run.group(names.OWNER).values()
    ]
    text = """Growth of the memory of a cluster's primaries, before any coin is used. A replica
takes as much again; no owner has a connection of its own."""
    return section("What an owner costs", ("", "payload", "memory", "", "keys"), rows, text)


def _on_paper(run: Results) -> str:
    links = run.group(names.CONNECTIONS).get("after")
    rows = [
        (result.name, *_needed(result.extra["memory_bytes"], links))
        for result in run.group(names.OWNER).values()
    ]
    columns = (
        *("", "owners on a primary", "memory"),
        *("primaries", "replicas", "connections of each client"),
    )
    text = f"""Computed from what was measured: primaries of {PRIMARY_BYTES / 1e9:.0f} GB, of which
{1 - USED_SHARE:.0%} are kept free, each with a replica. Memory is that of the primaries' data. A
client is a process, whose connections are the same whatever the number of owners it serves."""
    return section(f"On paper: {OWNERS:,} owners", columns, rows, text)


def _needed(owner_bytes: float, links: Result | None) -> tuple[str, ...]:
    """Owners on a primary, TB, primaries, replicas, connections."""
    each = int(PRIMARY_BYTES * USED_SHARE / owner_bytes)
    primaries = -(-OWNERS // each)
    return (
        f"{each:,}",
        f"{OWNERS * owner_bytes / 1e12:,.1f} TB",
        *(f"{primaries:,}", f"{primaries:,}"),
        "" if links is None else f"{primaries * links.extra['each'] + links.extra['more']:,.0f}",
    )


def _lone(run: Results, group: str) -> str:
    results = run.group(group)
    columns = (
        *("", "p50 (ms)", "p99 (ms)"),
        *(f"against {name}" for name in list(results)[1:]),
        *("client (us)", "servers (us)"),
    )
    rows = [
        (
            result.name,
            *(milliseconds(result.extra[key]) for key in ("p50_ms", "p99_ms")),
            *(f"{run.p50_ratio(group, result.name, name):.2f}x" for name in list(results)[1:]),
            *_cores(run, group, result.name),
        )
        for result in results.values()
    ]
    text = """One caller, by owners on every primary in turns; all over loopback, without an
append-only file. The last columns are what a call takes of the machine's cores, in the client's
process and in all servers together, what they do for themselves meanwhile included."""
    return section(group, columns, rows, text)


def _primaries(run: Results) -> str:
    group = names.PRIMARIES
    results = run.group(group)
    rows = [
        (
            name,
            f"{result.extra['operations_per_second']:,.0f}",
            f"{run.paired_ratio(group, next(iter(results)), name).middle:.2f}x",
            *_cores(run, group, name),
        )
        for name, result in results.items()
    ]
    text = """Owners are spread evenly over the primaries. All of it is on one machine, with the one
process of the client: this shows what more primaries cost it, not what more machines give."""
    columns = ("", "per second", "", "client (us)", "servers (us)")
    return section(group, columns, rows, text)


def _cores(run: Results, group: str, name: str) -> tuple[str, str]:
    took = run.group(names.cpu(group)).get(name)
    return ("", "") if took is None else _microseconds(took, ("client_us", "servers_us"))


def _microseconds(result: Result, keys: Iterable[str]) -> tuple[str, str]:
    one, other = (f"{result.extra[key]:.0f}" for key in keys)
    return one, other


def _many(run: Results) -> str:
    rows = [
        (result.name.removeprefix("among "), f"{result.extra['us']:.0f}")
        for result in run.group(names.MANY_OWNERS).values()
    ]
    links = run.group(names.CONNECTIONS)
    counts = [
        f"{name} {result.extra['each']:.0f} to each primary and {result.extra['more']:.0f} more"
        for name, result in links.items()
    ]
    text = f"""One client, 16 calls at once, `for_owner` included. The client's connections:
{", ".join(counts)}, which redis-py asks for the topology."""
    return section("Owner after owner", ("owners", "us for each new one"), rows, text)
