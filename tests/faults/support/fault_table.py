"""The table of faults: how often each was tried, and what was lost, duplicated or misreported."""

from dataclasses import dataclass


@dataclass
class Count:
    """One row of the table.

    Attributes:
        runs: how often the fault was tried.
        lost: keys that nobody got and that aren't there any more.
        duplicated: keys that went to two callers, or were handed out and are still there.
        wrong: errors of another class than the one that is due.
    """

    runs: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0


class Tally:
    """What a session counted, by fault."""

    def __init__(self) -> None:
        self.counts: dict[str, Count] = {}

    def add(
        self,
        fault: str,
        *,
        runs: int = 1,
        lost: int = 0,
        duplicated: int = 0,
        wrong: int = 0,
        case: object = "",
    ) -> None:
        """Counts runs of a fault, and fails the test that counts any harm.

        Args:
            fault: the row of the table.
            runs: how often it was tried.
            lost: see :class:`Count`; the others too.
            duplicated: the same.
            wrong: the same.
            case: which run it was, for whoever reads of its failure.
        """
        self.note(fault, runs=runs, lost=lost, duplicated=duplicated, wrong=wrong)
        assert (lost, duplicated, wrong) == (0, 0, 0), f"{fault}: {case}"

    def note(
        self, fault: str, *, runs: int = 1, lost: int = 0, duplicated: int = 0, wrong: int = 0
    ) -> None:
        """Counts harm that is to be expected: what a test shows rather than forbids."""
        count = self.counts.setdefault(fault, Count())
        count.runs += runs
        count.lost += lost
        count.duplicated += duplicated
        count.wrong += wrong

    def lines(self) -> list[str]:
        """The table, in Markdown."""
        return [
            "| fault | runs | lost | duplicated | wrong errors |",
            "| --- | ---: | ---: | ---: | ---: |",
            *(
                f"| {fault} | {c.runs:,} | {c.lost} | {c.duplicated} | {c.wrong} |"
                for fault, c in sorted(self.counts.items())
            ),
        ]
