"""The loss doctor: what is wrong with a run, in plain sentences with their evidence.

Each sort of finding is a check in a file here, or comes from another package by entry point. `diagnose` asks all of
them. What a threshold is, and why, is written beside it; none was fitted to the runs that test it
(`benchmarks/doctor.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from segexplorer.core.events import Reference
from segexplorer.core.plugins import discover
from segexplorer.training.doctor.base import (
    CannotTell,
    Check,
    CurveLink,
    Evidence,
    Finding,
    Place,
    checks,
    median,
)
from segexplorer.training.history import RunRecord, open_run

discover(__name__, __path__)

__all__ = [
    "CannotTell",
    "Check",
    "CurveLink",
    "Diagnosis",
    "Evidence",
    "Finding",
    "NotChecked",
    "Place",
    "checks",
    "diagnose_run",
]


@dataclass(frozen=True)
class NotChecked:
    """A check that could not say anything, and why."""

    check: str
    title: str
    reason: str


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor says of a run.

    Attributes
    ----------
    findings
        Problems first, then remarks, each in the order of the checks.
    healthy
        Names of the checks that found nothing.
    not_checked
        What could not be checked.
    references
        Prediction that needs no network -> what the loss is for it (`losses.references`), the median over the
        batches of the later half of training; and "this run", the loss on the same batches. Empty where they were
        not recorded.
    """

    findings: tuple[Finding, ...]
    healthy: tuple[str, ...] = ()
    not_checked: tuple[NotChecked, ...] = ()
    references: Mapping[Reference | str, float] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that keep a run from learning what it should."""
        return tuple(f for f in self.findings if f.severity == "problem")

    def __str__(self) -> str:
        """Return the findings as lines of text."""
        return "\n".join(f.sentence for f in self.findings) or "Nothing wrong was found."


def diagnose_run(run: RunRecord | str | Path, only: Sequence[str] = ()) -> Diagnosis:
    """Look for what is wrong with a run, finished or still going on.

    Parameters
    ----------
    only
        Names of checks; empty: all.

    Raises
    ------
    DataError
        When it is not a run folder, or is damaged.
    UnknownKindError
        When there is no such check.
    """
    evidence = Evidence(run if isinstance(run, RunRecord) else open_run(run))
    chosen = [checks.spec(name) for name in only] or list(checks.values())
    findings: list[Finding] = []
    healthy: list[str] = []
    untold: list[NotChecked] = []
    for one in chosen:
        try:
            found = list(one.look(evidence))
        except CannotTell as reason:
            untold.append(NotChecked(one.name, one.title, str(reason)))
            continue
        findings += found
        if not found:
            healthy.append(one.name)
    findings.sort(key=lambda finding: finding.severity != "problem")
    return Diagnosis(tuple(findings), tuple(healthy), tuple(untold), _references(evidence))


def _references(evidence: Evidence) -> dict[Reference | str, float]:
    recorded = [e for e in evidence.measured if e.references]
    late = recorded[len(recorded) // 2 :]
    if not late:
        return {}
    values: dict[Reference | str, float] = {
        name: median([e.references[name] for e in late if name in e.references])
        for name in late[-1].references
    }
    return {"this run": median([e.loss for e in late]), **values}
