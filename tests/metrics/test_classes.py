"""Which labels of two files are one class: by value, and by name where values differ."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segexplorer import metrics
from segexplorer.core.errors import DataError


def matched(found: set[int], true: set[int], found_names: dict, true_names: dict) -> list[tuple]:
    return [
        (m.name, m.prediction, m.truth) for m in metrics.match_classes(found, true, found_names, true_names)
    ]


def test_equal_values_are_one_class() -> None:
    assert matched({0, 1, 3}, {0, 1, 2}, {}, {2: "spleen", 7: "nowhere"}) == [
        ("label 1", 1, 1),
        ("spleen", None, 2),
        ("label 3", 3, None),
    ]


def test_names_decide_where_a_program_numbered_its_segments_anew() -> None:
    found = matched({0, 1, 2}, {0, 5, 6}, {1: "Spleen", 2: "liver"}, {5: "Liver", 6: "spleen"})
    assert found == [("Liver", 2, 5), ("spleen", 1, 6)]
    # also when only one structure occurs, under a value that the other uses for something else
    found = matched({0, 1}, {0, 1}, {1: "spleen"}, {1: "liver", 2: "spleen"})
    assert found == [("liver", None, 1), ("spleen", 1, None)]


def test_a_picture_of_0_and_255_means_1() -> None:
    assert matched({0, 1}, {0, 255}, {}, {}) == [("label 1", 1, 255)]
    assert matched({0, 255}, {0, 255}, {}, {}) == [("label 255", 255, 255)]


def test_nothing_is_no_class() -> None:
    assert matched({0}, {0}, {}, {}) == []


def test_names_that_contradict_each_other_are_not_guessed() -> None:
    with pytest.raises(DataError, match="'spleen', the truth 'liver'") as told:
        matched({1}, {1}, {1: "spleen"}, {1: "liver"})
    assert "--classes '{liver: 1}'" in told.value.remedy
    with pytest.raises(DataError, match="prediction has no name for the label value 2"):
        matched({1, 2}, {4}, {1: "liver"}, {4: "liver"})
    with pytest.raises(DataError, match="two labels 'Liver'"):
        matched({1, 2}, {4}, {1: "liver", 2: "Liver"}, {4: "liver"})


def test_an_image_is_no_label() -> None:
    with pytest.raises(DataError, match="300 label values"):
        matched({1}, set(range(1, 301)), {}, {})


def test_numbered_classes_stand_in_order_of_their_numbers() -> None:
    def one(case: str, *names: str) -> tuple:
        values = np.arange(len(names) + 1)
        return metrics.score_case(values, values, names, (1.0,), case=case)

    rows = metrics.complete([*one("a", "liver", "label 10"), *one("b", "label 2", "aorta")], ["a", "b"])
    assert [s.class_name for s in rows[:4]] == ["liver", "aorta", "label 2", "label 10"]


def test_cases_without_a_class_are_absent_and_not_forgotten() -> None:
    one = metrics.score_case(np.array([1, 1, 0]), np.array([1, 0, 0]), ("x",), (1.0,), case="a")
    two = metrics.score_case(np.array([1, 1, 0]), np.array([0, 0, 0]), ("y",), (1.0,), case="b")
    rows = metrics.complete([*one, *two], ["a", "b", "empty"])
    assert [(s.case, s.class_name, s.state) for s in rows] == [
        ("a", "x", "scored"),
        ("a", "y", "absent"),
        ("b", "x", "absent"),
        ("b", "y", "spurious"),
        ("empty", "x", "absent"),
        ("empty", "y", "absent"),
    ]
    assert all(math.isnan(v) for v in rows[1].metrics.values()) and rows[1].truth_ml == 0
    assert [d.n_absent for d in metrics.distributions(rows, ["dice"])] == [2, 2, 4]
