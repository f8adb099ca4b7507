"""Deep supervision in training: against MONAI's, in the learner, and the losses that refuse it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch.nn import functional

from segexplorer import losses
from segexplorer.core.errors import SpecError
from segexplorer.core.events import RunFinished, StepDone, ValidationDone
from segexplorer.core.spec import replace_values
from segexplorer.functional.inputs import LossContext
from segexplorer.networks.base import level_weights
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.deep_supervision import supervise
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.run import Run


def batch(shape: tuple[int, ...] = (8, 12, 16)) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    levels = [
        torch.randn(2, 3, *(n // s for n in shape), generator=generator, requires_grad=True)
        for s in (1, 2, 4)
    ]
    return levels, torch.randint(0, 3, (2, 1, *shape), generator=generator)


@pytest.mark.parametrize("mode", ["exp", "two", "same"])
def test_it_is_monais(mode: Any) -> None:
    levels, labels = batch()
    ours = losses.create("cross_entropy")
    _, total = supervise(ours, levels, labels, LossContext(), mode)
    reference = DeepSupervisionLoss(
        DiceCELoss(to_onehot_y=True, softmax=True, lambda_dice=0.0), weight_mode=mode
    )
    expected = reference(levels, labels.float())
    torch.testing.assert_close(total, expected)
    gradients = torch.autograd.grad(total, levels)
    for got, wanted in zip(gradients, torch.autograd.grad(expected, levels), strict=True):
        torch.testing.assert_close(got, wanted)


def test_eq_22_weighs_the_levels() -> None:
    levels, labels = batch()
    loss = losses.create("dice")
    output, total = supervise(loss, levels, labels, LossContext(), "stride")
    truths = [labels] + [
        functional.interpolate(labels.float(), level.shape[2:], mode="nearest-exact").long()
        for level in levels[1:]
    ]
    values = [loss(level, truth) for level, truth in zip(levels, truths, strict=True)]
    weights = level_weights("stride", [(1, 1, 1), (2, 2, 2), (4, 4, 4)])
    torch.testing.assert_close(total, sum(w * v for w, v in zip(weights, values, strict=True)))
    torch.testing.assert_close(output.value, values[0])


def test_voxels_without_truth_stay_without_truth() -> None:
    levels, labels = batch()
    labels[:, :, 4:] = 255
    changed = [level.detach().clone() for level in levels]
    for level in changed:
        level[:, :, level.shape[2] // 2 :] = 7.0
    loss, context = losses.create("dice_cross_entropy"), LossContext()
    first, second = (supervise(loss, given, labels, context, "same")[1] for given in (levels, changed))
    torch.testing.assert_close(first, second)


def test_the_spacing_grows_with_the_stride(monkeypatch: pytest.MonkeyPatch) -> None:
    levels, labels = batch()
    loss = losses.create("cross_entropy")
    seen: list[LossContext] = []
    evaluate = loss.evaluate

    def noted(logits: torch.Tensor, target: torch.Tensor, context: LossContext) -> Any:
        seen.append(context)
        return evaluate(logits, target, context)

    monkeypatch.setattr(loss, "evaluate", noted)
    origin = np.zeros((2, 3))
    supervise(loss, levels, labels, LossContext(spacing=np.ones((2, 3)), origin=origin), "same")
    assert [float(c.spacing[0, 0]) for c in seen] == [1.0, 2.0, 4.0]
    assert [c.origin is origin for c in seen] == [True, False, False]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["region_dice", "squared_dice_ce_adaptive_region", "boundary"])
def test_losses_of_the_full_resolution_are_refused_in_a_sentence(tiny: Experiment, loss: str) -> None:
    with pytest.raises(SpecError, match=r"Deep supervision.*full resolution"):
        replace_values(
            tiny, {"network.levels": 3, "network.deep_supervision": "exp", "loss": losses.parse(loss)}
        )
    assert replace_values(tiny, {"loss": losses.parse(loss)}).loss == losses.parse(loss)


def test_a_run_learns_from_all_levels_and_tells_the_full_one(make_run: Callable[..., Run]) -> None:
    plain, deep = (
        list(make_run(name, network__levels=3, network__deep_supervision=mode, loss={"kind": "dice"}))
        for name, mode in (("plain", "none"), ("deep", "same"))
    )
    steps = [[e for e in events if isinstance(e, StepDone)] for events in (plain, deep)]
    assert isinstance(deep[-1], RunFinished) and deep[-1].state == "finished"
    # the same first weights and patch: the same loss is told, the gradient has another source too
    assert steps[0][0].loss == pytest.approx(steps[1][0].loss, abs=1e-6)
    assert steps[0][0].gradient_norm != steps[1][0].gradient_norm
    assert all(0 <= step.loss <= 1 for step in steps[1])  # a sum over two levels would exceed a Dice loss
    assert any(isinstance(e, ValidationDone) for e in deep)


@pytest.mark.slow
def test_resuming_repeats_the_run_bit_for_bit(make_run: Callable[..., Run]) -> None:
    """With deep supervision and a frozen, batch-normalised encoder."""
    settings = {
        "network__levels": 3,
        "network__deep_supervision": "stride",
        "network__normalisation": "batch",
        "network_weights__freeze": ["encoder"],
        "loss": {"kind": "dice_cross_entropy"},
    }
    whole, cut = make_run("whole", **settings), make_run("cut", **settings)
    list(whole)
    for event in cut:
        if isinstance(event, StepDone) and event.step == 4:
            cut.stop()
    list(Run(RunFolder.open(cut.folder)))
    first, second = (
        (open_checkpoint(run.folder / "checkpoints", "last")[0].folder / WEIGHTS).read_bytes()
        for run in (whole, cut)
    )
    assert first == second
