"""Overlap without one-hot volumes, against plain sums over one-hot volumes."""

from __future__ import annotations

import pytest
import torch

from segexplorer.functional.overlap import overlap_hard, overlap_soft
from segexplorer.functional.regions import Boxes, partition

SHAPE = (5, 6, 7)


@pytest.mark.parametrize("boxes", [None, partition(SHAPE, grid=2), partition(SHAPE, box_size=(5, 3, 7))])
@pytest.mark.parametrize("ignoring", [False, True])
def test_sums_are_those_of_one_hot_volumes(boxes: Boxes | None, ignoring: bool) -> None:
    generator = torch.Generator().manual_seed(4)
    probs = torch.softmax(torch.randn((2, 4, *SHAPE), generator=generator, dtype=torch.float64), 1)
    labels = torch.randint(0, 4, (2, *SHAPE), generator=generator)
    keep = torch.rand((2, *SHAPE), generator=generator) > 0.3 if ignoring else None
    hot = torch.stack([labels == c for c in range(4)], 1).double()
    used = torch.ones_like(probs) if keep is None else keep.unsqueeze(1).double()

    def total(volume: torch.Tensor) -> torch.Tensor:
        volume = volume * used
        return volume.flatten(2).sum(-1) if boxes is None else boxes.sum(volume)

    counts = overlap_hard(probs, labels, keep, boxes, squared=True)
    for got, expected in (
        (counts.tp, probs * hot),
        (counts.fp, probs * (1 - hot)),
        (counts.fn, (1 - probs) * hot),
        (counts.truth, hot),
        (counts.predicted_square, probs**2),
        (counts.predicted, probs),
    ):
        assert got is not None and torch.allclose(got, total(expected), atol=1e-12)


def test_small_errors_are_not_lost_beside_large_volumes() -> None:
    """A million voxels right but for 1e-6 each: TP alone would hide the error in float32."""
    probs = torch.empty(1, 2, 1_000_000)
    probs[:, 1], probs[:, 0] = 1e-6, 1 - 1e-6
    counts = overlap_hard(probs, torch.zeros(1, 1_000_000, dtype=torch.long), None, None, squared=False)
    assert counts.fp[0, 1].item() == pytest.approx(1, rel=1e-3)
    assert counts.fn[0, 0].item() == pytest.approx(1, rel=0.1)  # 1 - 1e-6 is itself rounded
    assert counts.fn[0, 1].item() == counts.fp[0, 0].item() == 0


def test_a_soft_target_equal_to_the_prediction_is_perfect() -> None:
    probs = torch.softmax(torch.randn(2, 3, 4, 5), 1)
    counts = overlap_soft(probs, probs.clone(), None, None, squared=False)
    assert not counts.fp.any() and not counts.fn.any()


def test_more_classes_than_a_byte_can_count() -> None:
    labels = torch.tensor([[0, 255, 256, 299]])
    probs = torch.nn.functional.one_hot(labels, 300).movedim(-1, 1).float()
    counts = overlap_hard(probs, labels, None, None, squared=False)
    assert counts.tp.sum() == 4 and not counts.fp.any() and not counts.fn.any()


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    probs = torch.rand(1, 2, 4, requires_grad=True)
    counts = overlap_hard(probs, torch.zeros(1, 4, dtype=torch.long), None, None, squared=True)
    assert counts.predicted_square is not None
    (first,) = torch.autograd.grad(counts.predicted_square.sum(), probs, create_graph=True)
    with pytest.raises(RuntimeError, match=r"once_differentiable|does not require grad"):
        first.sum().backward()
