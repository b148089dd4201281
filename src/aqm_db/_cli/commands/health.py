"""``aqm-db doctor`` and ``check``."""

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.table import Table
from rich.text import Text

from aqm_db._cli.escaping import escaped
from aqm_db._cli.opening import database
from aqm_db._cli.options import Debug, Json, Owner, Url
from aqm_db._cli.output import show, working, write

if TYPE_CHECKING:
    from aqm_db.doctor import Diagnosis
    from aqm_db.integrity import IntegrityReport, Problem

_COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}
_CODES: Final = {"ok": 0, "warning": 1, "error": 2}


def doctor(
    *, url: Url = None, owner: Owner = None, json: Json = False, debug: Debug = False
) -> None:
    """Examine your server: could it lose keys, or give them away, and may its user do all?

    Exit code: 0, all is well; 1, there are warnings; 2, there are errors, or no answer.

    JSON: severity (ok, warning or error); findings [{name, severity, message, remedy}].
    """
    with database(url, owner, debug=debug, allow_unsafe=True) as db:
        diagnosis = db.doctor()
    if json:
        write(
            {
                "severity": diagnosis.severity,
                "findings": [
                    {
                        "name": finding.name,
                        "severity": finding.severity,
                        "message": finding.message,
                        "remedy": finding.remedy,
                    }
                    for finding in diagnosis.findings
                ],
            }
        )
    else:
        show(_findings(diagnosis))
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
    with database(url, owner, debug=debug, allow_unsafe=True) as db, working("Checking"):
        report = db.check(repair=repair)
    if json:
        write(
            {
                "clean": report.clean,
                "private_halves": report.private_halves,
                "public_halves": report.public_halves,
                "contacts": report.contacts,
                "problems": [_as_json(problem) for problem in report.problems],
            }
        )
    else:
        if report.problems:
            show(_problems(report), "")
        show(_summary(report))
    raise typer.Exit(0 if report.clean else 1)


def _findings(diagnosis: "Diagnosis") -> Table:
    listed = Table.grid(padding=(0, 2, 0, 0))
    for finding in diagnosis.findings:
        what = Text(escaped(finding.message))
        if finding.remedy:
            what.append(f"\n{escaped(finding.remedy)}", "dim")
        listed.add_row(Text(finding.severity, _COLOURS[finding.severity]), finding.name, what)
    return listed


def _problems(report: "IntegrityReport") -> Table:
    listed = Table.grid(padding=(0, 2, 0, 0))
    for problem in report.problems:
        severity, word = ("ok", "repaired") if problem.repaired else ("error", "problem")
        what = Text(f"{problem.database} {escaped(problem.key)}\n{escaped(problem.detail)}")
        listed.add_row(Text(word, _COLOURS[severity]), problem.kind, what)
    return listed


def _summary(report: "IntegrityReport") -> Text:
    looked_at = (
        f"Looked at {report.private_halves:,} private halves, {report.public_halves:,} public "
        f"halves and {report.contacts:,} contacts: "
    )
    if not report.problems:
        return Text(f"{looked_at}nothing is wrong.", "green")
    left = len(report.problems) - report.repaired
    style = "red" if left else "green"
    return Text(f"{looked_at}problems left {left:,}, repaired {report.repaired:,}.", style)


def _as_json(problem: "Problem") -> dict[str, Any]:
    return {
        "kind": problem.kind,
        "database": problem.database,
        "key": problem.key,
        "detail": problem.detail,
        "repaired": problem.repaired,
    }
