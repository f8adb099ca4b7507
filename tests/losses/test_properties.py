"""What must hold between losses, and for any input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from segexplorer import losses

Case = tuple[Tensor, Tensor]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Logits and labels of any small shape, on any scale."""
    rank, classes = draw(st.integers(1, 3)), draw(st.integers(2, 4))
    shape = draw(st.tuples(*[st.integers(2, 6)] * rank))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn((2, classes, *shape), generator=generator, dtype=torch.float64)
    scale = draw(st.sampled_from([0.1, 1.0, 10.0]))
    return logits * scale, torch.randint(0, classes, (2, 1, *shape), generator=generator)


def value(kind: str, case: Case, **parameters: object) -> float:
    return losses.create(kind, **parameters)(*case).item()


@settings(max_examples=20, deadline=None)
@given(cases())
def test_family_of_ratio_losses(case: Case) -> None:
    dice = value("dice", case)
    half = value("tversky", case, alpha=0.5, beta=0.5, eps=5e-6, include_background=True)
    assert half == pytest.approx(dice, abs=1e-12)
    for penalty in (0.3, 0.5):
        fixed = value("adaptive_region_tversky", case, grid=1, a=penalty, b=0, eps=1e-5)
        tversky = value("tversky", case, alpha=penalty, beta=penalty, include_background=True, absent="skip")
        assert fixed == pytest.approx(tversky, abs=1e-12)
    assert value("region_dice", case, grid=1, squared=False, eps=1e-5) == pytest.approx(
        value("dice", case, absent="skip"), abs=1e-12
    )


@settings(max_examples=20, deadline=None)
@given(cases())
def test_region_dice_of_single_voxels_is_a_voxel_loss(case: Case) -> None:
    logits, labels = case
    p = torch.softmax(logits, 1).gather(1, labels)
    expected = ((1 - p) ** 2 / (1 + p**2)).mean().item()
    assert value("region_dice", case, box_size=1, eps=1e-12) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(cases(), st.floats(0.1, 1), st.floats(0, 1))
def test_adaptive_penalties_add_up_and_follow_the_errors(case: Case, a: float, b: float) -> None:
    maps = losses.create("adaptive_region_tversky", grid=2, a=a, b=b).evaluate(*case).maps
    alpha, beta, fp, fn = (maps[name].values for name in ("alpha", "beta", "fp", "fn"))
    shown = ~alpha.isnan()
    assert torch.allclose((alpha + beta)[shown], torch.tensor(2 * a + b, dtype=torch.float64))
    assert ((alpha >= beta) == (fp >= fn))[shown & ((fp - fn).abs() > 1e-9)].all() or b < 1e-9
    assert shown.any() and (alpha[shown] >= a - 1e-12).all() and (alpha[shown] <= a + b + 1e-12).all()


@settings(max_examples=20, deadline=None)
@given(cases(), st.floats(0.1, 2), st.floats(0.1, 2))
def test_dearer_errors_never_lower_the_loss(case: Case, alpha: float, beta: float) -> None:
    base = value("tversky", case, alpha=alpha, beta=beta)
    assert value("tversky", case, alpha=alpha + 0.5, beta=beta) >= base - 1e-12
    assert value("tversky", case, alpha=alpha, beta=beta + 0.5) >= base - 1e-12


@settings(max_examples=15, deadline=None)
@given(cases(), st.sampled_from(["cross_entropy", "dice", "tversky"]))
def test_order_of_voxels_does_not_matter_to_global_losses(case: Case, kind: str) -> None:
    logits, labels = (x.flatten(2) for x in case)
    order = torch.randperm(logits.shape[2])
    assert value(kind, (logits[..., order], labels[..., order])) == pytest.approx(
        value(kind, case), abs=1e-12
    )


def test_detached_penalties_never_reward_false_positives() -> None:
    """A box of few false positives and many false negatives: through alpha, more false positives would pay."""
    logits = torch.full((1, 2, 16), -4.0, dtype=torch.float64)
    logits[:, 0] = 4
    labels = torch.zeros(1, 1, 16, dtype=torch.long)
    labels[..., :12] = 1
    gradients = {}
    for detach in (True, False):
        z = logits.clone().requires_grad_()
        losses.create("adaptive_region_tversky", grid=1, detach=detach)(z, labels).backward()
        assert z.grad is not None
        gradients[detach] = z.grad[0, 1, 12:]  # foreground logits of background voxels
    assert (gradients[True] > 0).all()
    assert (gradients[False] < gradients[True]).all()


def test_swapping_penalties_changes_an_uneven_case() -> None:
    logits, labels = torch.randn(1, 2, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.long)
    labels[..., :2] = 1
    assert (
        abs(value("tversky", (logits, labels)) - value("tversky", (logits, labels), alpha=0.7, beta=0.3))
        > 1e-3
    )


def test_absent_class_policies() -> None:
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    empty = torch.zeros(1, 1, 4, 4, dtype=torch.long)
    found = {}
    for absent in ("penalise", "skip", "fp"):
        loss = losses.create("dice", include_background=False, absent=absent)(logits, empty)
        (gradient,) = torch.autograd.grad(loss, logits)
        found[absent] = (loss.item(), gradient.abs().max().item())
    assert found["penalise"][0] == pytest.approx(1, abs=1e-4) and found["penalise"][1] < 1e-5
    assert found["skip"] == (0, 0)
    assert 0 < found["fp"][0] < 1 and found["fp"][1] > 1e-4


def test_region_reports_hold_plain_arrays_per_sample() -> None:
    logits, labels = torch.randn(2, 3, 4, 6), torch.zeros(2, 1, 4, 6, dtype=torch.long)
    labels[..., 3:] = 1
    output = losses.create("adaptive_region_tversky", grid=(2, 2)).evaluate(logits, labels)
    reports = losses.region_reports(output)
    assert len(reports) == 2 and reports[0].edges == ((0, 2, 4), (0, 3, 6))
    assert set(reports[0].values) == {"alpha", "beta", "fp", "fn", "loss", "share"}
    fp = reports[1].values["fp"]
    assert fp.dtype == np.float32 and fp.shape == (3, 4) and np.isnan(fp[2]).all()
    missing = (1 - torch.softmax(logits[1], 0)[0, :2, :3]).sum().item()
    assert fp[0, 0] == pytest.approx(0, abs=1e-6)  # the first box holds background only
    assert reports[1].values["fn"][0, 0] == pytest.approx(missing, abs=1e-5)
    assert np.nansum(reports[0].values["share"]) == pytest.approx(1)
    assert losses.region_reports(losses.create("dice").evaluate(logits, labels)) == []
