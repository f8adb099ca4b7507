"""The case table: worst first, failures before all that have a value, filters, points of a scatter, files."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segexplorer.core.errors import SpecError
from segexplorer.core.events import CaseScore
from segexplorer.data.checks import Problem
from segexplorer.data.results import ResultCase, ResultListing
from segexplorer.training.result_scores import ScoredSet
from segexplorer.viewmodels.case_table import MEAN, CaseTable, Filter


def score(
    case: str, name: str, dice: float, hd95: float, state: str = "scored", ml: float = 10.0
) -> CaseScore:
    return CaseScore(
        case=case,
        class_name=name,
        role="test",
        state=state,  # type: ignore[arg-type]
        metrics={"dice": dice, "hd95": hd95},
        false_positive_ml=1.0,
        false_negative_ml=2.0,
        truth_ml=ml,
    )


@pytest.fixture
def table() -> CaseTable:
    scores = (
        score("a", "liver", 0.9, 3.0, ml=1500.0),
        score("a", "spleen", 0.8, 4.0),
        score("b", "liver", 0.7, 30.0, ml=1200.0),
        score("b", "spleen", 0.0, math.nan, "missed"),
        score("c", "liver", 0.95, 1.0, ml=1400.0),
        score("c", "spleen", math.nan, math.nan, "absent", ml=0.0),
    )
    cases = tuple(ResultCase(name, Path(name)) for name in "abcd")
    problems = (
        Problem("error", "not_scored", "It is cut off.", "", "d"),
        Problem("error", "no_prediction", "The label has no prediction.", "", "e"),
    )
    return CaseTable((ScoredSet("ours", ResultListing(cases), scores, problems),))


def order(table: CaseTable) -> str:
    return "".join(row.case for row in table.rows())


def test_the_worst_are_first_and_the_unscored_last(table: CaseTable) -> None:
    assert order(table) == "bacde"
    assert [row.problem for row in table.rows()][-2:] == ["It is cut off.", "The label has no prediction."]
    assert order(table.sorted_by("dice", worst_first=False)) == "cabde"


def test_a_mean_is_over_the_classes_in_truth_or_prediction(table: CaseTable) -> None:
    values = {row.case: row.value for row in table.rows()}
    assert values["b"] == pytest.approx(0.35) and values["c"] == pytest.approx(0.95)
    assert math.isnan(values["d"])


def test_a_missed_structure_is_worse_than_any_distance(table: CaseTable) -> None:
    assert order(table.sorted_by("hd95", "spleen")) == "bacde"
    assert order(table.sorted_by("hd95", "spleen", worst_first=False)) == "abcde"
    assert order(table.sorted_by("hd95", "liver")) == "bacde"
    assert next(row.failures for row in table.sorted_by("hd95", "liver").rows()) == ()


def test_filters(table: CaseTable) -> None:
    assert order(table.filtered(Filter(text="B"))) == "b"
    assert order(table.filtered(Filter(low=0.8))) == "ac"
    assert order(table.filtered(Filter(failures_only=True))) == "b"
    assert order(table.filtered(Filter(labels=frozenset({"others"})))) == ""


def test_points_of_a_scatter(table: CaseTable) -> None:
    points = table.points("truth_ml", "dice")
    assert [(p.case, p.class_name, p.x, p.y) for p in points][:2] == [
        ("b", "liver", 1200.0, 0.7),
        ("b", "spleen", 10.0, 0.0),
    ]
    assert len(points) == 5  # the absent one has no dot
    assert {p.class_name for p in table.sorted_by("dice", "liver").points("hd95", "dice")} == {"liver"}
    with pytest.raises(SpecError, match="no quantity volume"):
        table.points("volume", "dice")


def test_csv_and_json_hold_every_class_in_the_shown_order(table: CaseTable) -> None:
    rows = list(csv.DictReader(io.StringIO(table.csv())))
    assert [row["case"] for row in rows] == ["b", "b", "a", "a", "c", "c", "d", "e"]
    assert rows[-1]["problem"] == "The label has no prediction." and rows[0]["results"] == "ours"
    plain = table.plain()
    assert [case["case"] for case in plain["cases"]] == list("bacde")
    assert plain["cases"][0]["classes"]["spleen"]["state"] == "missed"


def test_unknown_metrics_and_classes_are_refused(table: CaseTable) -> None:
    with pytest.raises(SpecError, match="No score has the metric"):
        table.sorted_by("assd")
    with pytest.raises(SpecError, match="No case has the class"):
        table.sorted_by("dice", "kidney")
    assert table.class_name == MEAN


@given(st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), max_size=15), st.booleans())
def test_sorting_keeps_every_case_once_and_in_order(values: list[float], worst_first: bool) -> None:
    scores = tuple(
        score(f"{n}", "liver", value, 1.0, "missed" if math.isnan(value) else "scored")
        for n, value in enumerate(values)
    )
    cases = tuple(ResultCase(f"{n}", Path(f"{n}")) for n in range(len(values)))
    table = CaseTable((ScoredSet("ours", ResultListing(cases), scores, ()),), worst_first=worst_first)
    shown = [row.value for row in table.rows()]
    assert sorted(row.case for row in table.rows()) == sorted(case.id for case in cases)
    finite = [value for value in shown if not math.isnan(value)]
    assert finite == sorted(finite, reverse=not worst_first)
    blank = [math.isnan(value) for value in shown]
    assert blank == sorted(blank, reverse=worst_first)
