"""A run's state as sentences, and which buttons can be pressed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segexplorer.core.events import (
    EpochDone,
    Event,
    Notice,
    ParameterApplied,
    Planned,
    Progress,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
)
from segexplorer.viewmodels.status import Status, duration, memory


def step(number: int, seconds: float = 0.5, attempt: int = 1) -> StepDone:
    return StepDone(
        attempt=attempt,
        step=number,
        epoch=1 + (number - 1) // 10,
        loss=1.0,
        terms={},
        learning_rate=1e-3,
        gradient_norm=1.0,
        seconds=seconds,
        samples=2,
        memory_bytes=1_400_000_000,
    )


def validation(number: int, seconds: float = 30.0) -> ValidationDone:
    return ValidationDone(
        step=number,
        epoch=1,
        loss=0.4,
        scores=(),
        mean_dice=0.8712,
        class_dice={},
        n_used=23,
        n_absent=1,
        n_missed=2,
        best=True,
        seconds=seconds,
        badge="training case, not held out",
    )


def running() -> Status:
    status = Status()
    status.add(
        Planned(steps=400, epochs=40, steps_per_epoch=10, warnings=("One case has no label.",), badges=("b",))
    )
    status.add(StateChanged(state="running"))
    return status


def test_progress_with_time_left() -> None:
    status = running()
    status.extend(step(n) for n in range(1, 121))
    assert status.headline == "training"
    assert status.progress == "epoch 12 of 40, 2 min left"
    assert status.fraction == pytest.approx(0.3)
    assert status.seconds_left == pytest.approx(280 * 0.5)
    assert status.rate == "4 samples/s"
    assert status.memory == "1.4 GB"
    assert status.badges == ("b",)


def test_validations_still_to_come_are_in_the_time_left() -> None:
    status = running()
    status.extend(step(n) for n in range(1, 21))
    status.extend([validation(10), validation(20)])
    assert status.seconds_left == pytest.approx(380 * 0.5 + 38 * 30)


def test_before_the_first_step_nothing_is_promised() -> None:
    status = running()
    assert status.seconds_left is None
    assert status.progress == "epoch 1 of 40"
    assert (status.rate, status.memory) == ("", "")
    status.add(Progress(activity="reading headers", done=3, total=12, unit="case"))
    assert status.headline == "reading headers, case 3 of 12"
    assert status.fraction == 0.25


@pytest.mark.parametrize(
    ("event", "headline"),
    [
        (StateChanged(state="idle"), "ready to start"),
        (StateChanged(state="preparing"), "preparing"),
        (StateChanged(state="preparing", activity="reading the cases"), "reading the cases"),
        (Progress(activity="validating case 1 of 1", done=0, total=8), "validating case 1 of 1"),
        (
            Progress(activity="validating case 1 of 1", done=6, total=8),
            "validating case 1 of 1, window 6 of 8",
        ),
        (
            Progress(activity="predicting the watched case", done=1, total=1),
            "predicting the watched case, window 1 of 1",
        ),
        (StateChanged(state="paused"), "paused"),
        (StateChanged(state="stopping"), "stopping after this step"),
        (StateChanged(state="stopping", activity="saving the last checkpoint"), "saving the last checkpoint"),
        (RunFinished(state="stopped", reason="stopped by the user"), "stopped by the user"),
        (RunFinished(state="stopped", reason=""), "stopped"),
        (RunFinished(state="finished", reason="all epochs are done"), "finished: all epochs are done"),
        (
            RunFinished(state="failed", reason="x", error="No space left.", remedy="Free some."),
            "failed: No space left. Free some.",
        ),
    ],
)
def test_each_state_is_one_phrase(event: Event, headline: str) -> None:
    status = running()
    status.add(Progress(activity="validating case 2 of 2", done=3, total=8))
    status.add(event)
    assert status.headline == headline


def test_after_a_single_step_a_run_is_paused_again_once_its_slice_is_predicted() -> None:
    status = running()
    status.add(StateChanged(state="paused"))
    slice_of = {"activity": "predicting the visible slice", "total": 8}
    status.add(Progress(done=7, **slice_of))
    assert status.headline == "predicting the visible slice, window 7 of 8"
    status.add(Progress(done=8, **slice_of))
    assert status.headline == "paused"


def test_the_log_says_what_was_applied_when() -> None:
    status = running()
    status.add(ParameterApplied(step=7, field="loss.alpha", value=0.7, previous=0.5))
    status.add(Notice(step=8, message="The disk is nearly full.", remedy="Free some space."))
    status.add(validation(10))
    texts = [(line.step, line.text, line.important) for line in status.log]
    assert texts == [
        (0, "One case has no label.", True),
        (7, "loss.alpha changed from 0.5 to 0.7", False),
        (8, "The disk is nearly full. Free some space.", True),
        (
            10,
            "validated: mean Dice 0.871, the best so far; 23 used, 1 absent, 2 missed"
            " (training case, not held out)",
            False,
        ),
    ]
    assert status.log[1].sentence.endswith("step 7: loss.alpha changed from 0.5 to 0.7")


def test_a_failure_is_reported_with_its_remedy_and_its_cause_kept_apart() -> None:
    status = running()
    status.add(
        RunFinished(
            step=9,
            state="failed",
            reason="error",
            error="The loss is NaN.",
            remedy="Lower the rate.",
            cause="Trace",
        )
    )
    assert status.state == "failed"
    assert status.failure == "The loss is NaN. Lower the rate."
    assert status.headline == "failed: The loss is NaN. Lower the rate."
    assert status.cause == "Trace"
    assert "left" not in status.progress


def test_the_end_says_why() -> None:
    status = running()
    status.add(RunFinished(step=400, state="finished", reason="all 40 epochs done"))
    assert status.headline == "finished: all 40 epochs done"
    assert status.failure == ""


def test_a_resume_goes_back_and_clears_the_failure() -> None:
    status = running()
    status.extend([step(50), RunFinished(step=50, state="failed", reason="x", error="Bad.")])
    status.add(StateChanged(attempt=2, step=40, state="preparing", activity="loading the checkpoint"))
    assert status.failure == ""
    assert status.headline == "loading the checkpoint"
    assert status.fraction == pytest.approx(0.1)
    assert status.log[-1].text == "resumed (attempt 2)"


def test_epochs_may_be_extended() -> None:
    status = running()
    status.add(EpochDone(step=10, epoch=1, epochs=60, loss=1, terms={}))
    assert status.progress == "epoch 1 of 60"


def test_durations_and_sizes_as_people_say_them() -> None:
    assert [duration(s) for s in (3, 59.4, 60, 200, 4800, 36000)] == [
        "3 s",
        "59 s",
        "1 min",
        "3 min",
        "1 h 20 min",
        "10 h",
    ]
    assert [memory(n) for n in (812_000_000, 3_400_000_000)] == ["812 MB", "3.4 GB"]


def test_view_models_load_neither_torch_nor_a_toolkit() -> None:
    code = (
        "import sys\n"
        "from segexplorer.viewmodels import catalogue, curves, errors, regions, status\n"
        "sys.exit(any(m in sys.modules for m in ('torch', 'monai', 'qtpy', 'napari', 'pyqtgraph')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
