"""`segexplorer evaluate`: scores per case and class, their spread over the cases, and what each mean is a mean of.

Predictions are matched with truths first: two files, two DICOM folders, or two folders of label files.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

import segexplorer
from segexplorer.core.errors import DataError, SpecError
from segexplorer.core.events import CaseScore
from segexplorer.core.label_scheme import IGNORED
from segexplorer.data.results.pairing import Pair, Pairing, pair
from segexplorer.frontends.cli.settings import parse_classes, parse_settings
from segexplorer.frontends.cli.terminal import print_json, remarks, results
from segexplorer.metrics import (
    ALL_CLASSES,
    ALL_METRICS,
    SURFACE_METRICS,
    Distribution,
    Lesion,
    MetricOptions,
    SizeClass,
    by_size,
    choose,
    complete,
    distributions,
    distributions_to_csv,
    metrics_for,
    scores_to_csv,
    summarise,
)
from segexplorer.metrics.formatting import (
    NONE,
    WITHOUT_INTERVAL,
    interval_text,
    mean_text,
    percent_text,
    rows_to_csv,
    value_text,
)
from segexplorer.metrics.scoring import NUMBERED

NARROW = 100
"""Below this many characters names are folded and gaps are small, so that figures stay together."""
FOLDED = 18
"""Characters of a column of names on a narrow terminal."""


@dataclass(frozen=True)
class Column:
    """A column of figures: head and one text per row."""

    head: str
    cells: tuple[str, ...]

    @property
    def width(self) -> int:
        """Characters of its widest line."""
        return max(len(line) for text in (self.head, *self.cells) for line in text.split("\n"))


Group = tuple[Column, ...]
"""Columns that stay in one table."""


def case_tables(scores: Sequence[CaseScore], metrics: Sequence[str], width: int) -> Iterator[Table]:
    """Yield the table of every case and class; a second one takes the figures that do not fit beside the first."""
    groups: list[Group] = [
        (Column(head(name), tuple(value_text(s.metrics.get(name, math.nan), name) for s in scores)),)
        for name in metrics
    ]
    volumes = (
        Column("truth\nml", tuple(_ml(s.truth_ml) for s in scores)),
        Column("extra\nml", tuple(_ml(s.false_positive_ml) for s in scores)),
        Column("missed\nml", tuple(_ml(s.false_negative_ml) for s in scores)),
    )
    groups.append(volumes)
    if any(score.state != "scored" for score in scores):
        states = tuple("" if s.state == "scored" else s.state for s in scores)
        groups.insert(0, (Column("state", states),))
    names = {"case": _blanked([s.case for s in scores]), "class": [s.class_name for s in scores]}
    yield from _packed(names, groups, width)


def spread_tables(rows: Sequence[Distribution], width: int) -> Iterator[Table]:
    """Yield how every metric is spread over cases, class by class."""
    lines = _by_class(rows)

    def column(title: str, text: Callable[[Distribution], str]) -> Group:
        return (Column(title, tuple("" if isinstance(r, str) else text(r) for r in lines)),)

    groups = (
        column("n", lambda r: str(r.n))
        + column("missed", lambda r: str(r.n_missed))
        + column("spur.", lambda r: str(r.n_spurious))
        + column("mean", lambda r: value_text(r.mean, r.metric))
        + column("95 % CI", lambda r: interval_text(r.low, r.high, r.metric)),
        column("CV", lambda r: percent_text(r.cv)),
        column("Q1", lambda r: value_text(r.lower_quartile, r.metric))
        + column("median", lambda r: value_text(r.median, r.metric))
        + column("Q3", lambda r: value_text(r.upper_quartile, r.metric)),
    )
    yield from _packed({"metric": _labels(lines)}, groups, width)


def extreme_table(rows: Sequence[Distribution], width: int) -> Table:
    """Return the best and the worst case of every metric by name, class by class."""
    lines = _by_class(rows)
    table = _table({"metric": _labels(lines)}, width)
    for title in ("best", "case", "worst", "case"):
        figures = title != "case"
        table.add_column(title, justify="right" if figures else "left", no_wrap=figures, overflow="fold")
    for row, label in zip(lines, _labels(lines), strict=True):
        if isinstance(row, str):
            table.add_row(escape(label))
            continue
        cells = (
            value_text(row.best, row.metric),
            row.best_case,
            value_text(row.worst, row.metric),
            row.worst_case,
        )
        table.add_row(*map(escape, (label, *cells)))
    return table


def head(metric: str) -> str:
    """Return a metric's column head in short lines, its unit below; what is near 1 by volume says so."""
    declared = ALL_METRICS[metric]
    text = declared.head.replace(" ", "\n").replace("1\nby\n", "1 by\n").replace("(near\n1", "(near 1")
    return f"{text}\n{declared.unit}" if declared.unit else text


