"""Overlapping classes: every loss against the loss of each class alone, and some against numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from segexplorer import losses
from segexplorer.core.errors import LossInputError, SpecError
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.base import LossSpec

SHAPE = (5, 6, 4)
KINDS = [name for name in losses.names() if losses.spec(name).multi_label]


def _case(classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, classes, *SHAPE, generator=generator, dtype=torch.float64) * 2
    target = torch.rand(2, classes, *SHAPE, generator=generator) < 0.4
    target[:, 1] &= target[:, 0]  # a class within another
    return logits.requires_grad_(), target


# ---- references in numpy, of p = 1 / (1 + exp(-s)) and g in (B, C, N)


def _bce(p: np.ndarray, g: np.ndarray) -> float:
    return float(-(g * np.log(p) + (1 - g) * np.log1p(-p)).mean())


def _dice(p: np.ndarray, g: np.ndarray) -> float:
    tp, eps = (p * g).sum(-1), 1e-5
    return float((1 - (2 * tp + eps) / (p.sum(-1) + g.sum(-1) + eps)).mean())


def _tversky(p: np.ndarray, g: np.ndarray) -> float:
    tp, fp, fn, eps = (p * g).sum(-1), (p * (1 - g)).sum(-1), ((1 - p) * g).sum(-1), 1e-5
    return float((1 - (tp + eps) / (tp + 0.3 * fp + 0.7 * fn + eps)).mean())


def _focal(p: np.ndarray, g: np.ndarray) -> float:
    true = np.where(g == 1, p, 1 - p)
    return float((-((1 - true) ** 2) * np.log(true)).mean())


@pytest.mark.parametrize(
    ("kind", "parameters", "reference"),
    [
        ("cross_entropy", {}, _bce),
        ("focal", {"gamma": 2.0}, _focal),
        ("dice", {"eps": 1e-5}, _dice),
        ("tversky", {"alpha": 0.3, "beta": 0.7, "eps": 1e-5}, _tversky),
        ("dice_cross_entropy", {}, lambda p, g: _dice(p, g) + _bce(p, g)),
    ],
)
def test_values_are_those_of_numpy(
    kind: str, parameters: dict[str, float], reference: Callable[[np.ndarray, np.ndarray], float]
) -> None:
    logits, target = _case()
    value = losses.multi_label(kind, **parameters)(logits, target)
    p = 1 / (1 + np.exp(-logits.detach().numpy()))
    expected = reference(p.reshape(2, 3, -1), target.numpy().reshape(2, 3, -1).astype(float))
    assert value.item() == pytest.approx(expected, rel=1e-6)


# ---- every loss


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_mean_of_the_classes_alone_in_softmax(kind: str) -> None:
    """Each class as two softmax channels (0, s), whose loss has references of its own."""
    logits, target = _case()
    loss = losses.multi_label(kind)
    output = loss.evaluate(logits, target)
    single = losses.create(loss.spec)
    values = [
        single(
            torch.cat([torch.zeros_like(logits[:, c : c + 1]), logits[:, c : c + 1]], 1),
            target[:, c : c + 1].long(),
        )
        for c in range(3)
    ]
    assert output.value.item() == pytest.approx(torch.stack(values).mean().item(), rel=1e-6, abs=1e-9)
    total = sum(float(v) * float(w) for v, w in output.terms.values())
    assert total == pytest.approx(output.value.item(), rel=1e-4, abs=1e-6)
    (gradient,) = torch.autograd.grad(output.value, logits)
    assert torch.isfinite(gradient).all() and gradient.abs().max() > 0
    for values_of in output.maps.values():
        assert values_of.values.shape[:2] == (2, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_slopes_and_classes_do_not_disturb_each_other(kind: str) -> None:
    logits, target = _case()
    loss = losses.multi_label(kind)
    (gradient,) = torch.autograd.grad(loss(logits, target), logits)
    generator = torch.Generator().manual_seed(1)
    direction = torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    direction[:, 1:] = 0  # along the first class alone
    step = 1e-6
    with torch.no_grad():
        slope = (loss(logits + step * direction, target) - loss(logits - step * direction, target)) / (
            2 * step
        )
        other = logits.clone()
        other[:, 1:] = 3.0
    if not _detached(loss.spec):
        assert slope.item() == pytest.approx((gradient * direction).sum().item(), rel=2e-3, abs=1e-7)
    again = other.requires_grad_()
    (changed,) = torch.autograd.grad(loss(again, target), again)
    assert torch.allclose(changed[:, 0], gradient[:, 0], rtol=1e-6, atol=1e-12)


def _detached(spec: LossSpec) -> bool:
    """Whether some numbers count as constants or change by jumps, so that the gradient is not the slope."""
    constants = {"detach", "penalty_rule", "max_alpha", "topology"} & set(type(spec).model_fields)
    return bool(constants) or spec.kind in (  # type: ignore[attr-defined]
        "weighted_fusion",
        "dice_top_k",
        "top_k",
        "hausdorff",
        "lovasz_softmax",
    )


@pytest.mark.parametrize("kind", ["dice_cross_entropy", "adaptive_region_tversky", "unified_focal"])
def test_ignored_voxels_are_ignored_for_each_class_alone(kind: str) -> None:
    logits, target = _case()
    labels = target.long()
    labels[:, 1, :2] = 255
    loss = losses.multi_label(kind, ignore_index=255)
    (gradient,) = torch.autograd.grad(loss(logits, labels), logits)
    assert (gradient[:, 1, :2] == 0).all() and (gradient[:, 0, :2] != 0).any()
    by_context = losses.multi_label(kind)(logits, labels, LossContext(ignore_index=255))
    assert by_context.item() == pytest.approx(loss(logits, labels).item())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float32, torch.float16])
def test_targets_of_every_type_are_alike(dtype: torch.dtype) -> None:
    logits, target = _case()
    loss = losses.multi_label("tversky")
    assert loss(logits, target.to(dtype)).item() == pytest.approx(loss(logits, target).item())


def test_half_precision_is_computed_in_single() -> None:
    logits, target = _case()
    loss = losses.multi_label("dice_cross_entropy")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(logits.detach().bfloat16(), target)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(loss(logits.detach().bfloat16().float(), target).item())


def test_terms_are_weighed_and_learned_over_all_classes() -> None:
    spec = {
        "kind": "weighted_sum",
        "weighting": "uncertainty",
        "terms": [{"loss": "dice"}, {"loss": "focal"}],
    }
    loss = losses.multi_label(losses.parse(spec))
    assert loss.spec.terms[0].loss.include_background is False  # type: ignore[attr-defined]
    logits, target = _case()
    loss(logits, target).backward()
    assert all(p.grad is not None and (p.grad != 0).all() for p in loss.parameters())


def test_what_makes_no_sense_is_refused() -> None:
    logits, target = _case()
    loss = losses.multi_label("dice")
    with pytest.raises(LossInputError, match="one channel per class"):
        loss(logits, target[:, :1].long())
    with pytest.raises(LossInputError, match="label 2"):
        loss(logits, target.long() * 2)
    with pytest.raises(SpecError, match="adapts to each class"):
        losses.multi_label("adaptive_t_vmf_dice")
    assert [name for name in losses.names() if name not in KINDS] == ["adaptive_t_vmf_dice"]
