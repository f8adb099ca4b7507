"""What `segexplorer check` found, as tables for people, CSV for spreadsheets and JSON for programs."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from segexplorer.core.errors import SpecError
from segexplorer.faces.cli.output import results

if TYPE_CHECKING:
    from segexplorer.data.case import ClassMap
    from segexplorer.data.checks import Problem
    from segexplorer.data.survey import CaseFacts

_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}
_COLUMNS = 4
"""With more classes than this the table gives their number and sum."""
_NAMED = 4
"""Cases named where one problem concerns many."""


@dataclass(frozen=True)
class Report:
    """Facts of the whole by title, facts of each case, and problems."""

    facts: dict[str, str]
    rows: tuple[CaseFacts, ...]
    classes: ClassMap | None
    problems: tuple[Problem, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The classes, and "ignored" where there are ignored values."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row.volumes_ml))

    def of(self, case: str) -> list[Problem]:
        """Return the problems of a case."""
        return [problem for problem in self.problems if problem.case == case]

    def plain(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        cases = [{**_row(row), "problems": [asdict(p) for p in self.of(row.case)]} for row in self.rows]
        return {
            "facts": self.facts,
            "cases": cases,
            "problems": [asdict(problem) for problem in self.problems],
        }


def _row(row: CaseFacts) -> dict[str, Any]:
    return {
        "case": row.case,
        "role": row.role,
        "shape": list(row.shape),
        "spacing_mm": list(row.spacing),
        "orientation": row.orientation,
        "modality": row.modality,
        "intensities": [list(pair) for pair in row.intensities],
        "labelled": row.labelled,
        "volumes_ml": dict(row.volumes_ml),
        "other_values": {str(value): count for value, count in row.other_values.items()},
    }


def write_csv(report: Report, path: Path) -> None:
    """Write a row for every case: its facts, ml of each class, its problems.

    Raises
    ------
    SpecError
        When the file cannot be written.
    """
    try:
        _write_rows(report, path)
    except OSError as error:
        text = f"The table cannot be written to {path}: {error.strerror or error}."
        raise SpecError(
            text, "Name a file in a folder that is there and may be written, e.g. --csv cases.csv."
        ) from error


def _write_rows(report: Report, path: Path) -> None:
    names = report.columns
    head = ["case", "role", "shape", "spacing_mm", "orientation", "modality", "lowest", "highest", "labelled"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*head, *(f"{name} ml" for name in names), "other_values", "problems"])
        for row in report.rows:
            ranges = row.intensities
            writer.writerow(
                [
                    row.case,
                    row.role or "",
                    _times(row.shape),
                    " x ".join(f"{mm:.6g}" for mm in row.spacing),
                    row.orientation,
                    row.modality,
                    " ".join(f"{low:.6g}" for low, _ in ranges),
                    " ".join(f"{high:.6g}" for _, high in ranges),
                    "yes" if row.labelled else "no",
                    *(f"{row.volumes_ml[name]:.6g}" if name in row.volumes_ml else "" for name in names),
                    " ".join(map(str, row.other_values)),
                    " ".join(f"{p.severity}: {p.message}" for p in report.of(row.case)),
                ]
            )


def print_report(report: Report) -> None:
    """Print facts, the table of cases, and the problems, equal ones together."""
    out = results()
    width = max(len(name) for name in report.facts)
    for name, text in report.facts.items():
        out.print(f"{name:{width}}  {escape(str(text))}", soft_wrap=True)
    if report.rows:
        out.print(_table(report))
    _print_problems(out, report.problems)


def _table(report: Report) -> Table:
    names = report.columns
    single = len(names) <= _COLUMNS
    roles = any(row.role for row in report.rows)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("case", overflow="fold")
    if roles:
        table.add_column("role")
    for title in ("voxels", "spacing mm", "axes", "values"):
        table.add_column(title, overflow="fold")
    for title in [f"{escape(name)} ml" for name in names] if single else ["classes", "sum ml"]:
        table.add_column(title, justify="right", overflow="fold")
    table.add_column("problems", overflow="fold")
    for row in report.rows:
        counts = [p for p in report.of(row.case) if p.severity != "note"]
        codes = dict.fromkeys(f"[{_COLOURS[p.severity]}]{p.code}[/]" for p in counts)
        table.add_row(
            escape(row.case),
            *([row.role or ""] if roles else []),
            _times(row.shape),
            _spacing(row.spacing),
            row.orientation,
            "\n".join(f"{low:.4g} .. {high:.4g}" for low, high in row.intensities),
            *_volumes(row, names, single=single),
            " ".join(codes),
        )
    return table


def _volumes(row: CaseFacts, names: Sequence[str], *, single: bool) -> list[str]:
    if not row.labelled:
        return ["no label", *[""] * (len(names) - 1)] if single else ["no label", ""]
    if single:
        return [f"{row.volumes_ml[name]:.4g}" if name in row.volumes_ml else "" for name in names]
    present = [ml for ml in row.volumes_ml.values() if ml > 0]
    return [f"{len(present)} of {len(names)}", f"{sum(present):.4g}"]


def _print_problems(out: Console, problems: Sequence[Problem]) -> None:
    if not problems:
        out.print("No problems found.")
    groups: dict[tuple[str, str, str], list[str]] = {}
    for problem in problems:
        groups.setdefault((problem.severity, problem.message, problem.remedy), []).append(problem.case)
    for severity in _COLOURS:
        for (level, message, remedy), cases in groups.items():
            if level != severity:
                continue
            named = [case for case in cases if case]
            where = ", ".join(named[:_NAMED]) + (
                f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            )
            text = escape(f"{where}: {message} {remedy}".removeprefix(": ").rstrip())
            out.print(f"[{_COLOURS[severity]}]{severity}[/]  {text}", soft_wrap=True)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _spacing(spacing: Sequence[float]) -> str:
    return " x ".join(f"{mm:.3g}" for mm in spacing)
