"""Draws ``report.svg``: latency, throughput by callers, and load."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from benchmarks.measuring import names
from benchmarks.report.goals import ALLOWED
from benchmarks.report.results import Results

COLORS = {
    names.LIBRARY: "#0b6e4f",
    names.EVALSHA: "#d1495b",
    names.PIPELINES: "#edae49",
    names.COMMANDS: "#8d6a9f",
    names.PING: "#9aa5b1",
    names.AIOSQLITE: "#30638e",
    names.SQLITE: "#7fb7be",
    names.RAW: "#4a4a4a",
}
LIMIT_MS = 2
CALLERS = (1, 8, 16, 64, 512)


def draw(run: Results, path: Path) -> None:
    """Writes the picture: the same for the same results."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "aqm_db", "font.size": 9}):
        figure = Figure(figsize=(15, 6), layout="constrained")
        latency, throughput, load = figure.subplots(1, 3)
        _latency(run, latency)
        _throughput(run, throughput)
        _load(run, load)
        for axes in (latency, throughput, load):
            axes.grid(visible=True, which="major", color="#e5e5e5")
            axes.set_axisbelow(True)
            if axes.get_legend_handles_labels()[0]:
                axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12))
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})


def _latency(run: Results, axes: Axes) -> None:
    for name, color in COLORS.items():
        result = run.group(names.SELECT).get(name)
        if result is None:
            continue
        ascending = sorted(result.samples)
        # As many points as one can tell apart, most of them in the tail.
        ranks = sorted({int(len(ascending) * (1 - 10 ** (-step / 60))) for step in range(240)})
        slower = [1 - rank / len(ascending) for rank in ranks]
        milliseconds = [ascending[rank] * 1e3 for rank in ranks]
        width = 2.5 if name == names.LIBRARY else 1.2
        axes.step(milliseconds, slower, where="post", label=name, color=color, lw=width)
    axes.axvline(LIMIT_MS, color="black", ls="--", lw=1)
    axes.annotate("2 ms", (LIMIT_MS, 1), (3, -9), textcoords="offset points")
    axes.set(
        xscale="log", yscale="log", xlabel="ms", title="A lone select_coin: calls that take longer"
    )
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.4g}"))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def _throughput(run: Results, axes: Axes) -> None:
    for name in (names.RAW, names.LIBRARY, names.pipeline_of(64), names.EVALSHA):
        points = [
            (position, result.extra["operations_per_second"])
            for position, callers in enumerate(CALLERS)
            if (result := run.group(names.callers(callers)).get(name)) is not None
        ]
        if points:
            axes.plot(
                *zip(*points, strict=True), "o-", label=name, color=COLORS.get(name, "#edae49")
            )
    axes.set_xticks(range(len(CALLERS)), [str(callers) for callers in CALLERS])
    axes.set(
        xlabel="callers, or commands in flight", title="select_coin: operations per second", ylim=0
    )
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _load(run: Results, axes: Axes) -> None:
    for name in (names.LIBRARY, names.EVALSHA):
        points = [
            (rate, result.extra["round_share_over_2ms"] * 100)
            for rate in run.rates()
            if (result := run.group(names.rate(rate)).get(name)) is not None
        ]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", ms=3, label=name, color=COLORS[name])
    axes.axhline(ALLOWED * 100, color="black", ls="--", lw=1)
    axes.annotate("1%", (100, ALLOWED * 100), (-2, 3), textcoords="offset points")
    axes.set(xscale="log", xlabel="arrivals per second", title="select_coin: % of calls over 2 ms")
    axes.set_yscale("symlog", linthresh=1)
    axes.set_ylim(0, 100)
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
