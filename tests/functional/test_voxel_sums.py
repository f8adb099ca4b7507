"""Sums over voxels in one pass over the logits and one back, against autograd on plain operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from segexplorer import losses
from segexplorer.functional import sweep as sweeping
from segexplorer.functional.class_sums import (
    Confusions,
    Counts,
    ErrorPowers,
    SquaredErrors,
    Squares,
    Volumes,
)
from segexplorer.functional.entropies import AllLogs, FocalCosts, LogPowers, TwoSidedCosts, sum_of_others
from segexplorer.functional.inputs import LossContext, LossInputs
from segexplorer.functional.regions import partition
from segexplorer.functional.sweep import Sums, VoxelFactor, plain_sums

SHAPE = (3, 5, 6)


def case(classes: int = 4, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    logits = scale * torch.randn((2, classes, *SHAPE), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, max(2, classes), (2, 1, *SHAPE), generator=generator)
    labels[0, 0, 0, 0, :3] = 9
    return logits.requires_grad_(), labels


def declared() -> list[Sums]:
    """Every kind of sums, in its variants."""
    weights = VoxelFactor(
        torch.rand((2, *SHAPE), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    )
    boxes = partition(SHAPE, box_size=(2, 3, 4))
    return [
        Volumes(),
        Counts(),
        Counts(boxes),
        Squares(),
        Squares(boxes),
        SquaredErrors(),
        ErrorPowers(1.5),
        Confusions(),
        *(
            FocalCosts(gamma, only, factor)
            for gamma in (0.0, 0.2, 1.0, 2.0, 2.5)
            for only in (False, True)
            for factor in (None, weights)
        ),
        LogPowers(0.3),
        LogPowers(2.0),
        AllLogs(),
        AllLogs(weights),
        TwoSidedCosts(0.7),
        TwoSidedCosts(0.5, first=0),
    ]


def weighed(sums: Sequence[Sequence[Tensor]]) -> Tensor:
    """One number of which every sum is a part, with a slope of its own in each."""
    parts = [s.double().flatten() for found in sums for s in found]
    return (
        sum((p.square() * torch.linspace(0.5, 2, len(p))).sum() / 100 + p.mean() for p in parts)
        + parts[0].sum() * 0
    )


def both_ways(logits: Tensor, labels: Tensor, wanted: list[Sums]) -> tuple[list[Any], list[Any]]:
    """The sums by the sweep, and by plain operations."""
    inputs = LossInputs(logits, labels, ignore_index=9)
    inputs.expect(*wanted)
    swept = [inputs.sums(one) for one in wanted]
    plain = LossInputs(logits, labels, ignore_index=9)
    return swept, plain_sums(plain.logits, plain.truth, plain.keep, wanted, hard=True)


@pytest.mark.parametrize("one", declared(), ids=str)
@pytest.mark.parametrize("scale", [1.0, 40.0])
@pytest.mark.parametrize("classes", [1, 2, 4, 10])
def test_a_sweep_gives_what_plain_operations_give(
    one: Sums, scale: float, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sweeping, "CACHED", 12 * classes
    )  # many slabs, of which the last of a plane is smaller
    logits, labels = case(classes, scale)
    swept, plain = both_ways(logits, labels, [one])
    torch.testing.assert_close(swept[0], plain[0], rtol=1e-9, atol=1e-12)
    if not isinstance(one, Volumes):
        slopes = [torch.autograd.grad(weighed(sums), logits, retain_graph=True)[0] for sums in (swept, plain)]
        torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-8, atol=1e-10)
        assert not slopes[0][0, :, 0, 0, :3].any()


def test_all_sums_of_one_sweep_share_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "CACHED", 64)
    logits, labels = case()
    swept, plain = both_ways(logits, labels, declared())
    slopes = [torch.autograd.grad(weighed(sums), logits, retain_graph=True)[0] for sums in (swept, plain)]
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-9, atol=1e-10)
    (again,) = torch.autograd.grad(weighed(swept), logits)  # nothing was overwritten
    torch.testing.assert_close(again, slopes[0], rtol=0, atol=0)


@pytest.mark.parametrize("classes", [1, 3])
def test_second_derivatives_take_the_plain_way(classes: int) -> None:
    logits, labels = case(classes)
    small = logits.detach()[:1, :, :1, :2, :3].clone().requires_grad_()

    def value(z: Tensor) -> Tensor:
        inputs = LossInputs(z, labels[1:, :, :1, :2, :3])
        return weighed(
            [inputs.sums(one) for one in (Counts(), Squares(), FocalCosts(2.0), TwoSidedCosts(0.7))]
        )

    assert torch.autograd.gradgradcheck(value, small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gradients_have_the_type_of_the_logits_and_the_digits_of_float32(dtype: torch.dtype) -> None:
    logits, labels = case(4, 3.0)
    half = logits.detach().to(dtype).requires_grad_()
    loss = losses.create("dice_cross_entropy", ignore_index=9)
    (found,) = torch.autograd.grad(loss(half, labels), half)
    exact = half.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(loss(exact, labels), exact)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("ignored", [-100, 9, 255, 1000])
def test_any_label_may_be_the_ignored_one(ignored: int) -> None:
    logits, labels = case()
    other = torch.where(labels == 9, ignored, labels)
    found, expected = (
        losses.create("dice_cross_entropy", ignore_index=i)(logits, y)
        for i, y in ((ignored, other), (9, labels))
    )
    assert found.item() == expected.item()


def test_logits_that_change_before_the_way_back_are_refused() -> None:
    logits, labels = case()
    given = logits * 1
    value = losses.create("dice", ignore_index=9)(given, labels)
    given.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_weights_of_voxels_and_memory_formats() -> None:
    logits, labels = case()
    given = torch.rand((2, 1, *SHAPE), dtype=torch.float64)
    folded = logits.to(memory_format=torch.channels_last_3d)
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
    for product in (False, True):
        torch.testing.assert_close(sum_of_others(x, product=product), expected, rtol=1e-14, atol=0)


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


def test_logits_of_any_strides() -> None:
    logits, labels = case()
    loss = losses.create("dice_cross_entropy", ignore_index=9)
    (expected,) = torch.autograd.grad(loss(logits, labels), logits)
    for order in ((0, 1, 4, 2, 3), (4, 2, 0, 1, 3), (2, 3, 4, 0, 1)):
        back = sorted(range(5), key=order.__getitem__)
        moved = logits.detach().permute(order).contiguous().permute(back).requires_grad_()
        (found,) = torch.autograd.grad(loss(moved, labels), moved)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("classes", [2, 4, 12])
@pytest.mark.parametrize("scale", [1.0, 6.0, 12.0, 40.0])
def test_float32_keeps_its_digits_beside_ignored_voxels(classes: int, scale: float) -> None:
    logits, labels = case(classes, scale)
    exact = logits.detach().float().double().repeat(1, 1, 9, 9, 9)
    labels = labels.repeat(1, 1, 9, 9, 9)
    wanted: list[Sums] = [Counts(), SquaredErrors(), FocalCosts(), FocalCosts(2.0), LogPowers(0.3), AllLogs()]
    for one in [*wanted, TwoSidedCosts(0.7)]:
        both = (LossInputs(z, labels, ignore_index=9).sums(one) for z in (exact.float(), exact))
        for found, expected in zip(*both, strict=True):
            torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-7)
