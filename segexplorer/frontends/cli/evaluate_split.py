"""`segexplorer evaluate RUN --split test`: the run's own cases, scored once and recorded in the run folder."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.status import Status
from rich.table import Table

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import SpecError
from segexplorer.core.events import Progress, Role
from segexplorer.frontends.cli.compare import plot_formats
from segexplorer.frontends.cli.evaluate import (
    check_places,
    chosen_metrics,
    metric_options,
    print_scores,
    scores_as_plain,
    write_tables,
)
from segexplorer.frontends.cli.terminal import PlainProgress, print_json, remarks, results
from segexplorer.metrics.calibration import BINS, CALIBRATION_METRICS, MARGIN_MM, calibration_values
from segexplorer.metrics.formatting import NONE
from segexplorer.study.plots import Format
from segexplorer.study.reliability_plots import write_reliability
from segexplorer.training.scores import SplitScores, Weights, is_current, score_split_steps

if TYPE_CHECKING:
    from collections.abc import Generator

NOUNS: dict[Role, str] = {"test": "Test", "validation": "Validation", "train": "Training"}


def run_evaluate_split(
    run: Path,
    split: Role,
    *,
    checkpoint: Weights | None,
    again: bool,
    as_json: bool,
    metrics: str = "",
    protocol: str = "",
    settings: Sequence[str] = (),
    csv: Path | None = None,
    spread_csv: Path | None = None,
    plots: Path | None = None,
    formats: str = "svg",
) -> None:
    """Score the cases of a run's split and print the result; where it is recorded already, print the record.

    Parameters
    ----------
    checkpoint
        Which weights; None: those of the record, else the best.
    again
        Whether to score although there is a record.
    metrics, protocol, settings, csv, spread_csv
        As for `run_evaluate`.
    plots, formats
        Folder for reliability diagrams, and their formats with commas.
    """
    chosen = chosen_metrics(metrics, protocol)
    suffixes = plot_formats(plots, formats)
    options = metric_options(settings)
    check_places(csv, spread_csv)
    record, computed = score_with_progress(
        score_split_steps(
            run,
            split,
            checkpoint=checkpoint,
            again=again,
            metrics=chosen,
            options=options if settings else None,
        )
    )
    write_tables(record.scores, csv, spread_csv)
    if plots is not None:
        write_diagrams(record, run.name, plots, suffixes)
    if as_json:
        about = record.model_dump(exclude={"scores"})
        print_json({"record": {**about, "computed_now": computed}, **scores_as_plain(record.scores, chosen)})
        return
    out = results()
    out.print(f"[bold]{NOUNS[split]} cases[/bold]", end="")
    out.print(f" of {run.name}, {weights_text(record)}, on {record.grid}", markup=False, soft_wrap=True)
    out.print()
    print_scores(record.scores, chosen)
    if record.calibration:
        out.print()
        out.print("[bold]Calibration[/bold], over the voxels of all cases")
        out.print(calibration_table(record))
        for line in CALIBRATION_NOTES:
            out.print(line, markup=False, style="dim", soft_wrap=not out.is_terminal)
        out.print()
    current = computed or is_current(run, record)
    for note in notes(record, computed=computed, current=current):
        out.print(note, markup=False, soft_wrap=not out.is_terminal)


def write_diagrams(record: SplitScores, run: str, folder: Path, formats: Sequence[Format]) -> None:
    """Write the reliability diagrams of a record, and say where."""
    n = len(record.cases)
    about = f"{n} {record.split} case{'s' if n > 1 else ''} of {run}, {weights_text(record)}."
    count = 0
    for name, data in write_reliability(record.calibration, about, formats):
        atomic_write(folder / f"{record.split}_{name}", data)
        count += 1
    remarks().print(f"{count} reliability diagrams in {folder}.", markup=False, soft_wrap=True)


CALIBRATION_NOTES = (
    f"ECE: {BINS} bins of equal width; ECE mass: {BINS} bins of as many voxels each. NLL in nats. Any class: the "
    "predicted one, whichever it is, background included.",
    f"box: around the truth's foreground, widened by {MARGIN_MM:g} mm. all voxels: near 0 by volume, since most "
    "background is easy.",
)


def calibration_table(record: SplitScores) -> Table:
    """Return one line per class: calibration in the box around the foreground, and over all voxels."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class")
    for metric in CALIBRATION_METRICS.values():
        where = "box" if metric.region == "box" else "all voxels"
        table.add_column(f"{metric.head.removesuffix(' all')}\n{where}", justify="right", no_wrap=True)
    for name in dict.fromkeys(curve.class_name for curve in record.calibration):
        values = calibration_values(record.calibration, name).values()
        table.add_row(escape(name), *(small(value) for value in values))
    return table


