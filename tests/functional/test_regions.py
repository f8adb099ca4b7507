"""Boxes and sums over them, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from segexplorer.core.errors import LossInputError, SpecError
from segexplorer.functional.inputs import LossContext, LossInputs, regional_errors
from segexplorer.functional.regions import partition


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((7, 5), {"grid": 3}),
        ((8, 8, 8), {"box_size": 4}),
        ((9, 6, 7), {"box_size": (4, 6, 2)}),
        ((5,), {"grid": 9}),
    ],
)
def test_box_sums_and_paint_match_numpy(shape: tuple[int, ...], arguments: dict[str, int]) -> None:
    boxes = partition(shape, **arguments)
    volume = torch.randn(2, 3, *shape, dtype=torch.float64)
    expected = volume.numpy()
    for axis, edges in enumerate(boxes.edges, start=2):
        expected = np.add.reduceat(expected, edges[:-1], axis=axis)
    sums = boxes.sum(volume)
    assert np.allclose(sums.numpy(), expected.reshape(2, 3, -1))
    sizes = boxes.sum(torch.ones(1, 1, *shape, dtype=torch.float64))
    assert torch.allclose(boxes.sum(boxes.paint(sums)), sums * sizes)


def test_grid_edges_follow_array_split() -> None:
    lengths = [len(part) for part in np.array_split(np.arange(17), 5)]
    assert list(partition((17,), grid=5).sizes(0)) == lengths


def test_regional_errors_of_a_hand_made_row() -> None:
    """Four voxels in two boxes; confident: one false positive on the left, one false negative on the right."""
    logits = torch.tensor([[[0.0] * 4, [99.0, -99.0, 99.0, -99.0]]])
    fp, fn = regional_errors(logits, torch.tensor([[[0, 0, 1, 1]]]), partition((4,), box_size=2))
    assert fp[0, 1].tolist() == pytest.approx([1, 0]) and fn[0, 1].tolist() == pytest.approx([0, 1])
    assert fp[0, 0].tolist() == pytest.approx([0, 1]) and fn[0, 0].tolist() == pytest.approx([1, 0])


def test_overlap_passes_gradcheck() -> None:
    labels = torch.randint(0, 3, (2, 1, 4, 5))
    labels[0, 0, 0] = 9
    boxes = partition((4, 5), grid=2)

    def counts(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        o = LossInputs(logits, labels, ignore_index=9).overlap(boxes, squared=True)
        assert o.predicted_square is not None
        return o.tp, o.fp, o.fn, o.predicted_square

    assert torch.autograd.gradcheck(counts, torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True))


def test_bad_input_is_named() -> None:
    logits = torch.zeros(1, 2, 4)
    with pytest.raises(LossInputError, match="label 5"):
        LossInputs(logits, torch.full((1, 1, 4), 5))
    with pytest.raises(LossInputError, match="NaN"):
        LossInputs(logits * float("nan"), torch.zeros(1, 1, 4, dtype=torch.long))
    with pytest.raises(LossInputError, match="must be"):
        LossInputs(logits, torch.zeros(1, 4, dtype=torch.long))
    with pytest.raises(SpecError, match="axes"):
        partition((4, 4), grid=(2, 2, 2))


def test_labels_without_truth_are_left_out_in_training() -> None:
    inputs = LossInputs(torch.zeros(1, 2, 4), torch.tensor([[[0, 1, 255, 255]]]), LossContext())
    assert inputs.kept.item() == 2
