"""``aqm-db doctor`` and ``check``."""

from typing import Annotated, Final

import typer

from aqm_db._cli.errors import report_errors
from aqm_db._cli.opening import open_database
from aqm_db._cli.options import Debug, Json, Owner, Url
from aqm_db._cli.output import show_progress, write_json, write_text
from aqm_db._cli.views.health_view import (
    dump_diagnosis,
    dump_report,
    render_diagnosis,
    render_report,
)

_CODES: Final = {"ok": 0, "warning": 1, "error": 2}


def doctor(
    *, url: Url = None, owner: Owner = None, json: Json = False, debug: Debug = False
) -> None:
    """Examine your server: could it lose keys, or give them away, and may its user do all?

    Exit code: 0, all is well; 1, there are warnings; 2, there are errors, or no answer.

    JSON: severity (ok, warning or error); findings [{name, severity, message, remedy}].
    """
    with report_errors(debug=debug), open_database(url, owner, allow_unsafe=True) as db:
        diagnosis = db.doctor()
    if json:
        write_json(dump_diagnosis(diagnosis))
    else:
        write_text(render_diagnosis(diagnosis))
    raise typer.Exit(_CODES[diagnosis.severity])


def check(
    *,
    url: Url = None,
    owner: Owner = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Mend what can be mended; nothing that's usable is lost."),
    ] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Look for what doesn't fit: counters, lost rows and entries, malformed and foreign keys.

    Exit code: 0, nothing is wrong any more; 1, there are problems left; 2, it couldn't be examined.

    JSON: clean; private_halves, public_halves and contacts (looked at); problems [{kind, database,
    key, detail, repaired}].
    """
    with (
        report_errors(debug=debug),
        open_database(url, owner, allow_unsafe=True) as db,
        show_progress("Checking"),
    ):
        report = db.check(repair=repair)
    if json:
        write_json(dump_report(report))
    else:
        write_text(render_report(report))
    raise typer.Exit(0 if report.clean else 1)
