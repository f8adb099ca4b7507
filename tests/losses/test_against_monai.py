"""Values and gradients against MONAI's losses, whose definitions agree with ours where these tests say so."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, TverskyLoss

from segexplorer import losses

SMOOTH = {"smooth_nr": 1e-5, "smooth_dr": 1e-5, "softmax": True, "to_onehot_y": True}
PAIRS: list[tuple[str, dict[str, Any], torch.nn.Module]] = [
    ("dice", {}, DiceLoss(**SMOOTH)),
    ("dice", {"squared": True}, DiceLoss(squared_pred=True, **SMOOTH)),
    (
        "dice",
        {"batch": True, "include_background": False},
        DiceLoss(batch=True, include_background=False, **SMOOTH),
    ),
    ("tversky", {}, TverskyLoss(alpha=0.3, beta=0.7, include_background=False, **SMOOTH)),
    (
        "tversky",
        {"alpha": 0.7, "beta": 0.3, "include_background": True},
        TverskyLoss(alpha=0.7, beta=0.3, **SMOOTH),
    ),
    ("dice_cross_entropy", {"cross_entropy_weight": 0.5}, DiceCELoss(lambda_ce=0.5, **SMOOTH)),
]


@pytest.mark.parametrize(("kind", "parameters", "reference"), PAIRS)
@pytest.mark.parametrize("shape", [(6, 7), (5, 4, 6)])
def test_value_and_gradient_are_monai_s(
    kind: str, parameters: dict[str, Any], reference: torch.nn.Module, shape: tuple[int, ...]
) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn((2, 4, *shape), generator=generator, dtype=torch.float64).requires_grad_()
    labels = torch.randint(0, 3, (2, 1, *shape), generator=generator)  # class 3 is absent
    ours, theirs = losses.create(kind, **parameters)(logits, labels), reference(logits, labels)
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)  # MONAI makes one-hot volumes in float32
    (mine,) = torch.autograd.grad(ours, logits)
    (other,) = torch.autograd.grad(theirs, logits)
    assert torch.allclose(mine, other, atol=1e-8)


def test_cross_entropy_is_torch_s_with_weights_and_smoothing() -> None:
    logits = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 1, 5, 6))
    for weights, smoothing in (((1.0, 2.0, 3.0), 0.0), (None, 0.2), ((1.0, 2.0, 3.0), 0.2)):
        ours = losses.create("cross_entropy", class_weights=weights, label_smoothing=smoothing)
        theirs = torch.nn.functional.cross_entropy(
            logits,
            labels[:, 0],
            weight=None if weights is None else torch.tensor(weights, dtype=torch.float64),
            label_smoothing=smoothing,
        )
        assert ours(logits, labels).item() == pytest.approx(theirs.item(), abs=1e-12)
