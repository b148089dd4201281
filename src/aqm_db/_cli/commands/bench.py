"""``aqm-db bench``."""

import asyncio
from typing import Annotated

import typer

from aqm_db._cli.errors import report_errors
from aqm_db._cli.opening import check_exists
from aqm_db._cli.options import Debug, Json, Url
from aqm_db._cli.output import show_progress, write_json, write_text
from aqm_db._cli.views.bench_view import dump_timings, render_timings

from .bench_rounds import Bench


def bench(
    *,
    url: Url = None,
    owner: Annotated[  # noqa: ARG001 - every command takes it
        str | None,
        typer.Option("--owner", help="Changes nothing: the coins are of an owner of their own."),
    ] = None,
    seconds: Annotated[float, typer.Option(metavar="N", min=0, help="How long.")] = 60.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Measure select_coin on your server, against its PING over the same connection.

    GOLD coins of an owner of their own (aqm-bench-...) are stored, selected one after another and
    removed, after an error or Ctrl-C too; nothing else is touched. An append-only file grows by
    some 5 KB a call until the server rewrites it.

    JSON: calls; select_coin_ms and ping_ms {p50, p95, p99, max}; ratio (of the p50s); over_2_ms
    (calls); histogram [{from_ms, to_ms (null: no end), calls}].
    """
    with report_errors(debug=debug):
        check_exists(url)
        with show_progress("Measuring", total=seconds) as progress:

            def show_time(passed: float) -> None:
                progress.update(progress.task_ids[0], completed=passed, refresh=True)

            timings = asyncio.run(Bench(url).measure(seconds, show_time))
    if json:
        write_json(dump_timings(timings))
    else:
        write_text(render_timings(timings))
