"""Means with interval, variation and quartiles; best and worst case; what they are over."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segexplorer import metrics
from segexplorer.core.errors import UnknownKindError
from segexplorer.core.events import CaseScore


def score(case: str, name: str, state: str, **values: float) -> CaseScore:
    return CaseScore(
        case=case,
        class_name=name,
        role="test",
        state=state,  # type: ignore[arg-type]
        metrics=values,
        false_positive_ml=0,
        false_negative_ml=0,
        truth_ml=1,
    )


def test_a_distribution_counted_by_hand() -> None:
    dice = {"a": 0.5, "b": 0.7, "c": 0.9, "d": 0.7, "e": 0.2}
    scores = [score(c, "liver", "scored", dice=v, hd95=10 * v) for c, v in dice.items()]
    scores.append(score("f", "liver", "absent", dice=math.nan, hd95=math.nan))
    scores.append(score("g", "liver", "missed", dice=0.0, hd95=math.nan))
    overlap, distance = metrics.distributions(scores)
    values = [*dice.values(), 0.0]
    assert (overlap.metric, overlap.n, overlap.n_absent, overlap.n_missed) == ("dice", 6, 1, 1)
    assert overlap.mean == pytest.approx(np.mean(values))
    assert overlap.cv == pytest.approx(np.std(values, ddof=1) / np.mean(values))
    assert (overlap.lower_quartile, overlap.median, overlap.upper_quartile) == pytest.approx(
        (0.275, 0.6, 0.7)
    )
    assert (overlap.minimum, overlap.maximum) == (0, 0.9)
    assert (overlap.best_case, overlap.worst_case) == ("c", "g")
    assert overlap.low < overlap.mean < overlap.high
    # a distance is better where it is lower, and the missed case has none
    assert (distance.n, distance.best_case, distance.worst_case) == (5, "e", "c")


def test_several_classes_get_a_row_of_each_cases_mean() -> None:
    scores = [
        score("a", "x", "scored", dice=0.4),
        score("a", "y", "missed", dice=0.0),
        score("b", "x", "scored", dice=0.8),
        score("b", "y", "absent", dice=math.nan),
    ]
    rows = metrics.distributions(scores, ["dice"])
    assert [r.class_name for r in rows] == ["x", "y", metrics.ALL_CLASSES]
    assert rows[-1].mean == pytest.approx((0.2 + 0.8) / 2)
    assert (rows[-1].n, rows[-1].n_missed, rows[-1].n_absent) == (2, 1, 1)
    assert rows[1].mean == 0 and math.isnan(rows[1].low) and math.isnan(rows[1].cv)


def test_nothing_found_is_reported_and_not_invented() -> None:
    (row,) = metrics.distributions([score("a", "x", "missed", hd95=math.nan)], ["hd95"])
    assert (row.n, row.n_missed, row.best_case) == (0, 1, "")
    assert math.isnan(row.mean) and math.isnan(row.median)
    with pytest.raises(UnknownKindError, match="hd95"):
        metrics.distributions([], ["hd59"])


def test_a_case_that_missed_a_structure_is_not_the_best_by_its_other_distances() -> None:
    scores = [
        score("half", "x", "scored", hd95=0.0),
        score("half", "y", "missed", hd95=math.nan),
        score("whole", "x", "scored", hd95=2.0),
        score("whole", "y", "scored", hd95=4.0),
        score("poor", "x", "scored", hd95=9.0),
        score("poor", "y", "absent", hd95=math.nan),
    ]
    row = metrics.distributions(scores, ["hd95"])[-1]
    assert (row.best_case, row.best, row.minimum) == ("whole", 3.0, 0.0)
    assert (row.worst_case, row.worst, row.n_missed) == ("poor", 9.0, 1)
    (alone,) = metrics.distributions(scores[:2], ["hd95"])[-1:]
    assert (alone.best_case, alone.worst_case) == ("half", "half")
