"""What changes a run while it goes on: live edits, extensions, early stopping; and a new best that nobody loses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from segexplorer.core.errors import SpecError
from segexplorer.core.events import (
    EpochDone,
    Event,
    Notice,
    ParameterApplied,
    RunFinished,
    StepDone,
    ValidationDone,
)
from segexplorer.training.checkpoint import open_checkpoint
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run

MakeRun = Callable[..., Run]


def steps(events: list[Event]) -> dict[int, tuple[float, float]]:
    """Step -> loss and learning rate."""
    return {e.step: (e.loss, e.learning_rate) for e in events if isinstance(e, StepDone)}


def validations(events: list[Event]) -> list[tuple[int, float, bool]]:
    return [(e.step, e.mean_dice, e.best) for e in events if isinstance(e, ValidationDone)]


def again(run: Run) -> Run:
    """The run as another process opens it."""
    return Run(RunFolder.open(run.folder))


# ---- the best is never lost


@pytest.mark.parametrize("leave", ["break", "stop"])
def test_leaving_at_the_news_of_a_new_best_keeps_it(make_run: MakeRun, leave: str) -> None:
    whole, run = make_run("whole"), make_run("left")
    expected = list(whole)
    for event in run:
        if isinstance(event, ValidationDone) and event.best:
            assert open_checkpoint(run.folder / "checkpoints", "best")[0].step == event.step
            if leave == "break":
                break
            run.stop()
    assert run.state == "stopped"
    best, _ = open_checkpoint(run.folder / "checkpoints", "best")
    assert best.step == 3 and best.meta["best"] == validations(expected)[0][1]
    left = open_run(run.folder).events()
    assert [e.epoch for e in left if isinstance(e, EpochDone)] == [1]  # what was due is recorded as well
    list(again(run))
    events = open_run(run.folder).events()
    assert validations(events) == validations(expected) and steps(events) == steps(expected)


def test_a_kill_between_checkpoint_and_log_loses_nothing(make_run: MakeRun) -> None:
    whole, run = make_run("whole"), make_run("killed")
    expected = list(whole)
    for event in run:
        if isinstance(event, EpochDone):
            break
    log = run.folder / "events.jsonl"
    lines = log.read_text().splitlines()
    cut = next(n for n, line in enumerate(lines) if json.loads(line)["event"] == "ValidationDone")
    log.write_text("\n".join(lines[:cut]) + "\n")  # as a kill leaves it that comes right after the checkpoint
    resumed = list(again(run))
    assert validations(resumed) == validations(expected)
    assert [e.epoch for e in resumed if isinstance(e, EpochDone)] == [1, 2]
    assert validations(open_run(run.folder).events()) == validations(expected)
    assert open_run(run.folder).metrics["step"].unique().tolist() == [3, 6]


# ---- live edits


def test_two_edits_that_are_sound_one_by_one_only_are_refused(make_run: MakeRun) -> None:
    run = make_run(loss="tversky")
    refused: list[SpecError] = []
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.set("loss.alpha", 0.0)
            with pytest.raises(SpecError, match="alpha") as caught:
                run.set("loss.beta", 0.0)
            refused.append(caught.value)
    assert run.state == "finished" and refused
    loss = open_run(run.folder).experiment.changes
    assert [(c.step, c.field, c.value) for c in loss] == [(2, "loss.alpha", 0.0)]


def test_an_edit_that_is_unsound_with_one_to_come_is_refused(make_run: MakeRun) -> None:
    changes = [{"step": 4, "field": "loss.alpha", "value": 0.0}]
    run = make_run(loss="tversky", changes=changes)
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            with pytest.raises(SpecError):
                run.set("loss.beta", 0.0)
    assert run.state == "finished"
    with pytest.raises(SpecError):
        make_run("idle", loss="tversky", changes=changes).set("loss.beta", 0.0)


def test_several_values_are_one_change_and_replay(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(loss={"kind": "tversky", "alpha": 0.0, "beta": 1.0})
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            with pytest.raises(SpecError):
                run.set("loss.beta", 0.0)
            run.set_values({"loss.beta": 0.0, "loss.alpha": 1.0})
    applied = [e for e in open_run(run.folder).events() if isinstance(e, ParameterApplied)]
    assert [(e.step, e.field, e.value, e.previous) for e in applied] == [
        (2, "loss.beta", 0.0, 1.0),
        (2, "loss.alpha", 1.0, 0.0),
    ]
    replay = Run(RunFolder.create(open_run(run.folder).experiment, tmp_path / "replay"))
    assert steps(list(replay)) == steps(open_run(run.folder).events())


def test_an_edit_that_became_unsound_on_its_way_is_a_notice(make_run: MakeRun) -> None:
    run = make_run(loss="tversky")
    told: list[str] = []
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run._post("set", {"loss.alpha": 0.0, "loss.beta": 0.0})
        if isinstance(event, Notice):
            told.append(event.message)
    assert run.state == "finished" and any(text.startswith("Not changed") for text in told)


def test_recorded_changes_of_what_is_not_live_are_refused(make_run: MakeRun) -> None:
    run = make_run(changes=[{"step": 2, "field": "sampling.batch_size", "value": 2}])
    end = list(run)[-1]
    assert (
        isinstance(end, RunFinished) and "sampling.batch_size cannot change" in end.error and not end.defect
    )


# ---- the end: early stopping and extensions


def test_early_stopping_ends_the_run_and_an_extension_goes_on(make_run: MakeRun, tmp_path: Path) -> None:
    rule = {"patience": 1, "min_delta": 1.0}  # no Dice improves by more than 1
    run = make_run(schedule__epochs=9, sampling__steps_per_epoch=1, validation__early_stopping=rule)
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and end.state == "finished" and end.step == 2
    assert end.reason == "the mean Dice has not improved for 1 validation (early stopping)"
    assert open_checkpoint(run.folder / "checkpoints", "last")[0].step == 2
    assert list(again(run))[-1].step == 2  # opened again, it is over
    longer = again(run)
    longer.extend(1)
    assert list(longer)[-1].step == 3
    assert longer.badges == ("extended after early stopping",)
    replay = Run(RunFolder.create(open_run(run.folder).experiment, tmp_path / "replay"))
    replayed = list(replay)
    assert steps(replayed) == steps(open_run(run.folder).events()) and replayed[-1].step == 3


def test_early_stopping_watches_the_loss_where_it_is_asked_to(make_run: MakeRun) -> None:
    rule = {"patience": 1, "monitor": "loss"}
    run = make_run(schedule__epochs=4, sampling__steps_per_epoch=1, validation__early_stopping=rule)
    events = list(run)
    losses = [e.loss for e in events if isinstance(e, ValidationDone)]
    worse = next((n for n in range(1, len(losses)) if losses[n] >= min(losses[:n])), None)
    assert events[-1].step == (4 if worse is None else worse + 1)


def test_an_extension_may_begin_the_schedule_anew(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(schedule__floor=0.05, loss="tversky")
    first = [rate for _, rate in steps(list(run)).values()]
    run = again(run)
    run.set("schedule.extension", "fresh")
    run.extend(2)
    for event in run:
        if isinstance(event, StepDone) and event.step == 8:
            break
    list(again(run))
    rates = [rate for _, rate in steps(open_run(run.folder).events()).values()]
    assert rates[6:] == first == rates[:6]
    assert run.badges == ("extended from 2 to 4 epochs",)
    replay = Run(RunFolder.create(open_run(run.folder).experiment, tmp_path / "replay"))
    assert steps(list(replay)) == steps(open_run(run.folder).events())
