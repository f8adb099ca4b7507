"""`segexplorer doctor`: what is wrong with the loss of a run, in sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from segexplorer.frontends.cli.terminal import print_json, remarks, results

if TYPE_CHECKING:
    from segexplorer.training.doctor import Diagnosis, Finding

_COLOURS = {"problem": "red", "remark": "yellow"}


def run_doctor(run: Path, only: Sequence[str], *, as_json: bool) -> None:
    """Print what was found, what the loss is compared with, and what could not be checked."""
    from segexplorer.training.doctor import diagnose_run
    from segexplorer.training.sharing import unpacked_run

    with unpacked_run(run) as folder:
        diagnosis = diagnose_run(folder, only)
    if as_json:
        print_json(
            {
                "run": str(run),
                "findings": [asdict(finding) for finding in diagnosis.findings],
                "healthy": diagnosis.healthy,
                "not_checked": [asdict(one) for one in diagnosis.not_checked],
                "references": diagnosis.references,
            }
        )
        return
    _print(diagnosis)


def _print(diagnosis: Diagnosis) -> None:
    out = results()
    for finding in diagnosis.findings:
        head = Text(finding.severity, _COLOURS[finding.severity]).append(f"  {finding.sentence}", "default")
        out.print(head, soft_wrap=True)
        for line in (_where(finding), finding.remedy):
            if line:
                out.print(f"    {line}", markup=False, soft_wrap=True)
    if not diagnosis.findings:
        out.print("Nothing wrong was found.")
    if diagnosis.references:
        table = Table("the loss, median of the later half", "", box=None, title_justify="left")
        table.columns[1].justify = "right"
        for name, value in diagnosis.references.items():
            table.add_row(name, f"{value:.4g}")
        out.print()
        out.print(table)
    note = remarks()
    if diagnosis.healthy:
        note.print(f"Without a finding: {', '.join(diagnosis.healthy)}.", soft_wrap=True)
    for one in diagnosis.not_checked:
        note.print(f"Not checked: {one.title.lower()} ({one.reason}).", markup=False, soft_wrap=True)


def _where(finding: Finding) -> str:
    """Return where to look: step, case, box, curve."""
    place, parts = finding.place, []
    if finding.step is not None:
        parts.append(f"step {finding.step}")
    if place.case:
        parts.append(f"case {place.case}")
    if place.box is not None:
        parts.append("box " + " x ".join(f"{first}-{behind - 1}" for first, behind in place.box))
    if place.world is not None and all(map(math.isfinite, place.world)):
        parts.append("at " + ", ".join(f"{v:.0f}" for v in place.world) + " mm")
    if finding.curve is not None:
        parts.append(f"curve {finding.curve.name} of {finding.curve.plot}")
    return "see " + ", ".join(parts) if parts else ""
