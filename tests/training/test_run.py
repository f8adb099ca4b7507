"""The run: its state machine, what takes effect when, and exact repetition."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from segexplorer.core.errors import RunStateError, SpecError
from segexplorer.core.events import (
    CheckpointSaved,
    EpochDone,
    Event,
    ParameterApplied,
    Planned,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.training.checkpoint import WEIGHTS, open_checkpoint
from segexplorer.training.event_log import read_events
from segexplorer.training.folder import RunFolder
from segexplorer.training.history import open_run
from segexplorer.training.run import Run, SliceView

MakeRun = Callable[..., Run]


def numbers(events: list[Event]) -> list[tuple[Any, ...]]:
    """What must be equal when a run is interrupted or repeated: losses, terms, norms, rates, scores."""
    kept: dict[tuple[str, int], tuple[Any, ...]] = {}
    for event in events:
        if isinstance(event, StepDone):
            terms = tuple(sorted(event.terms.items()))
            kept["step", event.step] = (event.loss, terms, event.gradient_norm, event.learning_rate)
        elif isinstance(event, ValidationDone):
            kept["validation", event.step] = (event.loss, event.mean_dice, tuple(event.class_dice.items()))
    return sorted((k, repr(v)) for k, v in kept.items())


def weights(run: Run) -> bytes:
    """The bytes of the last checkpoint's weights."""
    return (open_checkpoint(run.folder / "checkpoints", "last")[0].folder / WEIGHTS).read_bytes()


def until(events: Iterator[Event], kind: type[Event]) -> list[Event]:
    """Take events up to and with the first of a kind."""
    taken = []
    for event in events:
        taken.append(event)
        if isinstance(event, kind):
            break
    return taken


def test_a_whole_run_tells_everything_and_leaves_a_record(make_run: MakeRun) -> None:
    run = make_run()
    events = list(run)
    assert [e for e in events if isinstance(e, RunFinished)] == [events[-1]]
    assert events[-1].state == run.state == "finished", events[-1]
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [e.epoch for e in events if isinstance(e, EpochDone)] == [1, 2]
    assert [e.seq for e in events] == list(range(1, len(events) + 1))
    assert {e.role for e in events if isinstance(e, WatchedDone)} == {"train", "validation"}
    planned = next(e for e in events if isinstance(e, Planned))
    assert planned.steps == 6 and planned.classes
    for step in (e for e in events if isinstance(e, StepDone)):
        assert step.loss == pytest.approx(sum(v * w for v, w in step.terms.values()), rel=1e-5)
    record = open_run(run.folder)
    assert record.state == "finished"
    assert numbers(record.events()) == numbers(events)
    validation = next(e for e in events if isinstance(e, ValidationDone))
    assert len(record.metrics) == 2 * len(validation.scores)
    frames = record.watched("validation")
    assert [f.step for f in frames] == [3, 6]
    frame, shown = frames[-1].load(), run.watched.last("validation")
    assert shown is not None and (frame.prediction == shown.prediction).all()
    assert frame.prediction.shape == (32, 32, 32)
    assert shown.regions is not None and {"fp", "fn"} <= set(shown.regions.values)


def test_the_same_experiment_twice_gives_the_same_numbers(make_run: MakeRun) -> None:
    one, two = make_run("one"), make_run("two")
    assert numbers(list(one)) == numbers(list(two))
    assert weights(one) == weights(two)


@pytest.mark.parametrize("at", range(1, 6))
def test_stopped_at_any_step_and_resumed_is_bit_for_bit_the_whole(make_run: MakeRun, at: int) -> None:
    whole, broken = make_run("whole"), make_run("broken")
    expected = numbers(list(whole))
    for event in broken:
        if isinstance(event, StepDone) and event.step == at:
            broken.stop()
    assert broken.state == "stopped"
    resumed = Run(RunFolder.open(broken.folder))
    end = list(resumed)[-1]
    assert end.state == "finished" and end.attempt == 2, end
    assert numbers(open_run(broken.folder).events()) == expected
    assert weights(broken) == weights(whole)


