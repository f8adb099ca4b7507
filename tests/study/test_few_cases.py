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


def test_few_cases_are_reported(make_run: RunMaker) -> None:
    folders = [make_run(loss, scores(on)[:3], loss=loss) for loss, on in (("dice", 0.0), ("tversky", 0.1))]
    result = compare(folders, metrics=["dice"])
    assert any("dice 3 of 3" in note and "cannot fall under 0.05" in note for note in result.notes)
    assert sum("No interval below 6 cases" in note for note in result.notes) == 1
    (row,) = result.differences
    assert row.mean > 0.1 and row.better == "" and math.isnan(row.low) and row.p == pytest.approx(0.25)
    assert math.isnan(result.conditions[0].distribution("dice").low)
    for text in (markdown_tables(result), latex_tables(result)):
        assert "bootstrap interval" not in text and "No interval below 6 cases" in text
    assert "| 3 | +0.102 | – | 0.250 |" in markdown_tables(
        result
    ) and "& $+0.102$ & -- & 0.250" in latex_tables(result)
    assert "over 1 comparison per metric" in markdown_tables(result)
    rows = list(csv.DictReader(io.StringIO(csv_table([result]))))
    assert {r["low"] for r in rows} == {""} and "nan" not in csv_table([result])


def test_p_that_cannot_be_small_is_told_by_what_differs_and_by_how_many_tests(make_run: RunMaker) -> None:
    base = scores()
    part = [*scores(0.1)[:4], *base[4:]]  # four of eight differ: p is at least 0.125
    few = compare([make_run("a", base, loss="dice"), make_run("b", part, loss="tversky")], metrics=["dice"])
    assert few.differences[0].n_nonzero == 4 and few.differences[0].n_pairs == 8
    assert any("dice 4 of 8" in note for note in few.notes)
    six = [
        make_run(f"six-{n}", scores(0.01 * i)[:6], loss=n) for i, n in enumerate(("dice", "tversky", "focal"))
    ]
    one, two = (compare(six[:n], metrics=["dice"]) for n in (2, 3))
    assert one.differences[0].p_holm == pytest.approx(2 / 2**6)
    assert not any("Too few" in note for note in one.notes)  # one test: 0.031
    assert two.differences[0].p_holm == pytest.approx(4 / 2**6)
    assert any("dice 6 of 6" in note for note in two.notes)  # two tests: 0.0625
    mixed = compare(
        [
            make_run("m0", base, loss="dice"),
            make_run("m1", scores(0.1), loss="focal"),
            make_run("m2", part, loss="tversky"),
        ],
        metrics=["dice"],
    )
    assert any("(tversky in dice 4 of 8)" in note for note in mixed.notes)
    assert mixed.differences[0].significant and not mixed.differences[1].significant
