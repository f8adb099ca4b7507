"""Boundary, cosine and centre-line losses: vectors, and the special cases that tie them together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from segexplorer import losses
from segexplorer.functional.inputs import LossContext

SHARED = Path(__file__).resolve().parents[3] / "shared" / "loss_vectors.json"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "distance_penalised_ce": ("distance_cross_entropy", {}),
    "boundary": ("boundary", {}),
    "boundary_all_classes": ("boundary", {"include_background": True}),
    "gwdl": ("generalised_wasserstein_dice", {}),
    "lovasz_softmax": ("lovasz_softmax", {}),
    "lovasz_softmax_per_image": ("lovasz_softmax", {"per_image": True}),
    "tvmf_k32": ("t_vmf_dice", {}),
    "tvmf_k0": ("t_vmf_dice", {"kappa": 0.0}),
    "hausdorff_dt": ("hausdorff", {}),
    "boundary_dou": ("boundary_difference_over_union", {}),
    "cldice_joint": ("cl_dice", {"joint": True}),
    "cldice_per_class": ("cl_dice", {}),
    "dice_cldice": ("dice_cl_dice", {"joint": True}),
}


def _case() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn((2, 3, 6, 7, 5), generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, 3, (2, 1, 6, 7, 5), generator=generator)


@pytest.mark.parametrize("name", KINDS)
def test_value_and_gradient_match(name: str) -> None:
    if not SHARED.is_file():
        pytest.skip("no ../shared/loss_vectors.json here")
    case = json.loads(SHARED.read_text())["cases"]["two_class"]
    logits = torch.tensor(case["logits"], dtype=torch.float64).reshape(case["shape"]).requires_grad_()
    labels = torch.tensor(case["labels"]).reshape(2, 1, 4, 4, 4)
    kind, parameters = KINDS[name]
    value = losses.create(kind, **parameters)(logits, labels)
    value.backward()
    expected = case["results"][name]
    assert value.item() == pytest.approx(expected["value"], abs=1e-10)
    assert logits.grad is not None
    error = logits.grad.flatten() - torch.tensor(expected["grad"], dtype=torch.float64)
    assert error.abs().max().item() <= max(1e-10, 10 * expected["fd_disagreement"])


def test_special_cases() -> None:
    logits, labels = _case()
    plain = losses.create("cross_entropy")(logits, labels)
    assert losses.create("distance_cross_entropy", strength=0.0)(logits, labels).item() == pytest.approx(
        plain.item()
    )
    assert plain <= losses.create("distance_cross_entropy")(logits, labels) <= 2 * plain
    squared = losses.create("dice", squared=True, batch=True)(logits, labels).item()
    kind = "boundary_difference_over_union"
    assert losses.create(kind, min_alpha=-1.0, max_alpha=-1.0)(logits, labels).item() == pytest.approx(
        squared, abs=1e-6
    )


def test_distances_are_in_mm() -> None:
    """Twice the spacing doubles signed distances and quadruples squared ones."""
    logits, labels = _case()
    for kind, factor in (("boundary", 2.0), ("hausdorff", 4.0)):
        loss = losses.create(kind)
        one, two = (loss(logits, labels, LossContext(spacing=torch.full((2, 3), s))) for s in (1.0, 2.0))
        assert two.item() == pytest.approx(factor * one.item())