def test_stopped_during_a_validation_it_validates_again(make_run: MakeRun) -> None:
    whole, broken = make_run("whole"), make_run("broken")
    expected = numbers(list(whole))
    for event in broken:
        if isinstance(event, WatchedDone):
            broken.stop()
    assert broken.state == "stopped"
    list(broken)
    assert broken.state == "finished"
    assert numbers(open_run(broken.folder).events()) == expected


def test_leaving_the_loop_saves_as_a_stop_does(make_run: MakeRun) -> None:
    run = make_run()
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            break
    assert run.state == "stopped"
    assert open_checkpoint(run.folder / "checkpoints", "last")[0].step == 2
    assert open_run(run.folder).state == "stopped"


def test_pause_step_and_unpause_from_another_thread(make_run: MakeRun) -> None:
    run = make_run(schedule__epochs=50)
    seen: list[Event] = []
    run.events.connect(seen.append)
    thread = run.start()

    def wait(condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, (run.state, seen[-3:])
            time.sleep(0.01)

    wait(lambda: any(isinstance(e, StepDone) for e in seen))
    run.pause()
    wait(lambda: run.state == "paused")
    before = sum(isinstance(e, StepDone) for e in seen)
    run.step(SliceView("train", 2, 0.0))
    wait(lambda: sum(isinstance(e, StepDone) for e in seen) == before + 1 and run.state == "paused")
    time.sleep(0.2)
    assert sum(isinstance(e, StepDone) for e in seen) == before + 1
    run.unpause()
    wait(lambda: sum(isinstance(e, StepDone) for e in seen) > before + 2)
    run.stop()
    thread.join(30)
    assert not thread.is_alive() and run.state == "stopped"


def test_a_live_change_takes_effect_at_the_next_step_and_replays(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(schedule__epochs=3)
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.set("optimiser.learning_rate", 3e-4)
            run.set("loss.alpha", 0.7)
        if isinstance(event, StepDone) and event.step == 6:  # at the end of an epoch
            run.set("loss.alpha", 0.2)
    events = read_events(run.folder)
    applied = [(e.step, e.field, e.value) for e in events if isinstance(e, ParameterApplied)]
    assert applied == [
        (2, "optimiser.learning_rate", 3e-4),
        (2, "loss.alpha", 0.7),
        (6, "loss.alpha", 0.2),
    ]
    rates = [e.learning_rate for e in events if isinstance(e, StepDone)]
    assert rates[2] == pytest.approx(3e-4 * (1 - 2 / 9) ** 0.9)
    assert run.badges == ("edited while it ran",)
    last = [e for e in events if isinstance(e, ValidationDone)][-1]
    assert last.badge == "edited while it ran"
    saved = open_run(run.folder).experiment
    assert [(c.step, c.value) for c in saved.changes] == [(2, 3e-4), (2, 0.7), (6, 0.2)]
    replay = Run(RunFolder.create(saved, tmp_path / "replay"))
    assert numbers(list(replay)) == numbers(events)
    assert weights(replay) == weights(run)


def test_changes_survive_a_stop_before_they_took_effect(make_run: MakeRun) -> None:
    run = make_run()
    for event in run:
        if isinstance(event, StepDone) and event.step == 2:
            run.set("loss.alpha", 0.9)
            run.stop()
    events = list(Run(RunFolder.open(run.folder)))
    assert [(e.step, e.value) for e in events if isinstance(e, ParameterApplied)] == [(2, 0.9)]


def test_refused_changes_say_why(make_run: MakeRun) -> None:
    run = make_run()
    with pytest.raises(SpecError, match="alpha"):
        run.set("loss.alfa", 0.5)
    with pytest.raises(SpecError, match="cannot change during a run"):
        run.set("sampling.batch_size", 2)
    with pytest.raises(SpecError, match="at least 0"):
        run.set("loss.alpha", -1)
    with pytest.raises(RunStateError, match="idle"):
        run.pause()


def test_a_finished_run_is_extended_at_the_floor_and_replays(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(schedule__floor=0.05)
    list(run)
    run.extend(1)
    more = list(run)
    steps = [e for e in more if isinstance(e, StepDone)]
    assert [e.step for e in steps] == [7, 8, 9]
    base = run.experiment.optimiser.learning_rate
    assert {e.learning_rate for e in steps} == {0.05 * base}
    assert more[-1].state == "finished"
    assert run.badges == ("extended from 2 to 3 epochs",)  # and nothing was edited
    replay = Run(RunFolder.create(open_run(run.folder).experiment, tmp_path / "replay"))
    assert numbers(list(replay)) == numbers(open_run(run.folder).events())


def test_a_failure_is_the_last_event_and_the_run_can_start_again(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segexplorer.training.learner import Learner

    run, good = make_run(), Learner.step
    counter = itertools.count()

    def bad(self: Learner, *args: Any, **options: Any) -> object:
        if next(counter) == 4:
            raise ZeroDivisionError("boom")
        return good(self, *args, **options)

    monkeypatch.setattr(Learner, "step", bad)
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and end.state == run.state == "failed"
    assert "boom" in end.error and "ZeroDivisionError" in end.cause and end.remedy
    monkeypatch.setattr(Learner, "step", good)
    assert list(run)[-1].state == "finished"  # goes on from the last checkpoint


def test_a_loss_that_is_not_finite_names_the_case(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from segexplorer.training.learner import Learner

    run, original = make_run(), Learner.step

    def poisoned(self: Learner, batch: Any, step: int, epoch: int, **options: Any) -> object:
        if step == 4:
            batch.images[:] = float("nan")
        return original(self, batch, step, epoch, **options)

    monkeypatch.setattr(Learner, "step", poisoned)
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and end.state == "failed" and not end.defect
    assert "phantom_" in end.error and "step 5" in end.error and "learning rate" in end.remedy
    assert open_checkpoint(run.folder / "checkpoints", "last")[0].step == 3


def test_a_term_that_is_not_finite_is_named(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from segexplorer.losses.module import Loss

    run, original = make_run(), Loss.evaluate

    def broken(self: Loss, *args: Any) -> Any:
        output = original(self, *args)
        terms = {**output.terms, "tversky": (torch.tensor(float("inf")), 0.5)}
        return dataclasses.replace(output, value=output.value * float("inf"), terms=terms)

    monkeypatch.setattr(Loss, "evaluate", broken)
    end = list(run)[-1]
    assert isinstance(end, RunFinished) and "tversky" in end.error


def test_out_of_memory_ends_with_three_remedies(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    from segexplorer.training.learner import Learner

    def starved(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "step", starved)
    end = list(make_run())[-1]
    assert isinstance(end, RunFinished) and end.state == "failed"
    assert all(word in end.remedy for word in ("patch", "batch", "network"))


def test_a_run_folder_is_never_overwritten(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("taken")
    with pytest.raises(ValueError, match="never overwritten"):
        make_run("taken")


def test_a_torn_event_line_does_not_spoil_the_record(make_run: MakeRun) -> None:
    run = make_run()
    for event in run:
        if isinstance(event, StepDone) and event.step == 4:
            break
    log = run.folder / "events.jsonl"
    log.write_bytes(log.read_bytes()[:-20])
    resumed = Run(RunFolder.open(run.folder))
    assert list(resumed)[-1].state == "finished"
    steps = [e.step for e in open_run(run.folder).events() if isinstance(e, StepDone)]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_checkpoints_are_told_after_they_are_written(make_run: MakeRun) -> None:
    run = make_run()
    for event in run:
        if isinstance(event, CheckpointSaved):
            assert (run.folder / "checkpoints" / event.folder / "meta.json").is_file()
        if isinstance(event, StateChanged):
            assert event.state == run.state
