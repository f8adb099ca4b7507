"""Losses that learn or adapt, in runs: resumed to the bit, told in curves, moved by the validation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from segexplorer.core.events import EpochDone, Event, StepDone, ValidationDone
from segexplorer.training.checkpoint import STATE, open_checkpoint
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run

MakeRun = Callable[..., Run]
TERMS = [{"loss": "dice"}, {"loss": "cross_entropy"}]
KINDS: dict[str, Any] = {
    "t_loss": {"kind": "t_loss", "normalise": True},
    "uncertainty": {"kind": "weighted_sum", "terms": TERMS, "weighting": "uncertainty"},
    "scheduled": {
        "kind": "weighted_sum",
        "terms": TERMS,
        "weighting": {"kind": "scheduled", "length": 2},
    },
    "dynamic": {"kind": "weighted_sum", "terms": TERMS, "weighting": "dynamic_weight_average"},
    "adaptive_t_vmf_dice": {"kind": "adaptive_t_vmf_dice"},
}


def told(events: list[Event]) -> list[Any]:
    """Losses, terms with their weights, and what adapted: what must be equal to the bit."""
    kept: dict[Any, Any] = {}
    for event in events:
        if isinstance(event, StepDone):
            kept["step", event.step] = (event.loss, sorted(event.terms.items()), event.gradient_norm)
        elif isinstance(event, EpochDone):
            kept["epoch", event.epoch] = (event.loss, sorted(event.adaptive.items()))
    return sorted((k, repr(v)) for k, v in kept.items())


def loss_state(run: Run) -> dict[str, torch.Tensor]:
    """The loss's part of the last checkpoint."""
    state: dict[str, Any] = torch.load(
        open_checkpoint(run.folder / "checkpoints", "last")[0].folder / STATE, weights_only=True
    )
    found: dict[str, torch.Tensor] = state["loss"]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_run_is_the_whole_one_to_the_bit(make_run: MakeRun, kind: str) -> None:
    settings = {"loss": KINDS[kind], "schedule__epochs": 3, "sampling__steps_per_epoch": 1}
    whole, broken = make_run("whole", **settings), make_run("broken", **settings)
    expected = told(list(whole))
    assert whole.state == "finished"
    for event in broken:
        if isinstance(event, StepDone) and event.step == 2:
            broken.stop()
    resumed = Run(RunFolder.open(broken.folder))
    assert list(resumed)[-1].state == "finished"
    assert told(open_run(broken.folder).events()) == expected
    ours, theirs = loss_state(resumed), loss_state(whole)
    assert ours.keys() == theirs.keys() and ours
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_nu_and_log_variances_move_without_weight_decay(make_run: MakeRun) -> None:
    for kind, name in (("t_loss", "learned.log_nu"), ("uncertainty", "learned.log_variances")):
        settings = {"loss": KINDS[kind], "optimiser__weight_decay": 0.5, "optimiser__learning_rate": 0.01}
        run = make_run(kind, **settings)
        events = list(run)
        groups = torch.load(
            open_checkpoint(run.folder / "checkpoints", "last")[0].folder / STATE, weights_only=True
        )["optimiser"]["param_groups"]
        assert [g["weight_decay"] for g in groups] == [0.5, 0.0]
        start = run.experiment.loss.build().state_dict()[name]
        assert not torch.equal(loss_state(run)[name], start)
        curves = [e.adaptive for e in events if isinstance(e, EpochDone)]
        assert len(curves) == 2 and curves[0] and curves[0] != curves[1]


def test_a_live_weight_decay_leaves_the_loss_s_parameters_alone(make_run: MakeRun) -> None:
    run = make_run(loss=KINDS["t_loss"])
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.set("optimiser.weight_decay", 0.25)
    groups = torch.load(
        open_checkpoint(run.folder / "checkpoints", "last")[0].folder / STATE, weights_only=True
    )["optimiser"]["param_groups"]
    assert [g["weight_decay"] for g in groups] == [0.25, 0.0]


@pytest.mark.slow
def test_a_schedule_edited_in_a_run_is_resumed_and_replayed_alike(make_run: MakeRun) -> None:
    settings = {"loss": KINDS["scheduled"], "schedule__epochs": 2, "sampling__steps_per_epoch": 3}

    def edited(name: str, *, stop: bool) -> Run:
        run = make_run(name, **settings)
        for event in run:
            if isinstance(event, StepDone) and event.step == 4:
                run.set("loss.weighting.length", 5)
            if stop and isinstance(event, StepDone) and event.step == 5:
                run.stop()
        return run

    whole, broken = edited("whole", stop=False), edited("broken", stop=True)
    resumed = Run(RunFolder.open(broken.folder))
    list(resumed)
    expected = told(open_run(whole.folder).events())
    assert told(open_run(broken.folder).events()) == expected
    replayed = Run(
        RunFolder.create(RunFolder.open(whole.folder).experiment(), whole.folder.parent / "replayed")
    )
    assert told(list(replayed)) == expected


def test_kappa_follows_the_validation_of_a_run(make_run: MakeRun) -> None:
    """kappa = scale * Dice of each class over the validation set, one confusion matrix, background included."""
    settings = {"schedule__epochs": 3, "sampling__steps_per_epoch": 1, "validation__every_epochs": 2}
    run = make_run(loss=KINDS["adaptive_t_vmf_dice"], **settings)
    curves: dict[int, dict[str, float]] = {}
    scores: dict[int, ValidationDone] = {}
    for event in run:
        if isinstance(event, EpochDone):
            curves[event.epoch] = dict(event.adaptive)
        elif isinstance(event, ValidationDone):
            scores[event.epoch] = event
    assert list(scores) == [2, 3] and curves[1] == {}
    classes = 1 + len(scores[2].class_dice)
    for epoch in (2, 3):
        assert list(curves[epoch]) == [f"kappa of class {c}" for c in range(classes)]
        assert curves[epoch]["kappa of class 0"] > 0
        # one validation case: the Dice of the set is that of the case
        for c, dice in enumerate(scores[epoch].class_dice.values(), start=1):
            assert curves[epoch][f"kappa of class {c}"] == pytest.approx(32 * dice, abs=1e-9)
