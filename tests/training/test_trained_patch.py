"""The patch that a loss last trained on: its pull is the gradient of that step, and nothing is kept unasked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import segexplorer
from segexplorer.core.errors import DataError
from segexplorer.core.events import StepDone
from segexplorer.training.learner import Learner
from segexplorer.training.run import Run
from segexplorer.training.trained_patch import TrainedPatch

STILL = {"augmentation__enabled": False}
TURNED = {
    "augmentation__placement__probability": 1.0,
    "augmentation__placement__rotation": 20.0,
    "augmentation__flips__left_right": 1.0,
}
TRUTH_REGIONS = {"loss": {"kind": "region_dice", "partition": {"kind": "structures"}}}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The logits of every step, whose gradient training itself computes."""
    every: list[torch.Tensor] = []
    own = Learner._evaluate

    def evaluate(self: Learner, logits: Any, labels: Any, context: Any, mode: Any) -> Any:
        full = logits[0] if isinstance(logits, (list, tuple)) else logits
        full.retain_grad()
        every.append(full)
        return own(self, logits, labels, context, mode)

    monkeypatch.setattr(Learner, "_evaluate", evaluate)
    return every


def train(run: Run, ask_after: int) -> list[int]:
    """Train a run and ask for its patch after so many steps; return the steps at which there was a new one."""
    found = []
    for event in run:
        if isinstance(event, StepDone):
            if run.trained.take():
                found.append(event.step)
            if event.step == ask_after:
                run.show_patch()
    assert run.state == "finished", run.state
    return found


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("still", {**STILL, "sampling__batch_size": 2}),
        ("turned", TURNED),
        ("regions", {"loss": "chen2023_adaptive_region", **TURNED, "sampling__batch_size": 2}),
        ("truth regions", {**TRUTH_REGIONS, **TURNED, "sampling__batch_size": 2}),
        ("distances", {"loss": "hausdorff", **TURNED}),
        ("slices", {"sampling__patch_size": [16, 16, 1], "sampling__batch_size": 3}),
        ("levels", {"network__deep_supervision": "exp", "network__levels": 3}),
        ("bfloat16", {"compute__precision": "bfloat16"}),
    ],
)
def test_the_pull_of_the_last_patch_is_the_gradient_of_that_step(
    name: str, settings: dict[str, Any], make_run: Callable[..., Run], heard: list[torch.Tensor]
) -> None:
    run = make_run(name, **settings)
    assert train(run, ask_after=3) == [4]
    explained = segexplorer.explain(run, patch=True)
    assert (explained.step, explained.role) == (4, "train")
    gradient = heard[3].grad
    assert gradient is not None
    expected = -gradient[0].float().numpy()
    found = explained.pull_of().total
    assert found.shape == expected.shape == explained.logits.shape
    if name == "bfloat16":  # training rounds the gradient that it hands on
        assert np.allclose(found, expected, rtol=2**-8, atol=1e-9)
    elif name == "levels":  # what reaches the full resolution has the weight of its level
        factor = expected.ravel() @ found.ravel() / (found.ravel() @ found.ravel())
        assert np.allclose(factor * found, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())
    else:
        assert np.array_equal(found, expected)
    assert np.array_equal(explained.logits, heard[3].detach()[0].float().numpy())


def test_a_step_that_nobody_asks_about_keeps_nothing(make_run: Callable[..., Run]) -> None:
    run = make_run()
    assert train(run, ask_after=-1) == []
    assert run.trained.last("patch") is None
    with pytest.raises(DataError, match="No step of this run"):
        segexplorer.explain(run, patch=True)
    with pytest.raises(DataError, match="not in its folder"):
        segexplorer.explain(run.folder, patch=True)


def test_asking_changes_no_bit_of_training(make_run: Callable[..., Run]) -> None:
    asked, not_asked = make_run("asked"), make_run("not asked")
    assert train(asked, ask_after=2) == [3]
    train(not_asked, ask_after=-1)
    numbers = [
        [
            (e.loss, e.gradient_norm)
            for e in segexplorer.open_run(run.folder).events()
            if isinstance(e, StepDone)
        ]
        for run in (asked, not_asked)
    ]
    assert numbers[0] == numbers[1]


def test_a_batch_beyond_the_space_for_it_is_not_kept_and_it_is_said(make_run: Callable[..., Run]) -> None:
    run = make_run(monitoring__patch_mb=0)
    train(run, ask_after=1)
    with pytest.raises(DataError, match=r"monitoring\.patch_mb is 0"):
        segexplorer.explain(run, patch=True)


@pytest.mark.parametrize("flipped", [False, True])
def test_a_patch_lies_where_it_was_cut_and_a_mirrored_one_too(
    flipped: bool, make_run: Callable[..., Run]
) -> None:
    settings = {"augmentation__placement__probability": 0.0, "augmentation__shading__probability": 0.0}
    run = make_run(augmentation__flips__left_right=float(flipped), **settings)
    train(run, ask_after=2)
    explained = segexplorer.explain(run, patch=True)
    patch = run.trained.last("patch")
    assert isinstance(patch, TrainedPatch)
    assert not patch.moved
    assert run.plan is not None
    case = run.plan.refs[patch.case].open()
    voxels = np.stack(np.meshgrid(*map(np.arange, explained.labels.shape), indexing="ij"), -1).reshape(-1, 3)
    world = voxels @ explained.affine[:3, :3].T + explained.affine[:3, 3]
    assert case.label is not None
    there = np.linalg.inv(case.label.affine)
    own = np.rint(world @ there[:3, :3].T + there[:3, 3]).astype(int)
    truth = run.experiment.data.class_map().encode(np.asarray(case.label.array))
    assert np.array_equal(explained.labels.ravel(), truth[tuple(own.T)])


def test_a_turned_patch_is_on_its_own_grid_and_says_so(make_run: Callable[..., Run]) -> None:
    run = make_run(**TURNED)
    train(run, ask_after=2)
    patch = run.trained.last("patch")
    assert isinstance(patch, TrainedPatch)
    assert patch.moved
    assert patch.scope == "this patch, training mode, step 3"
    assert patch.remark == "turned or deformed, so on its own grid"


def test_another_loss_is_asked_about_the_batch_and_says_what_it_lacked(
    make_run: Callable[..., Run],
) -> None:
    run = make_run(**TURNED, sampling__batch_size=2)
    train(run, ask_after=2)
    explained = segexplorer.explain(run, patch=True)
    patch = run.trained.last("patch")
    assert isinstance(patch, TrainedPatch)
    leaf = torch.from_numpy(patch.logits).requires_grad_()
    dice = segexplorer.losses.create("dice")
    dice(leaf, torch.from_numpy(patch.labels).long(), patch.context).backward()
    assert leaf.grad is not None
    assert np.array_equal(explained.pull_of("dice").total, -leaf.grad[0].numpy())
    assert explained.remark("dice") == explained.remark() == ""
    assert "those of the patch alone" in explained.remark("boundary")
    assert np.isfinite(explained.asked(1, "boundary").values).all()
    report = explained.regions("adaptive_region_tversky")
    assert report is not None
    assert report.scope == patch.scope
    assert "asks for" in explained.why((3, 3, 3), loss="dice")
    with pytest.raises(DataError, match="trained on once"):
        explained.got(1)
