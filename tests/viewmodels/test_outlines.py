"""Lines of truth and prediction in a slice: each means one thing, and lies on the faces of voxels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from segexplorer.training.snapshots import WatchedSnapshot
from segexplorer.viewmodels.outlines import LINES, Line, Lines, Outlines

labels = npst.arrays(np.uint8, (2, 5, 6), elements=st.sampled_from([0, 1, 2]))


def outlines(truth: NDArray[np.uint8], prediction: NDArray[np.uint8], cls: int | None = None) -> Outlines:
    return Outlines(truth, prediction, cls, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def length(lines: dict[Line, Lines], *names: Line) -> float:
    return float(sum(np.abs(np.diff(lines[name], axis=1)).sum() for name in names if name in lines))


def test_an_error_lies_between_the_line_of_the_truth_and_that_of_the_prediction() -> None:
    truth, prediction = np.zeros((1, 6, 8), np.uint8), np.zeros((1, 6, 8), np.uint8)
    truth[0, 1:4, 2:5] = 1
    prediction[0, 1:4, 2:6] = 1  # one column too much
    lines = outlines(truth, prediction).lines(0, 0)
    assert lines["truth"].tolist() == [[[0.5, 4.5], [3.5, 4.5]]]
    assert [[0.5, 5.5], [3.5, 5.5]] in lines["prediction"].tolist()
    assert length(lines, "correct") == 3 + 3 + 3 and length(lines, "prediction") == 1 + 1 + 3


@settings(max_examples=30, deadline=None)
@given(labels, labels, st.sampled_from([None, 1, 2]))
def test_lines_add_up_to_the_borders_of_both(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], cls: int | None
) -> None:
    def borders(label: NDArray[np.uint8]) -> int:
        shown = label[1] if cls is None else label[1] == cls
        return int((shown[1:] != shown[:-1]).sum() + (shown[:, 1:] != shown[:, :-1]).sum())

    lines = outlines(truth, prediction, cls).lines(0, 1)
    assert length(lines, "correct", "truth") == borders(truth)
    same = outlines(truth, truth, cls).lines(0, 1)
    assert set(same) <= {"correct"} and length(same, "correct") == borders(truth)
    assert length(outlines(truth, np.zeros_like(truth), cls).lines(0, 1), "correct", "prediction") == 0


def test_ignored_voxels_have_no_line() -> None:
    truth, prediction = np.zeros((1, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)
    truth[0, 1:3, 1:3] = 255
    assert outlines(truth, prediction).lines(0, 0) == {}


def test_over_a_map_every_error_has_a_rim_also_at_the_edge() -> None:
    truth, prediction = np.zeros((1, 3, 3), np.uint8), np.zeros((1, 3, 3), np.uint8)
    prediction[0, 0, 0], truth[0, 2, 2] = 1, 1
    lines = outlines(truth, prediction).lines(0, 0, rims=True)
    assert set(lines) == {"extra", "missed"} and length(lines, "extra") == length(lines, "missed") == 4
    assert lines["extra"].min() == -0.5 and lines["missed"].max() == 2.5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_lines_are_in_millimetres_where_the_scanner_put_the_voxel(axis: int) -> None:
    """One voxel, stored in LPS with unequal sides: its outline is around its centre in every plane."""
    affine = np.array([[-2.0, 0, 0, 30], [0, -3.0, 0, 40], [0, 0, 5.0, -50], [0, 0, 0, 1]])
    truth = np.zeros((4, 5, 6), np.uint8)
    truth[1, 2, 3] = 1
    snapshot = WatchedSnapshot("c", "train", 1, 0, ("a",), affine, np.zeros_like(truth), truth)
    made = Outlines.of(snapshot, None)
    assert made is not None
    centre = (affine @ [1, 2, 3, 1])[:3][::-1]  # z, y, x
    at = made.index(axis, centre[axis])
    assert at is not None and made.index(axis, 1e6) is None
    (found,) = made.lines(axis, at).values()
    others = [a for a in range(3) if a != axis]
    assert found.mean((0, 1)) == pytest.approx(centre[others])
    assert np.ptp(found, (0, 1)) == pytest.approx(np.array([5.0, 3.0, 2.0])[others])
    assert Outlines.of(WatchedSnapshot("c", "train", 1, 0, ("a",), affine, truth), None) is None


@settings(max_examples=30, deadline=None)
@given(labels, labels, st.sampled_from([None, 1, 2]))
def test_faces_of_the_volume_are_the_lines_of_every_slice(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], cls: int | None
) -> None:
    drawn = outlines(truth, prediction, cls)
    faces = drawn.faces()
    for axis in range(3):
        others = [other for other in range(3) if other != axis]
        for index in range(truth.shape[axis]):
            lines = drawn.lines(axis, index)
            codes = np.concatenate([np.moveaxis(faces[other], axis, 0)[index].ravel() for other in others])
            for place, name in enumerate(LINES, start=1):
                assert (codes == place).sum() == length(lines, name)