def small(value: float) -> str:
    """Return a figure that may be far below 1, with three digits that count."""
    return f"{value:.3g}" if math.isfinite(value) else NONE


def weights_text(record: SplitScores) -> str:
    """Return which weights were scored."""
    return f"{record.checkpoint} weights (step {record.step})"


def notes(record: SplitScores, *, computed: bool, current: bool) -> list[str]:
    """Say when the scores were made and how often the cases were looked at, and what flatters them."""
    noun = f"{NOUNS[record.split].lower()} cases"
    times = "once" if record.number == 1 else f"{record.number} times"
    lines = []
    if computed:
        lines.append(
            f"Recorded in scores/ of the run folder. The {noun} of this run have been scored {times}."
        )
    else:
        lines.append(
            f"Scored on {record.when} and recorded; nothing was computed now. At that time the {noun} had been "
            f"scored {times}. --again scores them once more and keeps this record."
        )
    if not current:
        lines.append(f"The run has other {record.checkpoint} weights by now, since its training went on.")
    if record.split == "test" and record.number > 1:
        lines.append(
            "A choice that was made after an earlier look at the test cases makes these scores optimistic: "
            "state how often they were scored."
        )
    if record.split == "validation" and record.checkpoint == "best":
        lines.append("The best weights were chosen by these same cases, which flatters the scores.")
    badges = {score.badge for score in record.scores if score.badge}
    return [*lines, *(f"{badge[0].upper()}{badge[1:]}." for badge in sorted(badges))]


def score_with_progress(source: Generator[Progress, None, SplitScores]) -> tuple[SplitScores, bool]:
    """Return the record and whether it was made now; a terminal says how far that is."""
    computed = False
    with Status("opening the run", console=remarks()) as status:
        status_shown = sys.stderr.isatty()
        lines = PlainProgress(remarks(), time.monotonic())
        if not status_shown:
            status.stop()
        while True:
            try:
                at = next(source)
            except StopIteration as end:
                return end.value, computed
            computed = True
            if status_shown:
                status.update(at.sentence)
            else:
                lines.show(at, time.monotonic())


def refuse_with_split(
    truth: Path | None, classes: str | None, lesions_csv: Path | None = None, *, resample: bool = False
) -> None:
    """Refuse what has no meaning beside --split.

    Raises
    ------
    SpecError
        Naming it.
    """
    if truth is not None:
        raise SpecError(
            f"With --split the truth is the data set's own, so {truth} is not needed.",
            "Name the run folder alone; or leave out --split.",
        )
    if classes is not None:
        raise SpecError("With --split the classes are those of the run.", "Leave out --classes.")
    if resample:
        raise SpecError(
            "With --split each case is scored on its own grid; there is nothing to resample.",
            "Leave out --resample; data.resample of the experiment brings labels onto their images.",
        )
    if lesions_csv is not None:
        raise SpecError(
            "--lesions-csv needs label files, which a record of scores does not keep.",
            "Predict the cases with segexplorer predict, and evaluate the files.",
        )
