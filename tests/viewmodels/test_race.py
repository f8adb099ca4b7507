"""What is coloured in a race, and what is said of it: worked out by hand, and for any lanes at all."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segexplorer.core.errors import DataError
from segexplorer.viewmodels.race import ONLY_A, ONLY_B, RaceCurves, compare_lanes, odd_one_out

TRUTH = np.array([1, 1, 1, 1, 0, 0, 0, 0, 255, 2], np.uint8).reshape(10, 1, 1)


def lanes(**rows: list[int]) -> dict[str, np.ndarray]:
    return {name: np.array(row, np.uint8).reshape(10, 1, 1) for name, row in rows.items()}


def compared(rows: dict[str, np.ndarray], class_index: int | None = 1):
    return compare_lanes(TRUTH, rows, class_index=class_index, class_name="lesion", step=7, voxel_ml=0.5)


A_ROW = [1, 1, 0, 0, 0, 0, 0, 0, 0, 2]
B_ROW = [0, 1, 1, 1, 1, 0, 0, 0, 1, 2]
NEAR_A = [1, 1, 0, 1, 0, 0, 0, 0, 0, 2]


def test_only_one_is_right_where_the_other_is_wrong() -> None:
    """B loses voxel 0 and 4 to A and wins 2 and 3; the ignored voxel 8 counts for nobody."""
    found = compared(lanes(A=A_ROW, B=B_ROW))
    assert found.map.ravel().tolist() == [ONLY_A, 0, ONLY_B, ONLY_B, ONLY_A, 0, 0, 0, 0, 0]
    assert (found.only_a_ml, found.only_b_ml, found.coloured_ml) == (1.0, 1.0, 2.0)
    assert not found.beyond
    assert "There is no control" in " ".join(found.sentences())


def test_what_the_control_changes_as_well_is_not_coloured() -> None:
    found = compared(lanes(A=A_ROW, B=B_ROW, control=NEAR_A))
    assert found.beyond
    assert found.map.ravel().tolist() == [ONLY_A, 0, ONLY_B, 0, ONLY_A, 0, 0, 0, 0, 0]
    assert (found.between("A", "B"), found.between("A", "control"), found.between("B", "control")) == (
        2,
        0.5,
        1.5,
    )
    text = " ".join(found.sentences())
    assert "only A in 1.00 ml, only B in 1.00 ml" in text
    assert (
        "A and its control differ in 0.50 ml, B and the control in 1.50 ml: by voxels, B is beyond the control"
        in text
    )
    assert "the 1.50 ml in which A and the control agree" in text
    assert "in one of 3 races" in text


def test_nothing_is_coloured_where_chance_changes_as_much() -> None:
    found = compared(lanes(A=A_ROW, B=NEAR_A, control=B_ROW))
    assert not found.beyond and not found.map.any() and found.coloured_ml == 0
    assert "not beyond the control, so nothing is coloured" in " ".join(found.sentences())


def test_lanes_that_are_equal_say_so() -> None:
    found = compared(lanes(A=A_ROW, B=A_ROW, control=NEAR_A))
    assert found.sentences() == ["Step 7, lesion: A and B are right in the same voxels."]
    assert not found.map.any() and not found.beyond


def test_all_classes_and_one_class_differ() -> None:
    """Voxel 9 belongs to class 2: of class 1 against the rest, class 0 there is as right as class 2."""
    rows = lanes(A=A_ROW, B=[*A_ROW[:9], 0])
    assert compared(rows).map.ravel()[9] == 0
    assert compared(rows, None).map.ravel()[9] == ONLY_A


def test_another_grid_is_refused() -> None:
    with pytest.raises(DataError, match="not on one grid"):
        compare_lanes(
            TRUTH,
            {"A": TRUTH[:-1], "B": TRUTH[:-1]},
            class_index=1,
            class_name="lesion",
            step=1,
            voxel_ml=1,
        )


def test_no_sentence_names_a_winner() -> None:
    rows = [A_ROW, B_ROW, NEAR_A]
    for a, b, control in itertools.permutations(rows):
        text = " ".join(compared(lanes(A=a, B=b, control=control)).sentences()).lower()
        text += RaceCurves(
            "lesion", {"A": ([1], [0.1]), "B": ([1], [0.9]), "control": ([1], [0.2])}
        ).sentence(1)
        assert not any(word in text for word in ("better", "worse", "wins", "winner", "beats"))


@given(arrays(np.uint8, (4, 30), elements=st.integers(0, 2)), st.integers(1, 3))
def test_in_any_race_at_most_one_lane_is_the_odd_one_out(rows: np.ndarray, class_index: int) -> None:
    """Whichever of the lanes is called B; so B is it in one of as many races as there are lanes, by symmetry."""
    truth, lane_rows = rows[0].reshape(30, 1, 1), [row.reshape(30, 1, 1) for row in rows[1:]]
    beyond: Counter[int] = Counter()
    for order in itertools.permutations(range(3)):
        named = dict(zip(("A", "B", "control"), (lane_rows[n] for n in order), strict=True))
        found = compare_lanes(truth, named, class_index=class_index, class_name="c", step=1, voxel_ml=1.0)
        beyond[order[1]] += found.beyond
        disagree = (named["A"] == class_index) != (named["B"] == class_index)
        assert not (found.map.astype(bool) & ~disagree).any()
        assert found.between("A", "B") == found.only_a_ml + found.only_b_ml
        if found.beyond:
            assert found.map.any()
            assert min(found.between("A", "B"), found.between("B", "control")) > found.between("A", "control")
        else:
            assert not found.map.any()
    assert sum(count > 0 for count in beyond.values()) <= 1


def test_a_tie_has_no_odd_one_out() -> None:
    pairs = [frozenset(p) for p in itertools.combinations(["A", "B", "control"], 2)]
    assert odd_one_out(dict.fromkeys(pairs, 1.0)) == ""
    assert odd_one_out({pairs[0]: 2.0, pairs[1]: 0.5, pairs[2]: 2.0}) == "B"


def test_curves_say_what_the_lanes_have_at_a_step() -> None:
    curves = RaceCurves(
        "lesion", {"A": ([5, 10], [0.1, 0.4]), "B": ([5, 10], [0.1, 0.6]), "control": ([5, 10], [0.1, 0.45])}
    )
    assert curves.sentence(10) == (
        "Dice of lesion at step 10: A 0.400, B 0.600, control 0.450. By Dice, B is beyond the control."
    )
    assert "not beyond" in curves.sentence(5)
    assert curves.sentence(7) == ""
