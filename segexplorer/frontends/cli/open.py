"""`segexplorer open`: results of other programs as a case table, worst first; several of them side by side.

It opens in the window where there is a screen; else, or when asked for, it is printed, or written as CSV or JSON.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from segexplorer.core.atomic_files import atomic_write
from segexplorer.core.errors import DataError, SpecError
from segexplorer.data.results import ResultsSpec, open_results
from segexplorer.frontends.cli.evaluate import check_places, chosen_metrics, head, metric_options
from segexplorer.frontends.cli.screen import has_screen
from segexplorer.frontends.cli.settings import parse_classes, parse_settings
from segexplorer.frontends.cli.terminal import print_json, remark, remarks, results, whole
from segexplorer.frontends.viewing import view_results
from segexplorer.metrics import ALL_METRICS
from segexplorer.metrics.formatting import value_text
from segexplorer.study.result_comparison import SetComparison, compare_sets
from segexplorer.training.result_scores import (
    CaseScored,
    ScoredSet,
    Scoring,
    cache_folder,
    collect,
    open_sets,
    score_sets,
)
from segexplorer.viewmodels.case_table import MEAN, CaseRow, CaseTable, problem_texts
from segexplorer.viewmodels.tables import sets_sentences, sets_table

SHOWN_ROWS = 40
"""Rows of the printed table; files hold all of them."""


@dataclass(frozen=True)
class OpenOptions:
    """What the command was asked for, as its options say."""

    kind: str = ""
    labels: str = ""
    images: str = ""
    pattern: str = ""
    settings: Sequence[str] = ()
    classes: str | None = None
    metrics: str = ""
    sort: str = "dice"
    of_class: str = ""
    options: Sequence[str] = ()
    resample: bool = False
    workers: int = 1
    remember: bool = True
    reference: str = ""
    every: bool = False


def run_open(
    folders: Sequence[Path], asked: OpenOptions, *, headless: bool, as_json: bool, csv: Path | None
) -> None:
    """Open the case table in the window, or print or write it.

    Raises
    ------
    DataError
        When a folder is not there or its layout is not known, or no case can be scored.
    """
    check_options(asked, folders)
    check_places(csv)
    metrics = chosen_metrics(asked.metrics)
    sort = ALL_METRICS[asked.sort].name if asked.sort in ALL_METRICS else chosen_metrics(asked.sort)[0]
    scoring = Scoring(
        classes=parse_classes(asked.classes),
        metrics=tuple(dict.fromkeys((*metrics, sort))),
        resample=asked.resample,
        options=metric_options(asked.options),
    )
    specs = [spec for folder in folders for spec in opened(folder, asked)]
    if not headless and not as_json and csv is None and has_screen():
        view_results([_as_window_asks(folder, asked) for folder in folders], scoring)
        return
    sets = open_sets(specs)
    if not any(one.listing.scorable for one in sets):
        raise DataError(
            f"No label was found for any of the {sum(len(one.listing.cases) for one in sets)} predictions.",
            "Name the folder of the labels, e.g. --labels DIR, or a pattern: --labels 'DIR/{case}_seg.nii.gz'.",
        )
    cache = cache_folder() if asked.remember else None
    run = score_sets(sets, scoring, workers=asked.workers, cache=cache, remark=remarks().print)
    scored = list(_with_progress(run))
    found = collect(sets, scored)
    table = CaseTable(found).sorted_by(sort, asked.of_class or MEAN) if scored else CaseTable(found, sort)
    if not any(one.scores for one in found):
        first = next((p for one in found for p in one.problems if p.code == "not_scored"), None)
        if first is not None:
            raise DataError(f"No case could be scored. {first.case}: {first.message}", first.remedy)
    comparison = compare_sets(found, reference=asked.reference) if len(found) > 1 else None
    if csv is not None:
        atomic_write(csv, table.csv().encode())
    if as_json:
        print_json({**table.plain(), "comparison": None if comparison is None else comparison.plain()})
        return
    print_table(table, metrics, every=asked.every)
    if comparison is not None:
        print_comparison(comparison)
    print_problems(found)


def _as_window_asks(folder: Path, asked: OpenOptions) -> dict[str, Any]:
    return {
        "folder": folder,
        "labels": asked.labels,
        "images": asked.images,
        "kind": asked.kind,
        "pattern": asked.pattern,
        "settings": tuple(parse_settings(asked.settings).items()),
    }


def opened(folder: Path, asked: OpenOptions) -> list[ResultsSpec]:
    """Return the result sets of a folder with the labels, images and settings that were given."""
    return open_results(
        folder,
        kind=asked.kind,
        labels=asked.labels,
        images=asked.images,
        pattern=asked.pattern,
        **parse_settings(asked.settings),
    )


def _with_progress(scored: Iterable[CaseScored]) -> Iterator[CaseScored]:
    """Pass on cases while a terminal says how far it is."""
    with _bar() as bar:
        task = bar.add_task("scoring", total=None)
        for event in scored:
            bar.update(task, completed=event.done, total=event.total)
            yield event


@contextmanager
def _bar() -> Iterator[Progress]:
    console = remarks()
    columns = (
        whole("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        yield bar


def print_table(table: CaseTable, metrics: Sequence[str], *, every: bool) -> None:
    """Print a row per case: the sorted metric, and of each class the same metric."""
    out = results()
    rows = table.rows()
    shown = rows if every else rows[:SHOWN_ROWS]
    several = len(table.labels) > 1
    names = table.class_names if table.class_name == MEAN else ()
    names = names if len(names) > 1 else ()
    further = [name for name in metrics if name != table.metric and name in table.metrics]
    printed = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    printed.add_column("case", overflow="fold")
    if several:
        printed.add_column("results", overflow="fold")
    printed.add_column(escape(head(table.metric)), justify="right", no_wrap=True)
    room = max(0, out.width - 50) // 9
    for name in (*names[:room], *(head(name) for name in further)):
        printed.add_column(escape(name), justify="right", overflow="fold")
    printed.add_column("remarks", overflow="fold")
    for row in shown:
        cells = [row.case, *([row.label] if several else []), value_text(row.value, table.metric)]
        cells += [_class_text(row, name, table.metric) for name in names[:room]]
        cells += [_mean_text(table, row, name) for name in further]
        printed.add_row(*map(escape, [*cells, row.remark]))
    out.print(printed)
    left = len(rows) - len(shown)
    hidden = f"; {left} more rows: --all, --csv, --json" if left else ""
    classes = f"; {len(names) - room} more classes: --csv, --json" if len(names) > room else ""
    out.print(
        f"{sum(row.scored for row in rows)} of {len(rows)} cases scored, the worst first by "
        f"{ALL_METRICS[table.metric].display_name} ({table.class_name}){hidden}{classes}",
        markup=False,
        style="dim",
    )
    for one in table.sets:
        for note in one.listing.notes:
            out.print(f"{one.label}: {note}", markup=False)
    out.print()


def _class_text(row: CaseRow, name: str, metric: str) -> str:
    score = row.classes.get(name)
    if score is None or score.state == "absent":
        return ""
    return value_text(score.metrics.get(metric, math.nan), metric)


def _mean_text(table: CaseTable, row: CaseRow, metric: str) -> str:
    values = [
        value
        for score in row.classes.values()
        if score.state != "absent" and table.class_name in (MEAN, score.class_name)
        if math.isfinite(value := score.metrics.get(metric, math.nan))
    ]
    return value_text(math.fsum(values) / len(values) if values else math.nan, metric)


def print_comparison(comparison: SetComparison) -> None:
    """Print the sets side by side: means over the shared cases, and differences from the reference."""
    out = results()
    out.print("[bold]Side by side[/bold]")
    shown = sets_table(comparison)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0), pad_edge=False)
    for column, heading in enumerate(shown.heads):
        word = column < shown.words
        table.add_column(
            heading, overflow="fold" if word else "ellipsis", justify="left" if word else "right"
        )
    for row in shown.rows:
        table.add_row(*map(escape, row))
    out.print(table)
    for sentence in (*sets_sentences(comparison), *comparison.notes):
        out.print(sentence, markup=False, style="dim")
    out.print()


def print_problems(found: Sequence[ScoredSet]) -> None:
    """Say on stderr what is amiss, each kind of problem once with its first cases."""
    for text in problem_texts(found):
        remark(text)


def check_options(asked: OpenOptions, folders: Sequence[Path]) -> None:
    """Refuse options that contradict each other.

    Raises
    ------
    SpecError
        Naming them.
    """
    if asked.pattern and asked.kind not in ("", "prediction_folder"):
        raise SpecError(
            f"--pattern belongs to a folder of predictions, not to {asked.kind}.", "Leave one of them out."
        )
    if asked.reference and len(folders) < 2:
        raise SpecError("--reference needs several folders of results.", "Name another folder.")
