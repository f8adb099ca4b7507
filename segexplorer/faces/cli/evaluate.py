"""`segexplorer evaluate`: every case and class, how metrics are spread over cases, and what the means are over."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import CaseScore
from segexplorer.data.case import IGNORED
from segexplorer.faces.cli.output import print_json, remarks, results
from segexplorer.faces.cli.pairing import Pair, Pairing, pair
from segexplorer.faces.cli.score_tables import case_tables, extreme_table, spread_tables
from segexplorer.faces.cli.settings import parse_classes
from segexplorer.metrics import (
    ALL_CLASSES,
    ALL_METRICS,
    SURFACE_METRICS,
    complete,
    distributions,
    distributions_to_csv,
    scores_to_csv,
    spec,
    summarise,
)
from segexplorer.metrics.classes import NUMBERED
from segexplorer.metrics.wording import NONE, WITHOUT_INTERVAL, interval_text, mean_text

SHOWN = ("dice", "f2", "sensitivity", "precision", "hd95", "assd")
"""Metrics of the table of cases: all do not fit on a line."""
SPREAD = ("dice", "f2", "sensitivity", "precision", "hd95", "hd95_penalised", "assd", "assd_penalised")
"""Metrics of the tables over cases; a distance over found structures stands beside its penalised one."""


EXTREMES = ("dice", "hd95_penalised")
"""Metrics whose best and worst cases are named where none are chosen; all of them are in the files."""


def run_evaluate(
    prediction: Path,
    truth: Path,
    classes: str | None,
    *,
    as_json: bool,
    metrics: str = "",
    csv: Path | None = None,
    spread_csv: Path | None = None,
) -> None:
    """Score one pair of files, or all pairs of two folders, and print the result.

    Parameters
    ----------
    metrics
        Names with commas of what is printed; empty for a choice that fits a line. Files hold every metric.
    csv, spread_csv
        Files for one row per case and class, and for one per class and metric.
    """
    chosen = chosen_metrics(metrics)
    for path in (csv, spread_csv):
        if path is not None and path.is_dir():
            raise SpecError(f"{path} is a folder.", "Name a file to write, e.g. scores.csv.")
    wanted = parse_classes(classes)
    found = pair(prediction, truth)
    files = as_json or csv is not None or spread_csv is not None
    surfaces = files or any(name in SURFACE_METRICS for name in chosen or SHOWN)
    scores = _scored(found, wanted, surfaces=surfaces)
    _tell_found_nowhere(scores)
    _tell_255(scores)
    rows = distributions(scores, chosen or None)
    from segexplorer.training.files import write_atomic

    for path, text in (
        (csv, scores_to_csv(scores)),
        (spread_csv, distributions_to_csv(distributions(scores))),
    ):
        if path is not None:
            write_atomic(path, text.encode())
    if as_json:
        summary = asdict(summarise(scores))
        spread = [asdict(row) for row in rows]
        told: dict[str, Any] = {"scores": [asdict(s) for s in scores], "summary": summary, "spread": spread}
        print_json({**told, "predictions_without_truth": list(found.extra)})
    else:
        _print(scores, chosen, found, asked=wanted is not None)


def chosen_metrics(text: str) -> tuple[str, ...]:
    """Return the metrics named with commas, each once; none for an empty text.

    Raises
    ------
    UnknownKindError
        With the nearest names.
    """
    return tuple(dict.fromkeys(spec(name.strip()).name for name in text.split(",") if name.strip()))


def _scored(found: Pairing, classes: dict[str, tuple[int, ...]] | None, *, surfaces: bool) -> list[CaseScore]:
    """Score every pair; without chosen classes, what one case has and another has not is absent there."""
    scores = [
        score
        for each in _told(found.pairs)
        for score in _score(each, classes, named=len(found.pairs) > 1, surfaces=surfaces)
    ]
    if not scores:
        raise DataError(
            "There is nothing to score: no label above 0 in any prediction or truth.",
            "Are these label files?",
        )
    return complete(scores, [each.case for each in found.pairs])


def _score(
    each: Pair, classes: dict[str, tuple[int, ...]] | None, *, named: bool, surfaces: bool
) -> tuple[CaseScore, ...]:
    try:
        return segexplorer.evaluate(each.prediction, each.truth, classes, case=each.case, surfaces=surfaces)
    except DataError as error:
        if not named:
            raise
        raise DataError(f"{each.case}: {error.message}", error.remedy) from error


def _tell_found_nowhere(scores: Sequence[CaseScore]) -> None:
    """Say which classes are in no file at all: rather a slip in --classes than a result."""
    there = {score.class_name for score in scores if score.state != "absent"}
    nowhere = [name for name in dict.fromkeys(s.class_name for s in scores) if name not in there]
    if nowhere:
        text = (
            f"No prediction and no truth holds {', '.join(nowhere)}: check the values given with --classes."
        )
        remarks().print(text, markup=False)


def _tell_255(scores: Sequence[CaseScore]) -> None:
    """Say that 255 is taken for a class, where beside other numbered ones it may mean "does not count"."""
    names = {score.class_name for score in scores}
    if f"{NUMBERED}{IGNORED}" in names and len(names) > 1:
        text = f"{IGNORED} is scored as a class of its own. Where it marks what does not count: "
        remarks().print(f"{text}--classes '{{ignore: {IGNORED}, ...}}' with the other classes.", markup=False)


def _told(pairs: Sequence[Pair]) -> Iterator[Pair]:
    """Yield pairs while a terminal says how far it is."""
    if len(pairs) == 1 or not sys.stderr.isatty():
        yield from pairs
        return
    with Status("", console=remarks()) as status:
        for done, each in enumerate(pairs, start=1):
            status.update(f"case {done} of {len(pairs)}")
            yield each


def _print(scores: Sequence[CaseScore], chosen: Sequence[str], found: Pairing, *, asked: bool) -> None:
    """Print the tables; absent classes of a case only where classes were asked for."""
    out = results()
    names = [name for name in chosen or SHOWN if any(name in s.metrics for s in scores)]
    shown = scores if asked else [score for score in scores if score.state != "absent"]
    for table in case_tables(shown, names, out.width):
        out.print(table)
        out.print()
    if len(found.pairs) > 1:
        _print_spread(out, scores, chosen)
    _print_mean(out, scores)
    there = {score.case for score in shown}
    _remark("Without a label in prediction and truth", [p.case for p in found.pairs if p.case not in there])
    _remark("Without a truth, not scored", found.extra)


def _remark(text: str, names: Sequence[str]) -> None:
    if names:
        several = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        remarks().print(f"{text}: {several}", markup=False, soft_wrap=True)


def _print_spread(out: Console, scores: Sequence[CaseScore], chosen: Sequence[str]) -> None:
    rows = distributions(scores, chosen or SPREAD)
    out.print("[bold]Over cases[/bold]")
    for table in spread_tables(rows, out.width):
        out.print(table)
        out.print()
    notes = [
        "95 % CI of the mean by bootstrap over cases (under 8: percentile); CV: sd over mean; Q: quartiles."
    ]
    if not all(math.isfinite(row.low) for row in rows):
        notes.append(WITHOUT_INTERVAL)
    if any(row.metric in SURFACE_METRICS for row in rows):
        notes.append(
            "Distances: mean over the n cases where prediction and truth have the structure; missed: only in the "
            "truth, spurious: only in the prediction. Penalised: the image's diagonal for these."
        )
    if any(row.class_name == ALL_CLASSES for row in rows):
        notes.append(f"{ALL_CLASSES}: over each case's own mean; missed and spurious count its classes, too.")
    for note in notes:
        out.print(note, markup=False, style="dim")
    out.print()
    out.print("[bold]Best and worst cases[/bold]")
    out.print(extreme_table(distributions(scores, chosen or EXTREMES), out.width))
    out.print()


def _print_mean(out: Console, scores: Sequence[CaseScore]) -> None:
    summary = summarise(scores)
    overall = summary.overall
    counts = (
        f"{overall.n_used} used, {overall.n_absent} absent, {overall.n_missed} missed, "
        f"{overall.n_spurious} spurious"
    )
    mean = f"{summary.mean['dice']:.4f}" if overall.n_used else NONE
    interval = ""
    (row,) = distributions(scores, ["dice"])[-1:]
    if math.isfinite(row.low) and row.class_name != ALL_CLASSES and row.n == overall.n_used:
        interval = f" {interval_text(row.low, row.high, 'dice')}"
    out.print(
        f"Mean foreground Dice {mean}{interval} ({counts}); {len(ALL_METRICS)} metrics: "
        "--metrics, --csv, --json",
        markup=False,
    )
    if row.class_name == ALL_CLASSES and summary.n_cases > 1:
        text = mean_text(row.mean, row.low, row.high, "dice")
        out.print(f"Mean over cases of their own mean: {text}", markup=False)
