"""``aqm-db bench``."""

import asyncio
from typing import Annotated

import typer

from aqm_db._cli.errors import told
from aqm_db._cli.opening import check_is_there
from aqm_db._cli.options import Debug, Json, Url
from aqm_db._cli.output import show, working, write
from aqm_db._cli.views.bench_view import Measured, as_json, as_text
from aqm_db._io.opening import open_database, read_url
from aqm_db._io.redispy.faces import ASYNC

from .measuring import Bench


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
    with told(debug=debug):
        check_is_there(url)
        measured = asyncio.run(_measured(url, seconds))
    if json:
        write(as_json(measured))
    else:
        show(as_text(measured))


async def _measured(url: str | None, seconds: float) -> Measured:
    opened = await open_database(ASYNC, read_url(url), Bench, checks=())
    try:
        with working("Measuring", total=seconds) as progress:

            def passed(so_far: float) -> None:
                progress.update(progress.task_ids[0], completed=so_far, refresh=True)

            return await opened.measure(seconds, passed)
    finally:
        await opened.aclose()
