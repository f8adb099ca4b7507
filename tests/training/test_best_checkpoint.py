"""Which validation makes the best checkpoint: the highest Dice, or the lowest loss of whole validation cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from segexplorer.core.events import CheckpointSaved, EpochDone, Notice, ValidationDone
from segexplorer.core.spec import replace_values
from segexplorer.frontends.cli.terminal import validation_line
from segexplorer.training.checkpoint import open_checkpoint
from segexplorer.training.evaluator import CaseLoss
from segexplorer.training.experiment import Experiment
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.plan import resolve
from segexplorer.training.predict import load_predictor
from segexplorer.training.run import Run
from segexplorer.viewmodels.curves import Curves

WHOLE: dict[str, Any] = {
    "loss": "unified_focal",
    "sampling__patch_size": None,
    "validation__overlap": 0.0,
    "split__validation_count": 2,
    "sampling__steps_per_epoch": 2,
    "schedule__epochs": 3,
}


def validations(run: Run) -> list[ValidationDone]:
    return [event for event in run if isinstance(event, ValidationDone)]


def scripted(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> None:
    """Let whole cases have these losses, one after the other."""
    left: Iterator[float] = iter(values)
    monkeypatch.setattr(CaseLoss, "result", lambda *_: (next(left), None))


@pytest.mark.parametrize(
    ("criterion", "best"), [("loss", [True, True, False]), ("dice", None)], ids=["loss", "dice"]
)
def test_best_is_the_epoch_of_the_lowest_validation_loss(
    make_run: Callable[..., Run],
    monkeypatch: pytest.MonkeyPatch,
    criterion: str,
    best: list[bool] | None,
) -> None:
    """Two validation cases, whose means are 3, 1 and 2; the watched training case comes third."""
    scripted(monkeypatch, [2.0, 4.0, 0.0, 1.5, 0.5, 9.0, 2.0, 2.0, 0.0])
    run = make_run(**WHOLE, validation__select_best=criterion, data__count=4)
    done = validations(run)
    assert [v.loss for v in done] == [3.0, 1.0, 2.0]
    assert {v.criterion for v in done} == {criterion}
    if best is None:  # by Dice: the first validation, and each that is better than all before
        dice = [v.mean_dice for v in done]
        best = [all(d > earlier for earlier in dice[:i]) for i, d in enumerate(dice)]
    assert [v.best for v in done] == best
    epoch = max(v.epoch for v in done if v.best)
    saved = open_checkpoint(run.folder / "checkpoints", "best")[0]
    assert saved.step == 2 * epoch
    expected = done[epoch - 1].mean_dice if criterion == "dice" else -1.0
    assert saved.meta["best"] == pytest.approx(expected)


def test_a_resumed_run_remembers_the_lowest_loss(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {**WHOLE, "schedule__epochs": 1, "validation__select_best": "loss", "data__count": 4}
    scripted(monkeypatch, [1.0, 1.0, 0.0, 3.0, 3.0, 0.0, 0.5, 0.5, 0.0])
    run = make_run(**settings)
    assert [v.best for v in validations(run)] == [True]
    again = Run(RunFolder.open(run.folder))
    again.extend(2)
    assert [v.best for v in validations(again)] == [False, True]


def test_the_loss_is_that_of_whole_validation_cases(make_run: Callable[..., Run]) -> None:
    """It is computed once more here, from the checkpoint, and is in the log, the curves and the terminal."""
    run = make_run(**WHOLE, validation__select_best="loss", data__count=4)
    done = validations(run)
    assert run.plan is not None
    predictor = load_predictor(run.folder, "last")
    store = run.plan.open_store()
    losses = []
    for case in run.plan.ids("validation"):
        prepared = store.get(case)
        with torch.inference_mode():
            logits = predictor.network(torch.from_numpy(prepared.image[None]))
            labels = torch.from_numpy(prepared.label[None, None]).long()  # type: ignore[index]
            losses.append(float(run.experiment.loss.build().evaluate(logits, labels).value))
    assert len(losses) == 2 and losses[0] != losses[1]
    assert done[-1].loss == pytest.approx(sum(losses) / 2, rel=1e-4)
    logged = [e for e in open_run(run.folder).events() if isinstance(e, ValidationDone)]
    assert [(v.loss, v.criterion) for v in logged] == [(v.loss, "loss") for v in done]
    curves = Curves()
    for event in open_run(run.folder).events():
        curves.add(event)
    (_, drawn) = curves.series("validation_loss")["total"]
    assert list(drawn) == pytest.approx([v.loss for v in done])
    assert f"loss {done[0].loss:.4g} best" in validation_line(done[0])


def test_a_case_without_loss_is_announced_once(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, [math.nan, 4.0, 0.0, math.nan, 5.0, 0.0, math.nan, 3.0, 0.0])
    run = make_run(**WHOLE, validation__select_best="loss", data__count=4)
    events = list(run)
    (notice,) = (e for e in events if isinstance(e, Notice) and "could not be computed" in e.message)
    assert "select_best: dice" in notice.remedy
    assert [e.best for e in events if isinstance(e, ValidationDone)] == [True, False, True]
    assert any(isinstance(e, EpochDone) for e in events)
    assert sum("best" in e.pointers for e in events if isinstance(e, CheckpointSaved)) == 2


@pytest.mark.parametrize(
    ("loss", "said"), [("adaptive_tversky_cross_entropy", True), ("t_loss", True), ("unified_focal", False)]
)
def test_a_loss_that_changes_in_training_is_announced(tiny: Experiment, loss: str, said: bool) -> None:
    planned = replace_values(tiny, {"loss": loss, "validation.select_best": "loss"})
    sentences = " ".join(resolve(planned).warning_sentences())
    assert ("its values of different epochs cannot be compared" in sentences) == said
    assert "cannot be compared" not in " ".join(
        resolve(replace_values(planned, {"validation.select_best": "dice"})).warning_sentences()
    )
