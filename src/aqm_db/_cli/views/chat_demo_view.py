"""The chat demo's outcome as text and tables, in 80 columns."""

from typing import Any

from aqm_db._model.tiers import TIERS
from aqm_db.chat_demo.findings import Evidence
from aqm_db.chat_demo.story import Outcome

from .demo_view import View
from .tables import TIER_COLUMNS, make_table


class ChatView(View):
    """Prints how the chat ended."""

    def show_outcome(self, outcome: Outcome) -> None:
        """Everything, once it's over."""
        self._begin_step(f"Alice and Bob chat, {outcome.messages} messages each way")
        for name, after in outcome.kills.items():
            self._say(f"{name.title()} was killed after {after!r}, and started again.")
        self._show_messages(outcome)
        self.see_dashboards(outcome.alice.dashboard, outcome.bob.dashboard)
        self._begin_step("What had to be")
        self._show_verdict(outcome)

    def _show_messages(self, outcome: Outcome) -> None:
        self._begin_step("What each has sent, read and refused")
        table = make_table(
            *("", ">sent", *TIER_COLUMNS, ">sent again"),
            *(">read", ">refused: repeated", ">forged"),
        )
        for evidence in (outcome.alice, outcome.bob):
            tiers = evidence.tiers
            repeated = _count_repeats(evidence)
            table.add_row(
                evidence.name.title(),
                *map(
                    str,
                    (
                        len(evidence.sent),
                        *(tiers[tier] for tier in TIERS),
                        evidence.resent,
                        len(evidence.read),
                        repeated,
                        evidence.refused.total() - repeated,
                    ),
                ),
            )
        self._show(table)

    def _show_verdict(self, outcome: Outcome) -> None:
        for problem in outcome.problems:
            self._say(f"Wrong: {problem}.")
        if not outcome.problems:
            self._say("Every message was read once and in order, and every coin was used once.")
            self._say("The check of each database is clean.")
        self._say(f"It took {outcome.seconds:.1f} s.")


def dump_outcome(outcome: Outcome) -> dict[str, Any]:
    """The same for machines."""
    return {
        "messages": outcome.messages,
        "kills": outcome.kills,
        "seconds": round(outcome.seconds, 1),
        **{each.name: _dump_evidence(each) for each in (outcome.alice, outcome.bob)},
        "problems": outcome.problems,
    }


def _dump_evidence(evidence: Evidence) -> dict[str, Any]:
    return {
        "sent": len(evidence.sent),
        "sent_again": evidence.resent,
        "coins": {tier: evidence.tiers[tier] for tier in TIERS},
        "read": len(evidence.read),
        "refused": evidence.refused,
    }


def _count_repeats(evidence: Evidence) -> int:
    # A burned key's tombstone tells for a minute; then nobody knows the key any more.
    return evidence.refused["KeyAlreadyBurnedError"] + evidence.refused["KeyNotFoundError"]