def _by_class(rows: Sequence[Distribution]) -> list[Distribution | str]:
    """Return rows with the name of each class above its own, if there are several."""
    several = len({row.class_name for row in rows}) > 1
    lines: list[Distribution | str] = []
    for before, row in zip([None, *rows], rows, strict=False):
        if several and (before is None or before.class_name != row.class_name):
            lines.append(row.class_name)
        lines.append(row)
    return lines


def _labels(lines: Sequence[Distribution | str]) -> list[str]:
    indent = "  " if any(isinstance(line, str) for line in lines) else ""
    return [line if isinstance(line, str) else indent + _label(line.metric) for line in lines]


def _label(metric: str) -> str:
    declared = ALL_METRICS[metric]
    return f"{declared.head}, {declared.unit}" if declared.unit else declared.head


def _packed(names: Mapping[str, Sequence[str]], groups: Sequence[Group], width: int) -> Iterator[Table]:
    """Yield tables with the names at the left and as many groups as fit, like pandas' wide frames."""
    left = sum(_name_width(title, cells, width) + _gap(width) for title, cells in names.items())
    block: list[Column] = []
    for group in groups:
        if block and left + sum(c.width + _gap(width) for c in (*block, *group)) > width + _gap(width):
            yield _filled(names, block, width)
            block = []
        block.extend(group)
    yield _filled(names, block, width)


def _filled(names: Mapping[str, Sequence[str]], columns: Sequence[Column], width: int) -> Table:
    table = _table(names, width)
    for column in columns:
        table.add_column(escape(column.head), justify="right", no_wrap=True)
    cells = [*names.values(), *(column.cells for column in columns)]
    for row in zip(*cells, strict=True):
        table.add_row(*map(escape, row))
    return table


def _table(names: Mapping[str, Sequence[str]], width: int) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, _gap(width), 0, 0), pad_edge=False)
    for title, cells in names.items():
        table.add_column(title, overflow="fold", width=_name_width(title, cells, width))
    return table


def _name_width(title: str, cells: Sequence[str], width: int) -> int:
    longest = max(map(len, (title, *cells)))
    return longest if width >= NARROW else min(longest, FOLDED)


def _gap(width: int) -> int:
    return 2 if width >= NARROW else 1


def _blanked(cells: Sequence[str]) -> list[str]:
    """Return cells with repetitions of the one above left out."""
    return [cell if i == 0 or cell != cells[i - 1] else "" for i, cell in enumerate(cells)]


def _ml(volume: float) -> str:
    return f"{volume:.2f}" if volume < 1000 else f"{volume:.0f}"


SHOWN = ("dice", "f2", "sensitivity", "precision", "hd95", "assd")
"""Metrics of the table of cases: all do not fit on a line."""
SPREAD = ("dice", "f2", "sensitivity", "precision", "hd95", "hd95_penalised", "assd", "assd_penalised")
"""Metrics of the tables over cases; a distance over found structures is shown beside its penalised one."""


EXTREMES = ("dice", "hd95_penalised")
"""Metrics whose best and worst cases are named where none are chosen; all of them are in the files."""


