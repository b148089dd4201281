"""What ``aqm-db doctor`` and ``check`` found."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aqm_db._cli.escaping import escape_text

if TYPE_CHECKING:
    from aqm_db.doctor import Diagnosis
    from aqm_db.integrity import IntegrityReport

_COLOURS: Final = {"ok": "green", "warning": "yellow", "error": "red"}


def dump_diagnosis(diagnosis: "Diagnosis") -> dict[str, Any]:
    """For machines."""
    return {"severity": diagnosis.severity, **asdict(diagnosis)}


def render_diagnosis(diagnosis: "Diagnosis") -> RenderableType:
    """For people."""
    listed = Table.grid(padding=(0, 2, 0, 0))
    for finding in diagnosis.findings:
        what = Text(escape_text(finding.message))
        if finding.remedy:
            what.append(f"\n{escape_text(finding.remedy)}", "dim")
        listed.add_row(Text(finding.severity, _COLOURS[finding.severity]), finding.name, what)
    return listed


def dump_report(report: "IntegrityReport") -> dict[str, Any]:
    """For machines."""
    fields = asdict(report)
    problems = fields.pop("problems")
    return {"clean": report.clean, **fields, "problems": problems}


def render_report(report: "IntegrityReport") -> RenderableType:
    """For people."""
    summary = _summarize(report)
    return Group(_list_problems(report), "", summary) if report.problems else summary


def _list_problems(report: "IntegrityReport") -> Table:
    listed = Table.grid(padding=(0, 2, 0, 0))
    for problem in report.problems:
        severity, word = ("ok", "repaired") if problem.repaired else ("error", "problem")
        what = Text(f"{problem.database} {escape_text(problem.key)}\n{escape_text(problem.detail)}")
        listed.add_row(Text(word, _COLOURS[severity]), problem.kind, what)
    return listed


def _summarize(report: "IntegrityReport") -> Text:
    looked_at = (
        f"Looked at {report.private_halves:,} private halves, {report.public_halves:,} public "
        f"halves and {report.contacts:,} contacts: "
    )
    if not report.problems:
        return Text(f"{looked_at}nothing is wrong.", "green")
    left = len(report.problems) - report.repaired
    style = "red" if left else "green"
    return Text(f"{looked_at}problems left {left:,}, repaired {report.repaired:,}.", style)
