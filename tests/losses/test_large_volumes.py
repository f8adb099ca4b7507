"""Counts beyond 2^24 voxels, where a float32 counter stands still."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from segexplorer import losses
from segexplorer.functional.inputs import LossInputs

VOXELS = 2**24 + 4096


@pytest.fixture(scope="module")
def volume() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits (1, 2, N) and labels (1, 1, N) on one spatial axis; 3,000 voxels are foreground."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.zeros(1, 1, VOXELS, dtype=torch.int64)
    labels[..., ::5592] = 1
    logits = torch.randn(1, 2, VOXELS, generator=generator)
    logits[:, 1] += 2 * labels[:, 0]
    yield logits, labels


@pytest.mark.parametrize("ignored", [0, 1000])
def test_class_volumes_are_exact(volume: tuple[torch.Tensor, torch.Tensor], ignored: int) -> None:
    logits, labels = volume[0], volume[1].clone()
    labels[..., 1 : 2 * ignored : 2] = 255
    inputs = LossInputs(logits, labels, ignore_index=255)
    expected = np.bincount(labels.numpy().ravel(), minlength=256)[:2]
    assert expected[0] > 2**24 and inputs.exact_volumes[0].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("cross_entropy", {"class_weights": [0.3, 0.7]}),
        ("balanced_cross_entropy", {}),
        ("sensitivity_specificity", {}),
        ("ws_dice", {}),
        ("lovasz_softmax", {}),
        ("combo", {}),
        ("exponential_logarithmic", {}),
        ("generalised_dice", {}),
        ("dice", {}),
    ],
)
def test_float32_agrees_with_float64(
    volume: tuple[torch.Tensor, torch.Tensor], kind: str, settings: dict[str, list[float]]
) -> None:
    logits, labels = volume
    loss = losses.create(kind, **settings)
    with torch.no_grad():
        single, double = loss(logits, labels), loss(logits.double(), labels)
    assert single.item() == pytest.approx(double.item(), rel=2e-5)
