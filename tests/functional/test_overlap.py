"""Overlap without one-hot volumes, against plain sums over one-hot volumes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segexplorer.functional.inputs import LossInputs
from segexplorer.functional.overlap import Overlap
from segexplorer.functional.regions import Boxes, partition

SHAPE = (5, 6, 7)


def overlap(probs: Tensor, target: Tensor, ignored: int | None = None, boxes: Boxes | None = None) -> Overlap:
    """Of (B, C, *spatial) probabilities, as logits; labels (B, *spatial), or a soft target."""
    given = target if target.is_floating_point() else target.unsqueeze(1)
    return LossInputs(probs.log(), given, ignore_index=ignored).overlap(boxes, squared=True)


@pytest.mark.parametrize("classes", [2, 4, 11])
@pytest.mark.parametrize("boxes", [None, partition(SHAPE, grid=2), partition(SHAPE, box_size=(5, 3, 7))])
@pytest.mark.parametrize("ignoring", [False, True])
def test_sums_are_those_of_one_hot_volumes(boxes: Boxes | None, ignoring: bool, classes: int) -> None:
    generator = torch.Generator().manual_seed(4)
    probs = torch.softmax(torch.randn((2, classes, *SHAPE), generator=generator, dtype=torch.float64), 1)
    labels = torch.randint(0, classes, (2, *SHAPE), generator=generator)
    if ignoring:
        labels[torch.rand((2, *SHAPE), generator=generator) < 0.3] = 77
    hot = torch.stack([labels == c for c in range(classes)], 1).double()
    used = (labels != 77).unsqueeze(1).double()

    def total(volume: torch.Tensor) -> torch.Tensor:
        volume = volume * used
        return volume.flatten(2).sum(-1) if boxes is None else boxes.sum(volume)

    counts = overlap(probs, labels, 77, boxes)
    for got, expected in (
        (counts.tp, probs * hot),
        (counts.fp, probs * (1 - hot)),
        (counts.fn, (1 - probs) * hot),
        (counts.truth, hot),
        (counts.predicted_square, probs**2),
        (counts.predicted, probs),
    ):
        assert got is not None and torch.allclose(got, total(expected), atol=1e-12)


@pytest.mark.parametrize("classes", [2, 12])
def test_small_errors_are_not_lost_beside_large_volumes(classes: int) -> None:
    """A million voxels right but for 1e-6 each: TP alone would hide the error in float32."""
    probs = torch.full((1, classes, 1_000_000), 1e-12)
    probs[:, 1], probs[:, 0] = 1e-6, 1 - 1e-6
    counts = overlap(probs, torch.zeros(1, 1_000_000, dtype=torch.long))
    assert counts.fp[0, 1].item() == pytest.approx(1, rel=1e-3)
    assert counts.fn[0, 0].item() == pytest.approx(1, rel=0.1)  # 1 - 1e-6 is itself rounded
    assert counts.fn[0, 1].item() == counts.fp[0, 0].item() == 0


def test_a_soft_target_equal_to_the_prediction_is_perfect() -> None:
    probs = torch.softmax(torch.randn(2, 3, 4, 5, dtype=torch.float64), 1)
    counts = overlap(probs, probs.clone())
    assert counts.fp.max() < 1e-14 and counts.fn.max() < 1e-14


def test_more_classes_than_a_byte_can_count() -> None:
    labels = torch.tensor([[0, 255, 256, 299]])
    hot = torch.nn.functional.one_hot(labels, 300).movedim(-1, 1).float()
    counts = LossInputs(100 * hot, labels.unsqueeze(1)).overlap()
    assert counts.tp.sum() == 4 and counts.fp.max() < 1e-30 and counts.fn.max() < 1e-30