def run_evaluate(
    prediction: Path,
    truth: Path,
    classes: str | None,
    *,
    as_json: bool,
    metrics: str = "",
    protocol: str = "",
    settings: Sequence[str] = (),
    csv: Path | None = None,
    spread_csv: Path | None = None,
    lesions_csv: Path | None = None,
    resample: bool = False,
) -> None:
    """Score one pair of files, or all pairs of two folders, and print the result.

    Parameters
    ----------
    metrics
        Names with commas of what is printed, of metrics or tasks; empty for a choice that fits a line. Files hold
        every default metric, too.
    protocol
        A published scorer, whose metrics are printed beside ours.
    settings
        Options of metrics, NAME=VALUE.
    csv, spread_csv
        Files for one row per case and class, and for one per class and metric.
    lesions_csv
        File for one row per lesion; the table by size is printed.
    resample
        Whether predictions on another lattice are resampled onto the truth's grid.
    """
    chosen = chosen_metrics(metrics, protocol)
    options = metric_options(settings)
    check_places(csv, spread_csv, lesions_csv)
    wanted = parse_classes(classes)
    found = pair(prediction, truth)
    files = as_json or csv is not None or spread_csv is not None
    surfaces = files or any(name in SURFACE_METRICS for name in chosen or SHOWN)
    scores = _scored(found, wanted, surfaces=surfaces, resample=resample, metrics=chosen, options=options)
    _tell_found_nowhere(scores)
    _tell_255(scores)
    write_tables(scores, csv, spread_csv)
    rows, sizes = _lesions(found, wanted, options, resample=resample) if lesions_csv is not None else ([], [])
    if lesions_csv is not None:
        write_rows(lesions_csv, rows)
    if as_json:
        shown = scores_as_plain(scores, chosen)
        if lesions_csv is not None:
            shown["lesions_by_size"] = [asdict(row) for row in sizes]
        print_json({**shown, "predictions_without_truth": list(found.extra)})
    else:
        shown_cases = scores if wanted is not None else [s for s in scores if s.state != "absent"]
        print_scores(scores, chosen, shown=shown_cases)
        if sizes:
            print_sizes(sizes, options)
        there = {score.case for score in shown_cases}
        _remark(
            "Without a label in prediction and truth", [p.case for p in found.pairs if p.case not in there]
        )
        _remark("Without a truth, not scored", found.extra)


def require_truth(prediction: Path, truth: Path | None) -> Path:
    """Return the truth.

    Raises
    ------
    SpecError
        When there is none; for a run folder, with the command that scores it.
    """
    if truth is not None:
        return truth
    from segexplorer.training.run_files import EXPERIMENT

    if (prediction / EXPERIMENT).is_file():
        raise SpecError(
            f"{prediction} is a run folder: which of its cases are to be scored?",
            "Add --split test; or name a prediction and its truth.",
        )
    raise SpecError("There is no truth to score against.", "Name two files or two folders: PREDICTION TRUTH.")


def check_places(*paths: Path | None) -> None:
    """Refuse a table's file that is a folder, before the work."""
    for path in paths:
        if path is not None and path.is_dir():
            raise SpecError(f"{path} is a folder.", "Name a file to write, e.g. scores.csv.")


def write_tables(scores: Sequence[CaseScore], csv: Path | None, spread_csv: Path | None) -> None:
    """Write one row per case and class, and one per class and metric, where a file is named."""
    from segexplorer.core.atomic_files import atomic_write

    if csv is not None:
        atomic_write(csv, scores_to_csv(scores).encode())
    if spread_csv is not None:
        atomic_write(spread_csv, distributions_to_csv(distributions(scores)).encode())


def scores_as_plain(scores: Sequence[CaseScore], chosen: Sequence[str]) -> dict[str, Any]:
    """Return scores, their means and their spread as plain data for JSON."""
    return {
        "scores": [asdict(s) for s in scores],
        "summary": asdict(summarise(scores)),
        "spread": [asdict(row) for row in distributions(scores, chosen or None)],
    }


def write_rows(path: Path, rows: Sequence[Lesion]) -> None:
    """Write one row per lesion as CSV."""
    from segexplorer.core.atomic_files import atomic_write

    atomic_write(path, rows_to_csv([asdict(row) for row in rows]).encode())


def chosen_metrics(text: str, protocol: str = "") -> tuple[str, ...]:
    """Return the metrics named with commas, each once; none for an empty text.

    A task stands for its metrics. Those of a protocol come last; without other names beside what is shown anyway.

    Raises
    ------
    UnknownKindError
        With the nearest names.
    """
    named = choose(text.split(","))
    if not protocol:
        return named
    return tuple(dict.fromkeys((*(named or SHOWN), *(metric.name for metric in metrics_for(protocol)))))


def metric_options(settings: Sequence[str]) -> MetricOptions:
    """Return options of metrics from entries like "matching=iou".

    Raises
    ------
    SpecError
        Naming the option at fault.
    """
    return MetricOptions.of(parse_settings(settings), "the options of metrics")


