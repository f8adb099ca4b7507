"""What every sink must do, for us and for plug-in authors.

>>> from segexplorer.testing.sinks import check_sink
>>> def test_mine(tmp_path):  # doctest: +SKIP
...     run = check_sink(MySink(), tmp_path)
...     assert (run / "mine.csv").exists()

Nothing is trained: the sink receives the events of a run of three steps, in two attempts. Each check raises
AssertionError with a sentence that says which promise is broken.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from segexplorer.core.events import (
    CaseScore,
    CheckpointSaved,
    EpochDone,
    Event,
    Notice,
    ParameterApplied,
    Planned,
    Progress,
    RegionReport,
    RunFinished,
    StateChanged,
    StepDone,
    ValidationDone,
    WatchedDone,
)
from segexplorer.data.case import Case
from segexplorer.data.volume import Volume
from segexplorer.training.experiment import Experiment
from segexplorer.training.sinks.base import Attempt, SinkSpec, registry
from segexplorer.training.snapshots import WatchedSnapshot

CASE, CLASSES = "case_a", ("liver", "spleen")
_SHAPE, _AFFINE = (8, 6, 4), np.diag([1.0, 1.0, 2.0, 1.0])


def check_sink(spec: SinkSpec, folder: Path) -> Path:
    """Tell a sink of a run that is stopped in the middle of an epoch's end and resumed.

    The losses of steps 1, 2 and 3 are 0.9, 0.8 and 0.7. The end of the first epoch, at step 2, is emitted twice.

    Parameters
    ----------
    folder
        An empty folder, e.g. pytest's `tmp_path`.

    Returns
    -------
    The run folder, for checks of what the sink has written there.
    """
    assert type(spec).display_name, f"{type(spec).__name__} needs a display_name"
    assert registry.parse(spec.plain()) == spec, (
        f"{spec!r} does not come back from plain data; is it registered?"
    )
    run = folder / "run"
    run.mkdir()
    experiment = Experiment.of({"data": "phantom", "sinks": [spec]})
    experiment.save(run / "experiment.yaml")
    drawn, saved = _random_state(), (run / "experiment.yaml").read_bytes()
    first = _stamped(1, [*_beginning(), _step(1), _step(2), *_end_of_epoch()])
    stopped = _stamped(1, [RunFinished(state="stopped", reason="stopped by the user")], after=first)
    _tell(spec, Attempt(run, experiment, 1, 0, (), _case), [*first, *stopped])
    second = _stamped(
        2, [*_beginning(), *_end_of_epoch(), _step(3), RunFinished(state="finished", reason="done")]
    )
    _tell(spec, Attempt(run, experiment, 2, 2, first, _case), second)
    assert _random_state() == drawn, f"{spec.display_name} draws from a global random generator"
    assert (run / "experiment.yaml").read_bytes() == saved, f"{spec.display_name} changes the run's own files"
    assert [p.name for p in folder.iterdir()] == ["run"], f"{spec.display_name} writes beside the run folder"
    return run


def _tell(spec: SinkSpec, attempt: Attempt, events: Sequence[Event]) -> None:
    sink = spec.open(attempt)
    for event in events:
        sink.event(event)
        if isinstance(event, WatchedDone):
            snapshot = _snapshot(event)
            before = snapshot.prediction.copy()
            sink.watched(snapshot)
            assert (snapshot.prediction == before).all(), (
                f"{spec.display_name} changes the snapshot it is given"
            )
    sink.close()


def _stamped(attempt: int, events: Sequence[Event], after: Sequence[Event] = ()) -> list[Event]:
    """Return the events as a run numbers them; a step done counts from its own event on."""
    step = after[-1].step if after else 2 * (attempt - 1)
    stamped: list[Event] = []
    for number, event in enumerate(events, start=len(after) + 1):
        step += isinstance(event, StepDone)
        time = 1e9 + 1000 * attempt + number
        stamped.append(dataclasses.replace(event, attempt=attempt, seq=number, step=step, time=time))
    return stamped


def _beginning() -> list[Event]:
    return [
        StateChanged(state="preparing", activity="reading the cases"),
        Planned(steps=3, epochs=2, steps_per_epoch=2, summary={"Cases": "1"}, classes=CLASSES),
        StateChanged(state="running"),
        ParameterApplied(field="optimiser.learning_rate", value=2e-3, previous=1e-3),
        Notice(message="The label of case_a was cropped.", remedy="Widen the margin."),
    ]


def _step(number: int) -> StepDone:
    loss = 1.0 - number / 10
    return StepDone(
        epoch=(number + 1) // 2, loss=loss, terms={"dice": (loss, 0.5), "cross_entropy": (loss, 0.5)},
        learning_rate=1e-3, gradient_norm=1.5, seconds=0.1, samples=2, cases=(CASE, CASE),
    )  # fmt: skip


def _end_of_epoch() -> list[Event]:
    scores = tuple(_score(name) for name in CLASSES)
    return [
        Progress(activity="validating case 1 of 1", done=1, total=1),
        WatchedDone(case=CASE, role="validation", index=0),
        ValidationDone(
            epoch=1, loss=0.85, scores=scores, mean_dice=0.25, class_dice={"liver": 0.5, "spleen": 0.0},
            n_used=2, n_absent=0, n_missed=1, best=True, seconds=0.5,
        ),
        EpochDone(
            epoch=1, epochs=2, loss=0.85, terms={"dice": (0.85, 0.5), "cross_entropy": (0.85, 0.5)},
            adaptive={"weight of dice": 0.5}, learning_rate=1e-3,
        ),
        CheckpointSaved(folder="step_2", pointers=("last", "best")),
    ]  # fmt: skip


def _score(name: str) -> CaseScore:
    missed = name == "spleen"
    metrics = {"dice": 0.0 if missed else 0.5, "hd95": float("nan") if missed else 4.0}
    return CaseScore(
        case=CASE, class_name=name, role="validation", state="missed" if missed else "scored", metrics=metrics,
        false_positive_ml=0.0, false_negative_ml=1.0, truth_ml=2.0,
    )  # fmt: skip


def _snapshot(event: WatchedDone) -> WatchedSnapshot:
    """Return a case with both classes in it, the second one missed, and one region that the loss skips."""
    truth, prediction = np.zeros(_SHAPE, np.uint8), np.zeros(_SHAPE, np.uint8)
    truth[:3, :3, 2], truth[5:, 3:, 2], prediction[1:4, :3, 2] = 1, 2, 1
    values = np.full((3, 2), 0.5, np.float32)
    values[2, 1] = np.nan
    regions = RegionReport({"alpha": values, "beta": 1 - values}, ((0, 4, 8), (0, 6), (0, 4)))
    return WatchedSnapshot(
        case=event.case, role=event.role, step=event.step, index=event.index, class_names=CLASSES, affine=_AFFINE,
        prediction=prediction, truth=truth, regions=regions, regions_affine=_AFFINE, loss=0.85,
    )  # fmt: skip


def _case(name: str) -> Case:
    assert name == CASE, f"there is no case {name!r}"
    voxels = np.arange(np.prod(_SHAPE), dtype=np.float32).reshape(_SHAPE)
    return Case(CASE, (Volume.from_array(voxels, affine=_AFFINE),))


def _random_state() -> str:
    return repr((random.getstate(), np.random.get_state()))  # noqa: NPY002  the global one is what is looked at
