"""Counts and sums beyond 2^24 voxels, where a float32 counter stays as it is: 16777216 + 1 rounds to 16777216."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from segexplorer import losses
from segexplorer.functional.inputs import LossContext, LossInputs, regional_errors
from segexplorer.functional.regions import partition
from segexplorer.metrics import Confusion

VOXELS = 2**24 + 4096
RARE = 5592
"""Every so many voxels one belongs to the foreground: 3001 of them, beside more than 2^24 of background."""

CHEAPER: dict[str, dict[str, Any]] = {
    "hausdorff": {"one_sided": True},
    "cl_dice": {"iterations": 1},
    "dice_cl_dice": {"iterations": 1},
    "region_dice": {"grid": 16},
    "adaptive_region_tversky": {"grid": 16},
}
"""Settings that leave out work which counts nothing: distance transforms, erosions, millions of boxes."""

CASES = [
    *((kind, CHEAPER.get(kind, {})) for kind in losses.names()),
    ("cross_entropy", {"class_weights": (0.3, 0.7)}),
    ("balanced_cross_entropy", {"scope": "sample"}),
    ("sensitivity_specificity", {"include_background": True, "r": 0.5}),
    ("ws_dice", {"include_background": False}),
    ("generalised_dice", {"weighting": "simple"}),
]


@pytest.fixture(scope="module")
def volume() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits (1, 2, N) and labels (1, 1, N) on one spatial axis."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(1, 1, VOXELS, dtype=torch.int64)
    labels[..., ::RARE] = 1
    logits = torch.randn(1, 2, VOXELS, generator=generator)
    logits[:, 1] += 2 * labels[:, 0]
    yield logits, labels


@pytest.fixture(scope="module")
def both(volume: tuple[torch.Tensor, torch.Tensor]) -> Iterator[tuple[LossInputs, LossInputs]]:
    """The same in float32 and in float64; what several losses need of them is computed once."""
    logits, labels = volume
    places = torch.arange(VOXELS).view(1, 1, -1).expand(1, 2, -1)
    distances = torch.minimum(places % RARE, RARE - places % RARE).float() / 1000
    names = ("signed distances", "unsigned distances", "nearness")
    context = LossContext(distance_maps=dict.fromkeys(names, distances))
    yield LossInputs(logits, labels, context), LossInputs(logits.double(), labels, context)


@pytest.mark.parametrize("ignored", [0, 1000])
def test_class_volumes_are_exact(volume: tuple[torch.Tensor, torch.Tensor], ignored: int) -> None:
    logits, labels = volume[0], volume[1].clone()
    labels[..., 1 : 2 * ignored : 2] = 255
    inputs = LossInputs(logits, labels, ignore_index=255)
    expected = np.bincount(labels.numpy().ravel(), minlength=256)[:2]
    assert expected[0] > 2**24 and inputs.exact_volumes[0].tolist() == expected.tolist()
    assert inputs.kept.item() == pytest.approx(VOXELS - ignored, abs=1)


def test_every_loss_is_here() -> None:
    assert {kind for kind, _ in CASES} == set(losses.names())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"), CASES, ids=[kind if not s else f"{kind} {s}" for kind, s in CASES]
)
def test_float32_agrees_with_float64(
    both: tuple[LossInputs, LossInputs], kind: str, settings: dict[str, Any]
) -> None:
    """To some ten units in the last place; a stopped counter would be off by a per mille or much more."""
    loss = losses.create(kind, **settings)
    with torch.no_grad():
        single, double = (loss.spec.compute(inputs, loss).value for inputs in both)
    assert single.dtype == torch.float32 and double.dtype == torch.float64
    assert single.item() == pytest.approx(double.item(), rel=1e-5, abs=1e-9)


def test_voxels_outside_a_common_class_are_counted_exactly(volume: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Beside 2^24 voxels of background there are 3001: two rounded volumes would differ by an even number."""
    from segexplorer.losses.weighted_overlap import SensitivitySpecificity, outside_volumes

    outside = outside_volumes(LossInputs(*volume), SensitivitySpecificity())
    assert outside[0].tolist() == [(VOXELS - 1) // RARE + 1, pytest.approx(VOXELS - 3001, abs=1)]


def test_maps_and_metrics_count_on(volume: tuple[torch.Tensor, torch.Tensor]) -> None:
    """One box around everything; and all background, which the confusion matrix counts in integers."""
    logits, labels = volume
    fp, fn = regional_errors(logits, labels, partition((VOXELS,), grid=1))
    probs = torch.softmax(logits, 1)[0].double()
    foreground = labels[0, 0] == 1
    assert fp[0, 1].item() == pytest.approx(probs[1][~foreground].sum().item(), rel=1e-5)
    assert fn[0, 0].item() == pytest.approx(probs[1][~foreground].sum().item(), rel=1e-5)
    truth = foreground.numpy().astype(np.uint8)
    confusion = Confusion(2)
    confusion.add(np.zeros_like(truth), truth)
    confusion.add(np.zeros_like(truth), np.zeros_like(truth))
    assert confusion.matrix.tolist() == [[2 * VOXELS - 3001, 0], [3001, 0]]
