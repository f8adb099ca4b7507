"""Sums over voxels that share the softmax's way back, against autograd on plain operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segexplorer import losses
from segexplorer.functional.class_sums import SquaredErrors, class_sums
from segexplorer.functional.entropies import focal_sum, modified_cross_entropy, sum_of_others
from segexplorer.functional.inputs import LossContext, LossInputs


def case(classes: int = 4, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = scale * torch.randn((2, classes, 5, 6), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 1, 5, 6), generator=generator)
    labels[0, 0, 0, :3] = 9
    return logits.requires_grad_(), labels


def plain_focal(inputs: LossInputs, gamma: float, weights: Tensor) -> Tensor:
    logs = torch.log_softmax(inputs.logits, 1)
    voxels = inputs.truth * (1 - logs.exp()) ** gamma * -logs * weights.view(-1, 1, 1)
    return (voxels.sum(1) * inputs.keep).sum()


@pytest.mark.parametrize("gamma", [0.0, 0.2, 1.0, 2.0])
def test_focal_and_overlap_in_one_way_back(gamma: float) -> None:
    logits, labels = case()
    weights = torch.tensor([0.1, 0.4, 0.2, 0.9], dtype=torch.float64)
    found = LossInputs(logits, labels, ignore_index=9)
    value = focal_sum(found, gamma, weights) + 3 * (found.overlap().fp ** 2).sum()
    plain = LossInputs(logits, labels, ignore_index=9)
    probs = torch.softmax(logits, 1)
    fp = (probs * (1 - plain.truth) * plain.keep.unsqueeze(1)).flatten(2).sum(-1)
    expected = plain_focal(plain, gamma, weights) + 3 * (fp**2).sum()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    (slope,), (other,) = (
        torch.autograd.grad(value, logits, retain_graph=True),
        torch.autograd.grad(expected, logits),
    )
    torch.testing.assert_close(slope, other, rtol=1e-10, atol=1e-12)
    (again,) = torch.autograd.grad(value, logits)  # nothing was overwritten
    torch.testing.assert_close(again, slope, rtol=0, atol=0)


@pytest.mark.parametrize("order", ["sum first", "probabilities first"])
def test_the_order_in_which_terms_ask_does_not_matter(order: str) -> None:
    logits, labels = case()
    inputs = LossInputs(logits, labels, ignore_index=9)
    if order == "probabilities first":
        fn = inputs.overlap().fn.sum()
        value = modified_cross_entropy(inputs, 0.7) + focal_sum(inputs, 2, None) + fn
    else:
        value = focal_sum(inputs, 2, None) + modified_cross_entropy(inputs, 0.7) + inputs.overlap().fn.sum()
    logs = torch.log_softmax(logits, 1)
    g, p, kept = inputs.truth, logs.exp(), inputs.keep.unsqueeze(1)
    two_sided = -(0.7 * g * logs + 0.3 * (1 - g) * (1 - p).log())[:, 1:].mean(1, keepdim=True)
    expected = (two_sided * kept).sum() / inputs.kept + (g * (1 - p) ** 2 * -logs * kept).sum()
    expected = expected + (g * (1 - p) * kept).sum()
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    slopes = [torch.autograd.grad(v, logits)[0] for v in (value, expected)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-12)


def test_weights_of_voxels_and_memory_formats() -> None:
    logits, labels = case()
    given = torch.rand((2, 1, 5, 6), dtype=torch.float64)
    folded = logits.to(memory_format=torch.channels_last)
    loss = losses.create("cross_entropy", ignore_index=9)
    found = loss(folded, labels, LossContext(voxel_weights=given))
    expected = torch.nn.functional.cross_entropy(logits, labels[:, 0], ignore_index=9, reduction="none")
    kept = (labels[:, 0] != 9).sum()
    assert found.item() == pytest.approx(((expected * given[:, 0]).sum() / kept).item(), rel=1e-12)
    both = [torch.autograd.grad(v, logits)[0] for v in (found, (expected * given[:, 0]).sum() / kept)]
    torch.testing.assert_close(both[0], both[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_sums_of_others_lose_nothing_beside_a_large_one(classes: int) -> None:
    x = torch.rand(classes, 5).double() * 1e-20
    x[1] = 1.0
    expected = torch.stack([torch.cat([x[:c], x[c + 1 :]]).sum(0) for c in range(classes)])
    torch.testing.assert_close(sum_of_others(x), expected, rtol=1e-14, atol=0)


def test_squared_errors_inside_and_outside() -> None:
    logits, labels = case(3)
    inputs = LossInputs(logits, labels, ignore_index=9)
    probs = torch.softmax(logits, 1)
    inside, outside = class_sums(probs, inputs.labels, inputs.keep, SquaredErrors())
    square = (inputs.truth - probs) ** 2 * inputs.keep.unsqueeze(1)
    expected = [(square * g).flatten(2).sum(-1) for g in (inputs.truth, 1 - inputs.truth)]
    torch.testing.assert_close([inside, outside], expected, rtol=1e-12, atol=0)
    pairs = ((inside, outside), expected)
    slopes = [torch.autograd.grad((a * 2 - b).sum(), logits, retain_graph=True)[0] for a, b in pairs]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-14)


def test_binary_cross_entropy_of_mutual_information_is_that_of_each_class() -> None:
    logits, labels = case(3)
    only = {"cross_entropy_weight": 1.0, "radius": 1, "ignore_index": 9}
    p = torch.softmax(logits, 1)
    inputs = LossInputs(logits, labels, ignore_index=9)
    each = torch.nn.functional.binary_cross_entropy(p, inputs.truth, reduction="none").sum(1) * inputs.keep
    found = losses.create("region_mutual_information", cross_entropy="binary", **only)(logits, labels)
    assert found.item() == pytest.approx((each.sum() / inputs.kept).item(), rel=1e-10)


def test_presets_of_schedules() -> None:
    kervadec = losses.create("oshah2025_boundary_kervadec").spec.weighting
    assert [kervadec.at(e, 2) for e in (1, 51, 101)] == [(1.0, 0.01), (0.5, 0.51), (0.1, 1.01)]
    cascade = losses.create("oshah2025_focal_then_ws_dice").spec.weighting
    assert [cascade.at(e, 2) for e in (1, 100, 101, 500)] == [(1, 0), (1, 0), (0, 1), (0, 1)]
