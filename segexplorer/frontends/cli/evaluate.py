"""`segexplorer evaluate`: scores per case and class, their spread over the cases, and what each mean is a mean of.

Predictions are matched with truths first: two files, two DICOM folders, or two folders of label files.
"""

from __future__ import annotations

import math
import re
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
from segexplorer.core.errors import DataError, SpecError, nearest
from segexplorer.core.events import CaseScore
from segexplorer.data.case import IGNORED
from segexplorer.data.datasets.discovery import hidden, is_label_name, stem, subfolders, suffixes
from segexplorer.data.formats import registry
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

ENDING = re.compile(r"[_\-. ](prediction|pred|segmentation|seg|labels?|mask|gt|truth)$", re.IGNORECASE)
"""What names say beyond the case: `case_7_prediction` belongs to `case_7_seg`."""


@dataclass(frozen=True)
class Pair:
    """A case: files, or DICOM folders."""

    case: str
    prediction: Path
    truth: Path


@dataclass(frozen=True)
class Pairing:
    """What belongs together, and predictions that nothing is known about."""

    pairs: tuple[Pair, ...]
    extra: tuple[str, ...] = ()


def pair(prediction: Path, truth: Path) -> Pairing:
    """Pair two paths, or the contents of two folders.

    In folders a prediction belongs to the truth of the same name; the format makes no difference, nor do words at
    the end of the name that say what the file is (`_prediction`, `_seg`, `_mask` ...). A subfolder is a case when
    it holds a DICOM series or one label file.

    Raises
    ------
    DataError
        When a path is missing, one is a folder of files and the other a file, a truth has no prediction, or several
        files could be the one meant.
    """
    for path in (prediction, truth):
        if not path.exists():
            raise DataError(f"There is no {path}.", "Check the path.")
    folders = [path for path in (prediction, truth) if path.is_dir()]
    if len(folders) < 2:
        for folder in folders:
            if not _is_dicom(folder):
                raise DataError(
                    "One of the two is a folder, the other a file.", "Name two files or two folders."
                )
        return Pairing((Pair(_case(truth), prediction, truth),))
    predictions, truths = _cases(prediction), _cases(truth)
    shared = [case for case in truths if case in predictions]
    if not shared and _is_dicom(prediction) and _is_dicom(truth):
        return Pairing((Pair(_case(truth), prediction, truth),))
    if not truths:
        raise DataError(
            f"{truth} holds no label files.", f"Label files end in {', '.join(sorted(suffixes()))}."
        )
    _tell_missing(truth, prediction, truths, predictions)
    found = [Pair(case, _one(predictions[case], case), _one(truths[case], case)) for case in shared]
    return Pairing(tuple(found), tuple(_one_name(predictions[c]) for c in predictions if c not in truths))


def _cases(folder: Path) -> dict[str, list[Path]]:
    """Return case -> the files and subfolders that may be its label, sorted."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if not hidden(path) and path.is_file() and _named(path) is not None:
            found.setdefault(_case(path), []).append(path)
    for path in subfolders(folder):
        inside = _volumes(path)
        if _is_dicom(path):
            found.setdefault(_case(path), []).append(path)
        elif inside:
            found.setdefault(_case(path), []).extend(_called_labels(inside))
    return found


def _volumes(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.is_file() and not hidden(p) and _named(p) is not None]


def _named(path: Path) -> str | None:
    """Return a volume file's name without suffix; DICOM files are known without one."""
    name = stem(path)
    return path.name if name is None and not path.suffix and registry.readable(path) else name


def _is_dicom(folder: Path) -> bool:
    """Whether a folder is one volume, or several series, of DICOM files."""
    inside = _volumes(folder)
    formats = {found.folders for path in inside if (found := registry.format_of(path)) is not None}
    return bool(inside) and formats == {True}


def _case(path: Path) -> str:
    name = path.name if path.is_dir() else _named(path) or path.stem
    while len(shorter := ENDING.sub("", name)) < len(name):
        name = shorter
    return name


def _called_labels(paths: Sequence[Path]) -> list[Path]:
    """Return those that are called a label beside others that are not (an image and its mask)."""
    called = [path for path in paths if is_label_name(path) or "pred" in path.name.lower()]
    return called if called and len(paths) > 1 else list(paths)


def _one(paths: Sequence[Path], case: str) -> Path:
    named = _called_labels(paths)
    if len(named) > 1:
        names = " and ".join(str(path.relative_to(path.parents[1])) for path in named[:3])
        raise DataError(f"{names} could both be the label of {case}.", "Keep one of them in the folder.")
    return named[0]


def _one_name(paths: Sequence[Path]) -> str:
    return paths[0].name


def _tell_missing(
    truth: Path, prediction: Path, truths: Mapping[str, list[Path]], predictions: Mapping[str, list[Path]]
) -> None:
    missing = [case for case in truths if case not in predictions]
    if not missing:
        return
    first = _one_name(truths[missing[0]])
    others = f" and {len(missing) - 1} more of {len(truths)}" if len(missing) > 1 else ""
    spare = [case for case in predictions if case not in truths]
    like = nearest(missing[0], spare, 1)
    remedy = (
        f"Is it {_one_name(predictions[like[0]])}? Give both the same name."
        if like
        else "Predict that case, or take its truth out of the folder."
    )
    raise DataError(f"{prediction} has no prediction for {first}{others} in {truth}.", remedy)


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
