"""What few cases cannot show is not shown: no interval, nothing better, and a word on p."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from segexplorer.core.events import CaseScore
from segexplorer.study import compare
from segexplorer.study.render import csv_table, latex_tables, markdown_tables

RunMaker = Callable[..., Path]


def scores(shift: float = 0.0, count: int = 8) -> list[CaseScore]:
    return [
        CaseScore(
            case=f"c{i}",
            class_name="liver",
            role="validation",
            state="scored",
            metrics={"dice": 0.6 + 0.03 * i + shift + 0.002 * i * (shift > 0)},
            false_positive_ml=0.0,
            false_negative_ml=0.0,
            truth_ml=1.0,
        )
        for i in range(count)
    ]


def runs(make_run: RunMaker, count: int, seeds: int = 3) -> list[Path]:
    return [
        make_run(f"{loss}{seed}", [*scores(on + 0.001 * seed, count)], loss=loss, seed=seed)
        for loss, on in (("dice", 0.0), ("tversky", 0.1))
        for seed in range(seeds)
    ]


def test_few_cases_are_reported(make_run: RunMaker) -> None:
    result = compare(runs(make_run, 3), metrics=["dice"])
    assert sum("Differences have no interval and no p below 5 cases" in note for note in result.notes) == 1
    assert sum("No interval below 6 cases" in note for note in result.notes) == 1
    (row,) = result.differences
    assert row.mean > 0.1 and row.better == "" and math.isnan(row.low) and math.isnan(row.p)
    assert row.p_cases == pytest.approx(0.25) and row.withheld.startswith(
        "no A/A rate was measured for 3 cases"
    )
    assert math.isnan(result.conditions[0].distribution("dice").low)
    for text in (markdown_tables(result), latex_tables(result)):
        assert "95 % interval" not in text and "No interval below 6 cases" in text
    assert f"| 3 | {row.mean:+.3f} | – | – |" in markdown_tables(result)
    assert f"& ${row.mean:+.3f}$ & -- & --" in latex_tables(result)
    rows = list(csv.DictReader(io.StringIO(csv_table([result]))))
    assert {r["low"] for r in rows} == {""} and "nan" not in csv_table([result])


def test_five_cases_have_an_interval_and_may_have_a_star(make_run: RunMaker) -> None:
    result = compare(runs(make_run, 5), metrics=["dice"])
    (row,) = result.differences
    assert row.low < row.mean < row.high and row.marked and row.better == "condition"
    assert "Holm-adjusted over 1 comparison per metric" in markdown_tables(result)


def test_one_seed_has_no_interval_and_the_files_have_the_one_over_cases(make_run: RunMaker) -> None:
    result = compare(runs(make_run, 8, seeds=1), metrics=["dice"])
    (row,) = result.differences
    assert math.isnan(row.low) and math.isnan(row.p_holm) and not row.marked
    assert sum(note.startswith("One seed:") for note in result.notes) == 1
    assert not any(note.startswith("No star") for note in result.notes)  # said already
    (line,) = (r for r in csv.DictReader(io.StringIO(csv_table([result]))) if r["row"] == "difference")
    assert line["low"] == line["p"] == "" and float(line["low_cases"]) > 0 and float(line["p_cases"]) < 0.05