def _scored(
    found: Pairing,
    classes: dict[str, tuple[int, ...]] | None,
    *,
    surfaces: bool,
    resample: bool,
    metrics: Sequence[str],
    options: MetricOptions,
) -> list[CaseScore]:
    """Score every pair; without chosen classes, what one case has and another has not is absent there."""
    scores = [
        score
        for each in _told(found.pairs)
        for score in score_pair(
            each,
            classes,
            named=len(found.pairs) > 1,
            surfaces=surfaces,
            resample=resample,
            metrics=metrics,
            options=options,
        )
    ]
    if not scores:
        raise DataError(
            "There is nothing to score: no label above 0 in any prediction or truth.",
            "Are these label files?",
        )
    return complete(scores, [each.case for each in found.pairs])


def score_pair(
    each: Pair,
    classes: dict[str, tuple[int, ...]] | None,
    *,
    named: bool,
    surfaces: bool,
    resample: bool = False,
    metrics: Sequence[str] = (),
    options: MetricOptions | None = None,
) -> tuple[CaseScore, ...]:
    try:
        return segexplorer.evaluate(
            each.prediction,
            each.truth,
            classes,
            case=each.case,
            surfaces=surfaces,
            resample=resample,
            metrics=metrics,
            options=options,
            on_note=lambda note: remarks().print(f"{each.case}: {note}", markup=False, soft_wrap=True),
        )
    except DataError as error:
        if not named:
            raise
        raise DataError(f"{each.case}: {error.message}", error.remedy) from error


def _lesions(
    found: Pairing, classes: dict[str, tuple[int, ...]] | None, options: MetricOptions, *, resample: bool
) -> tuple[list[Lesion], list[SizeClass]]:
    """Return every lesion of every pair, and detection by class and size."""
    rows = [
        row
        for each in found.pairs
        for row in segexplorer.lesions(
            each.prediction, each.truth, classes, case=each.case, options=options, resample=resample
        )
    ]
    return rows, list(by_size(rows, len(found.pairs), options.lesion_sizes, options.size_unit))


def print_sizes(sizes: Sequence[SizeClass], options: MetricOptions) -> None:
    """Print detection of lesions by class and size, and the rule by which they were matched."""
    out = results()
    unit = "mm³" if options.size_unit == "mm3" else "voxels"
    out.print("[bold]Lesions by size[/bold]")
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class", overflow="fold")
    for title in (f"size, {unit}", "true", "found", "pred.", "correct", "sens.", "PPV", "F1", "FP/case"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, row in zip(_blanked([row.class_name for row in sizes]), sizes, strict=True):
        counts = (row.true, row.found, row.predicted, row.correct)
        ratios = (row.sensitivity, row.ppv, row.f1)
        table.add_row(
            escape(name),
            _span(row),
            *map(str, counts),
            *(value_text(ratio, "lesion_f1") for ratio in ratios),
            f"{row.false_positives_per_case:.2f}",
        )
    out.print(table)
    out.print(
        f"Lesions: components connected across {options.connectivity}, of {options.min_voxels} or more voxels; "
        f"{RULES[options.matching].format(options)}.",
        markup=False,
        style="dim",
    )
    out.print()


RULES = {
    "any": "found if any voxel is in the other volume",
    "overlap": "found if more than {0.min_overlap:g} of it is in the other volume",
    "iou": "found if paired one to one with an IoU above {0.min_iou:g}",
}
"""When a lesion counts, in words."""


def _span(row: SizeClass) -> str:
    if math.isinf(row.high):
        return f"from {row.low:g}" if row.low else "all"
    return f"{row.low:g} to {row.high:g}"


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


def print_scores(
    scores: Sequence[CaseScore], chosen: Sequence[str], *, shown: Sequence[CaseScore] | None = None
) -> None:
    """Print the tables; `shown`: those of the scores that the table of cases has, by default all."""
    out = results()
    names = [name for name in chosen or SHOWN if any(name in s.metrics for s in scores)]
    for table in case_tables(scores if shown is None else shown, names, out.width):
        out.print(table)
        out.print()
    if len({score.case for score in scores}) > 1:
        _print_spread(out, scores, chosen)
    _print_mean(out, scores)


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
