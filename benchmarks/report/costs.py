"""The report's part about costs: beside others' keys, of more and more, in another commit."""

from collections.abc import Iterator

from benchmarks.measuring import names
from benchmarks.measuring.owner_steps import STEPS
from benchmarks.report.results import Results
from benchmarks.report.tables import section, spread

SERVERS = (
    *("valkey-9.1", "valkey-8.1", "redis-6.2", "redis-8.2"),
    *(names.cluster(server) for server in ("valkey-9.1", "redis-6.2")),
)
HOT = (
    *(names.SELECT_LONE, names.SELECT_CROWD, names.STORE_LONE),
    *(names.CONFIRM_LONE, names.CONFIRM_CROWD),
)
HOT_SERVERS = ("valkey-9.1", "redis-8.2")
GROWING = (names.RESERVE, names.OVERGIVEN, names.REFUSED, names.STALE)
MANY = (names.SELECT_MANY, names.EXPORT, names.IMPORT_MANY, names.PUBLISH)
WALKING = (names.LOOK, names.COLLECT)
SIZED = (*GROWING, *MANY, *WALKING)
LIMITED = (names.LONGEST, names.STALL)
_MS = 1e3
_MICRO = 1e6
_RANGE = """In brackets: the range of all rounds, or of
eight in ten where there are ten and more."""


def sections(run: Results) -> list[str]:
    """Markdown, with nothing in the place of what wasn't measured."""
    return [
        *(_beside(run, server) for server in SERVERS),
        _growing(run),
        _hot(run),
        _entries(run),
    ]


def limited(run: Results, figure: str) -> Iterator[tuple[str, str]]:
    """The groups of a figure that has a limit whatever the size, with each size of theirs."""
    for task in SIZED:
        group = names.cost(task, figure)
        yield from ((group, size) for size in own_sizes(run, group))


def own_sizes(run: Results, group: str) -> list[str]:
    """What this commit was measured at, in a group."""
    return [name for name in run.group(group) if not names.is_other(name)]


def largest(run: Results, group: str) -> str:
    """The largest of them.

    Raises:
        KeyError: nothing was measured.
    """
    sizes = own_sizes(run, group)
    if not sizes:
        raise KeyError(group)
    return sizes[-1]


def task_of(group: str, figure: str) -> str:
    """Whose figure a group is."""
    return next(task for task in SIZED if names.cost(task, figure) == group)


def beside(server: str, step: str) -> str:
    """The group of an owner's operation on a kind of server."""
    return names.cost(names.beside(server), step)


def _beside(run: Results, server: str) -> str:
    rows: list[tuple[str, ...]] = []
    for step in STEPS:
        group = beside(server, step)
        own = names.ALONE, names.BESIDE_OTHERS
        other = names.against(own[0]), names.against(own[1])
        cells = [cell for places in (own, other) for cell in _compare(run, group, *places)]
        if cells:
            rows.append((step, *cells))
    columns = ("alone (ms)", "beside others (ms)", "")
    others = (f"other commit, {each}".rstrip(", ") for each in columns)
    shown = ("", *columns, *others)[: max(map(len, rows), default=0)]
    text = f"Two servers in turns, one with keys of 1,000 others. {_RANGE}"
    return section(names.beside(server), shown, rows, text)


def _compare(run: Results, group: str, alone: str, crowded: str) -> tuple[str, ...]:
    """An operation alone, beside others, and the ratio; nothing if it wasn't measured."""
    if alone not in run.group(group):
        return ()
    times = (f"{_MS * run.spread(group, each).middle:.3g}" for each in (alone, crowded))
    return (*times, spread(run.paired_ratio(group, crowded, alone)))


def _growing(run: Results) -> str:
    rows: list[tuple[str, ...]] = []
    for task in SIZED:
        time = names.cost(task, names.TIME)
        for size in own_sizes(run, time):
            groups = [time, *(names.cost(task, figure) for figure in LIMITED)]
            own = [spread(run.spread(group, size).times(_MS), "ms") for group in groups]
            rows.append((f"{task}, {size}", *own, *_others(run, groups, size)))
    columns = ("", *_titles(""), *_titles("other commit, "), "against it")
    shown = columns[: max(map(len, rows), default=0)]
    text = f"""On Valkey 9.1. A script is the server's longest one (SLOWLOG; 0 is less than 1 ms),
and a stall is how long the client's event loop did nothing else. {_RANGE}"""
    return section("What grows with what there is", shown, rows, text)


def _others(run: Results, groups: list[str], size: str) -> tuple[str, ...]:
    other = names.against(size)
    if other not in run.group(groups[0]):
        return ()
    times = (spread(run.spread(group, other).times(_MS), "ms") for group in groups)
    return (*times, spread(run.paired_ratio(groups[0], size, other)))


def _titles(prefix: str) -> tuple[str, ...]:
    return tuple(f"{prefix}{each}" for each in ("time", "longest script", "longest stall"))


def _hot(run: Results) -> str:
    rows = [
        (
            names.on(task, server),
            *(figure, *(spread(run.spread(group, name).times(_MICRO), "us") for name in both)),
            spread(run.paired_ratio(group, *both)),
        )
        for task in HOT
        for server in HOT_SERVERS
        for figure in (names.TIME, names.IN_SERVER)
        for group in [names.cost(names.on(task, server), figure)]
        for size in own_sizes(run, group)
        for both in [(size, names.against(size))]
        if both[1] in run.group(group)
    ]
    columns = ("", "", "this commit", "other commit", "against it")
    return section("The hot path, against the other commit", columns, rows, _RANGE)


def _entries(run: Results) -> str:
    rows = [
        (result.name, f"{result.extra['memory_bytes']:.0f} B")
        for result in run.group(names.ENTRY).values()
    ]
    return section(names.ENTRY, ("", ""), rows)
