"""`segexplorer compare`: conditions side by side, their paired differences, and what both rest on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segexplorer.core.errors import SpecError
from segexplorer.faces.cli.compare_tables import print_groups, say
from segexplorer.faces.cli.output import print_json, remarks, results
from segexplorer.study import ALLOWANCES, Allowance, compare, compare_groups
from segexplorer.study.compare import METRICS
from segexplorer.study.conditions import grouped as gather
from segexplorer.study.conditions import repeats
from segexplorer.study.latex import latex_tables
from segexplorer.study.records import read_run
from segexplorer.study.study import runs_of
from segexplorer.study.tables import csv_table, markdown_tables
from segexplorer.training.files import write_atomic

if TYPE_CHECKING:
    from segexplorer.study.records import Which

STANDARD_OUTPUT = Path("-")


def run_compare(
    runs: Sequence[Path],
    *,
    checkpoint: Which,
    reference: str,
    metrics: str,
    allow: Sequence[str],
    by_class: bool,
    as_json: bool,
    csv: Path | None = None,
    markdown: Path | None = None,
    latex: Path | None = None,
) -> None:
    """Compare run folders, or the runs of study folders, and print the tables; of one condition alone, its means.

    Raises
    ------
    SpecError, DataError
        When there are several conditions of which no two can be compared, a table of differences is wanted of only
        one, a file cannot be at its place, or as `compare_groups` says.
    """
    allowed = allowances(allow)
    for path in (csv, markdown, latex):
        _check_place(path)
    chosen = [m.strip() for m in metrics.split(",") if m.strip()] or METRICS
    found = runs_of(runs, unfinished="unfinished" in allowed)
    if found.left_out:
        text = f"Left out, not finished: {', '.join(found.left_out)} (--allow unfinished takes them in)."
        remarks().print(text, markup=False, soft_wrap=True)
    base = reference or found.reference or ""
    grouped = compare_groups(
        found.folders, checkpoint=checkpoint, reference=base, metrics=chosen, allow=allowed
    )
    if not grouped.comparisons and len(grouped.alone) > 1:
        compare(found.folders, checkpoint=checkpoint, metrics=chosen, allow=allowed)  # refuses by name
    if (markdown or latex) and not grouped.comparisons:
        raise SpecError(
            "These runs are one condition, so there is no comparison to make a table of.",
            "--csv holds its means and every seed's; or name runs of another loss or setting.",
        )
    texts: list[tuple[Path | None, Callable[[], str]]] = [
        (csv, lambda: csv_table(grouped.comparisons, grouped.alone)),
        (markdown, lambda: "\n\n".join(markdown_tables(c) for c in grouped.comparisons) + "\n"),
        (latex, lambda: "\n".join(latex_tables(c) for c in grouped.comparisons)),
    ]
    for path, write in texts:
        if path == STANDARD_OUTPUT:
            sys.stdout.write(write())
        elif path is not None:
            write_atomic(path, write().encode())
    to_be_read = STANDARD_OUTPUT not in (csv, markdown, latex) and not as_json
    if to_be_read:
        print_groups(grouped, by_class=by_class)
    elif as_json and STANDARD_OUTPUT not in (csv, markdown, latex):
        print_json(grouped.plain())
    if not grouped.comparisons:
        say(_of_one_condition(found.folders, checkpoint), results() if to_be_read else remarks())


def _of_one_condition(folders: Sequence[Path], checkpoint: Which) -> list[str]:
    """Say that nothing was compared, and what its means hold."""
    (condition,) = gather([read_run(folder, checkpoint) for folder in folders])
    runs = "This run is" if len(condition.runs) == 1 else f"These {len(condition.runs)} runs are"
    return [
        f"Nothing is compared: {runs} one condition, {condition.label}; name runs of another loss, network or "
        "setting, too.",
        *repeats(condition),
    ]


def _check_place(path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work."""
    if path is None or path == STANDARD_OUTPUT:
        return
    if path.is_dir():
        raise SpecError(f"{path} is a folder.", "Name a file to write, e.g. comparison.csv.")
    above = next((parent for parent in path.parents if parent.exists()), None)
    if above is not None and not above.is_dir():
        raise SpecError(f"{above} is a file, so {path} cannot be in it.", "Name another folder.")


def allowances(given: Collection[str]) -> list[Allowance]:
    """Return what may differ.

    Raises
    ------
    SpecError
        For a word that is none of `ALLOWANCES`.
    """
    for word in given:
        if word not in ALLOWANCES:
            raise SpecError(f"--allow {word} is not known.", f"Known: {', '.join(ALLOWANCES)}.")
    return [known for known in ALLOWANCES if known in given]
