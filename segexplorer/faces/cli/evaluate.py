"""`segexplorer evaluate`: a table per case and class, and the means with what they are over."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.core.events import CaseScore
from segexplorer.faces.cli.compare import number
from segexplorer.faces.cli.output import print_json, results
from segexplorer.faces.cli.settings import parse_classes

SHOWN = ("dice", "sensitivity", "precision", "hd95", "assd")
"""Metrics of the table: all seventeen do not fit on a line."""


def run_evaluate(prediction: Path, truth: Path, classes: str | None, *, as_json: bool) -> None:
    """Score one pair of files, or all pairs of two folders, and print the result."""
    from segexplorer.metrics import summarise

    wanted = parse_classes(classes)
    scores = [
        score
        for predicted, true in pairs(prediction, truth)
        for score in segexplorer.evaluate(predicted, true, wanted)
    ]
    summary = summarise(scores)
    if as_json:
        plain: dict[str, Any] = asdict(summary) if is_dataclass(summary) else dict(summary)
        print_json({"scores": [asdict(score) for score in scores], "summary": plain})
        return
    out = results()
    out.print(_table(scores))
    counts = f"{summary.n_used} used, {summary.n_absent} absent, {summary.n_missed} missed"
    out.print(f"Mean foreground Dice {summary.mean['dice']:.4f} ({counts}); every metric: --json")


def pairs(prediction: Path, truth: Path) -> list[tuple[Path, Path]]:
    """Return (prediction, truth) files: the two named, or those of two folders that belong together.

    In folders a prediction belongs to the truth of the same name, with or without `_prediction` at its end.

    Raises
    ------
    DataError
        When a path is missing, one is a folder and the other a file, or a truth has no prediction.
    """
    for path in (prediction, truth):
        if not path.exists():
            raise DataError(f"There is no {path}.", "Check the path.")
    if prediction.is_dir() != truth.is_dir():
        raise DataError("One of the two is a folder, the other a file.", "Name two files or two folders.")
    if truth.is_file():
        return [(prediction, truth)]
    predictions = {_key(path): path for path in _labels(prediction)}
    found = []
    for true in _labels(truth):
        if _key(true) not in predictions:
            raise DataError(
                f"{prediction} has no prediction for {true.name}.", "Predict that case, or remove its truth."
            )
        found.append((predictions[_key(true)], true))
    if not found:
        from segexplorer.data.readers import writable_suffixes

        raise DataError(
            f"{truth} holds no label files.", f"Label files end in {', '.join(writable_suffixes())}."
        )
    return found


def _labels(folder: Path) -> list[Path]:
    from segexplorer.data.readers import writable_suffixes

    known = writable_suffixes()
    return sorted(
        path for path in folder.iterdir() if path.name.lower().endswith(known) and path.name[0] != "."
    )


def _key(path: Path) -> str:
    from segexplorer.scripting import stem

    return stem(path).removesuffix("_prediction")


def _table(scores: Sequence[CaseScore]) -> Table:
    names = [name for name in SHOWN if any(name in score.metrics for score in scores)]
    told = any(score.state != "scored" for score in scores)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("case", "class"):
        table.add_column(name, overflow="fold")
    for name in [*names, "truth\nml", "extra\nml", "missed\nml", *(["state"] if told else [])]:
        table.add_column(name, justify="right", no_wrap=True)
    for score in scores:
        values = [number(score.metrics.get(name, math.nan), name) for name in names]
        volumes = (score.truth_ml, score.false_positive_ml, score.false_negative_ml)
        state = [("" if score.state == "scored" else score.state)] if told else []
        texts = [*values, *(f"{ml:.2f}" for ml in volumes), *state]
        table.add_row(escape(score.case), escape(score.class_name), *texts)
    return table
