"""The pull of every loss: minus its gradient, by autograd, by differences of values, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segexplorer import losses
from segexplorer.core.errors import LossInputError
from segexplorer.functional.inputs import LossContext
from segexplorer.losses.pull import log_odds, normalised, pull, shares

SHAPE = (7, 8, 6)


def _case(classes: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn((1, classes, *SHAPE), generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (1, 1, *SHAPE), generator=generator)
    return logits, labels


@pytest.mark.parametrize("name", losses.names())
def test_every_pull_is_minus_the_change_of_the_value(name: str) -> None:
    logits, labels = _case()
    spec = losses.parse(name)
    if getattr(spec, "detach", False):  # penalties that are held fixed are no part of the gradient
        spec = spec.model_copy(update={"detach": False})
    loss = spec.build()
    found = pull(loss, logits, labels, LossContext(), terms=True)
    if found.terms:
        total = sum(found.terms.values())
        assert np.allclose(total, found.total, atol=1e-6 * np.abs(found.total).max())
    # a random direction: autograd knows nothing of this quotient of values
    direction = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    step = 1e-6
    ahead, behind = (
        float(loss(logits + s * direction, labels, LossContext()).detach()) for s in (step, -step)
    )
    expected = -(ahead - behind) / (2 * step)
    along = float((torch.from_numpy(found.total).double() * direction[0]).sum())
    assert along == pytest.approx(expected, rel=2e-3, abs=1e-6)


def test_before_softmax_dice_has_two_values_and_they_are_those_of_its_formula() -> None:
    logits, labels = _case(2)
    loss = losses.create("dice", include_background=False)
    found = pull(loss, logits, labels, LossContext(), space="probabilities").total[1]
    p = torch.softmax(logits, 1)[0, 1].numpy()
    y = labels[0, 0].numpy()
    # L = 1 - 2 I / S, so -dL/dp = 2 y / S - 2 I / S^2, with I = sum(p y), S = sum(p) + sum(y)
    i, s = (p * y).sum(), p.sum() + y.sum()
    by_hand = 2 * y / s - 2 * i / s**2
    assert np.allclose(found, by_hand, rtol=1e-3)
    assert len(np.unique(found.round(9))) == 2


def test_cross_entropy_before_softmax_is_one_over_p() -> None:
    logits, labels = _case(2)
    found = pull(losses.create("cross_entropy"), logits, labels, LossContext(), space="probabilities").total[
        1
    ]
    p = torch.softmax(logits, 1)[0, 1].numpy()
    y = labels[0, 0].numpy()
    assert np.allclose(found, np.where(y == 1, 1 / p, -1 / (1 - p)) / y.size, rtol=1e-4)


def test_a_confident_mistake_goes_dark_after_softmax_and_not_before() -> None:
    logits = torch.zeros(1, 2, *SHAPE, dtype=torch.float64)
    logits[:, 0] = 2
    labels = torch.zeros(1, 1, *SHAPE, dtype=torch.int64)
    labels[..., :2, :2, :2] = 1
    logits[0, 0, 0, 0, 0] = 30  # missed with all confidence
    dice = losses.create("dice", include_background=False)
    after, before = (
        pull(dice, logits, labels, LossContext(), space=s).total[1] for s in ("logits", "probabilities")
    )
    assert after[0, 0, 0] < 1e-9 * after[1, 1, 1]
    assert before[0, 0, 0] == pytest.approx(before[1, 1, 1])


def test_cross_entropy_pulls_by_the_soft_error() -> None:
    logits, labels = _case(4)
    found = pull(losses.create("cross_entropy"), logits, labels, LossContext()).total
    p = torch.softmax(logits, 1)[0].numpy()
    hot = np.eye(4)[labels[0, 0].numpy()].transpose(3, 0, 1, 2)
    assert np.allclose(found, (hot - p) / labels.numel(), atol=1e-8)


def test_ignored_voxels_have_no_pull() -> None:
    logits, labels = _case(2)
    labels[..., 0] = 255
    for name in ("dice_cross_entropy", "adaptive_region_tversky", "focal"):
        total = pull(losses.create(name), logits, labels, LossContext()).total
        assert not total[..., 0].any() and total[..., 1:].any()


def test_one_channel_is_two() -> None:
    logits, labels = _case(2)
    one = logits[:, 1:] - logits[:, :1]
    loss = losses.create("dice_cross_entropy")
    two = pull(loss, torch.cat([torch.zeros_like(one), one], 1), labels, LossContext()).total
    assert np.array_equal(pull(loss, one, labels, LossContext()).total, two)


def test_several_samples_are_refused() -> None:
    logits, labels = _case(2)
    with pytest.raises(LossInputError, match="one sample"):
        pull(losses.create("dice"), logits.repeat(2, 1, 1, 1, 1), labels.repeat(2, 1, 1, 1, 1))


def test_the_state_of_an_adaptive_loss_is_used_and_kept() -> None:
    logits, labels = _case(3)
    loss = losses.create("adaptive_tversky_cross_entropy")
    loss.state_buffers.set_values({"weights": tuple(2 * w for w in loss.numbers("weights"))})
    state = loss.numbers_by_name()
    doubled = pull(loss, logits, labels, LossContext()).total
    assert loss.numbers_by_name() == state and loss.training
    once = pull(losses.create("adaptive_tversky_cross_entropy"), logits, labels, LossContext()).total
    assert np.allclose(doubled, 2 * once, rtol=1e-5)


def test_shares_by_hand() -> None:
    true = np.zeros((9, 9, 9), bool)
    true[2:7, 2:7, 2:7] = True  # 125 voxels, of which 27 are more than one from the border
    field = np.ones(true.shape, np.float32)
    found = shares(field, true)
    beside = 6 * 25  # those that share a face with the cube
    assert found.inside == pytest.approx(27 / 729)
    assert found.boundary == pytest.approx((125 - 27 + beside) / 729)
    assert found.elsewhere == pytest.approx((729 - 125 - beside) / 729)
    assert shares(0 * field, true).sentence() == "no pull on this class"
    whole = shares(field, np.ones_like(true))
    assert whole.inside == 1  # the volume's edge is no border of the structure


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(0, 1000), st.floats(0.1, 40))
def test_log_odds_and_normalising(classes: int, seed: int, scale: float) -> None:
    logits = scale * np.random.default_rng(seed).normal(size=(classes, 3, 4, 5))
    wide = torch.from_numpy(logits)
    for c in range(classes):
        others = torch.cat([wide[:c], wide[c + 1 :]])
        expected = (wide[c] - torch.logsumexp(others, 0)).numpy()
        assert np.allclose(log_odds(logits, c), expected, rtol=1e-4, atol=1e-4)
    field = logits[0].astype(np.float32)
    assert np.abs(normalised(field)).mean() == pytest.approx(1, rel=1e-4)
    assert not normalised(0 * field).any()


def test_penalties_that_are_not_held_fixed_reward_surplus_voxels_in_boxes_of_misses() -> None:
    labels = torch.zeros(1, 1, 8, 8, 8, dtype=torch.int64)
    labels[..., 2:6, 2:6, 2:6] = 1
    # 13 of 64 voxels missed, half a voxel surplus: FP / FN is .035, below the .07 where the weight changes its sign
    logits = torch.stack(
        [torch.zeros_like(labels[:, 0]), torch.where(labels[:, 0] == 1, 1.4, -6.9)], 1
    ).double()
    outside = labels[0, 0].numpy() == 0

    def asked(**settings: object) -> np.ndarray:
        loss = losses.create("adaptive_region_tversky", box_size=8, **settings)
        return pull(loss, logits, labels, LossContext()).total[1][outside]

    assert (asked(a=0.3, b=0.4) < 0).all()  # held fixed: less, as the sentence about FP and FN says
    assert (asked(a=0.3, b=0.4, detach=False) > 0).all()  # the gradient asks for more, outside the truth
    assert (asked(a=0.4, b=0.4, detach=False) < 0).all()
